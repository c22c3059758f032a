// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/subtle"
	"fmt"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
	"github.com/cellward/cellward/crypto/spdu"
)

// startRecordSize is a start record on CAN FD with stream id and epoch in front.
const startRecordSize = spdu.PrefixSize + 48

// liveEpoch is an epoch under which frames of one node are accepted, with one key per known start and source.
type liveEpoch struct {
	state *epoch.Epoch
	// slot is where the epoch stands in the filter's table and in the pinned starts.
	slot int
	// mac authenticates the start records of this epoch.
	mac *secretmem.Box[schedule.StartKey]
	// starts are ascending by F.
	starts []*liveStart
	// promoted is when the first frame verified under this epoch in this process, in ns of CLOCK_BOOTTIME; 0: none has.
	promoted int64
	// ageAtLoad and loaded (ns of CLOCK_BOOTTIME) let the key age even while the wall clock is put back.
	ageAtLoad int64
	loaded    int64
	// frames have verified under the epoch in this process, failed named it and had a wrong tag.
	frames uint64
	failed uint64
}

// liveStart holds the traffic keys of one run of a node, by the node's own index of sources, and what its start records
// look like, by the node's own index of heartbeat streams.
type liveStart struct {
	epoch.Start
	keys    []*aead.Key
	records [][startRecordSize]byte
}

func newLiveEpoch(engine aead.Engine, e *epoch.Epoch, slot int, n *node) (*liveEpoch, error) {
	mac, err := secretmem.NewBox[schedule.StartKey](e.PRK.Arena())
	if err != nil {
		return nil, fmt.Errorf("keep start key of epoch %d of node %s: %w", e.Number, n.name, err)
	}
	l := &liveEpoch{state: e, slot: slot, mac: mac}
	if err := schedule.Start(e.PRK.Get(), e.Number, mac.Get()); err != nil {
		l.wipe()
		return nil, fmt.Errorf("epoch %d of node %s: %w", e.Number, n.name, err)
	}
	for _, s := range e.Starts {
		ls, err := l.derive(engine, s, n)
		if err != nil {
			l.wipe()
			return nil, err
		}
		l.starts = append(l.starts, ls)
	}
	return l, nil
}

// derive makes the keys of one run.
func (l *liveEpoch) derive(engine aead.Engine, s epoch.Start, n *node) (*liveStart, error) {
	ls := &liveStart{Start: s}
	for _, source := range n.sources {
		key, err := l.trafficKey(engine, s, source)
		if err != nil {
			ls.wipe()
			return nil, fmt.Errorf("epoch %d of node %s, source %d: %w", l.state.Number, n.name, source, err)
		}
		ls.keys = append(ls.keys, key)
	}
	ls.records = make([][startRecordSize]byte, len(n.heartbeats))
	for i, stream := range n.heartbeats {
		id := spdu.ID{Stream: stream, Epoch: l.state.Number, Counter: s.F}
		if _, err := spdu.PutStart(ls.records[i][:], spdu.FormFD, id, &s.Random, l.mac.Get()); err != nil {
			ls.wipe()
			return nil, fmt.Errorf("epoch %d of node %s: %w", l.state.Number, n.name, err)
		}
	}
	return ls, nil
}

// trafficKey expands the key of one source, which lies in no other memory than the engine's afterwards.
func (l *liveEpoch) trafficKey(engine aead.Engine, s epoch.Start, source uint32) (key *aead.Key, err error) {
	secretmem.Do(func() {
		tk := new(schedule.TrafficKey)
		defer tk.Wipe()
		if err = schedule.Traffic(l.state.PRK.Get(), source, l.state.Number, &s.Random, tk); err == nil {
			key, err = engine.NewKey(&tk.Key, &tk.IV)
		}
	})
	return key, err
}

// startFor returns the one start to try for a counter: the greatest F that is not above it; nil: none is known.
func (l *liveEpoch) startFor(counter uint64) *liveStart {
	for i := len(l.starts) - 1; i >= 0; i-- {
		if l.starts[i].F <= counter {
			return l.starts[i]
		}
	}
	return nil
}

// knows recognises the record of a start already taken by comparing all of it with what that record must be. So an altered
// copy is never taken for the known one, and a copy costs no HMAC.
func (l *liveEpoch) knows(record []byte) bool {
	known := 0
	for _, s := range l.starts {
		for i := range s.records {
			known |= subtle.ConstantTimeCompare(s.records[i][:], record)
		}
	}
	return known == 1
}

// add takes a start that was verified and lies above every known one; the oldest makes room.
func (l *liveEpoch) add(s *liveStart) {
	if len(l.starts) == epoch.KnownStarts {
		l.starts[0].wipe()
		l.starts = append(l.starts[:0], l.starts[1:]...)
	}
	l.starts = append(l.starts, s)
	l.state.AddStart(s.Start)
}

// age is the larger of the wall clock's and the running clock's: the wall clock can end a key early, never keep it alive.
func (l *liveEpoch) age(now, wall int64) int64 {
	return max(wall-l.state.Agreed*1e9, l.ageAtLoad+now-l.loaded)
}

func (l *liveEpoch) wipe() {
	l.mac.Free()
	for _, s := range l.starts {
		s.wipe()
	}
	l.starts = nil
}

func (s *liveStart) wipe() {
	for _, k := range s.keys {
		k.Wipe()
	}
	s.keys = nil
}
