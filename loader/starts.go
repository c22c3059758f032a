// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"structs"
	"sync/atomic"
)

// Start is one run of a node within an epoch: its random bytes and F, the first counter that it uses.
type Start struct {
	First  uint64 // 0: none
	Random [16]byte
}

// Epoch returns the starts that belong to slot i of the node's [EpochTable].
func (t *StartTable) Epoch(i int) *EpochStarts { return &t.epoch[i] }

// EpochStarts is the newest two starts of one epoch (struct cw_epoch_starts).
type EpochStarts struct {
	_     structs.HostLayout
	epoch atomic.Uint64
	known [2]struct {
		_      structs.HostLayout
		first  atomic.Uint64
		random [2]atomic.Uint64
	}
	_ uint64
}

// Reset empties the entry and gives it to epoch (0: to none). The owner's name goes first and comes last, so
// that a process killed in between leaves an entry of no epoch and not one with another epoch's starts.
func (s *EpochStarts) Reset(epoch uint32) {
	s.epoch.Store(0)
	for i := range s.known {
		s.known[i].first.Store(0)
	}
	s.epoch.Store(uint64(epoch))
}

// Owner returns the epoch that the starts belong to, 0 for none.
func (s *EpochStarts) Owner() uint32 { return uint32(s.epoch.Load()) }

// Put adds a start, in place of the one with the lower First if there are two. A start is empty while it is
// written: a process killed in between leaves one start fewer, which the node announces again every second,
// and never a start with half of another's random bytes, under which no sample would verify.
func (s *EpochStarts) Put(start Start) {
	k := &s.known[0]
	if s.known[1].first.Load() < k.first.Load() {
		k = &s.known[1]
	}
	k.first.Store(0)
	k.random[0].Store(binary.LittleEndian.Uint64(start.Random[:8]))
	k.random[1].Store(binary.LittleEndian.Uint64(start.Random[8:]))
	k.first.Store(start.First)
}

// Known returns the starts, newest first; an entry with First 0 is empty.
func (s *EpochStarts) Known() (starts [2]Start) {
	for i := range s.known {
		k := &s.known[i]
		starts[i].First = k.first.Load()
		if starts[i].First == 0 {
			continue
		}
		binary.LittleEndian.PutUint64(starts[i].Random[:8], k.random[0].Load())
		binary.LittleEndian.PutUint64(starts[i].Random[8:], k.random[1].Load())
	}
	if starts[0].First < starts[1].First {
		starts[0], starts[1] = starts[1], starts[0]
	}
	return starts
}
