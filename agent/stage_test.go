// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// processPlainly is process as the rules have it, one frame after another: find, the tag, verified, account. It knows no lanes.
func (c *core) processPlainly(batch []loader.Record, again bool) error {
	var jobs []job
	var ops []aead.Op
	count := func(v loader.Verdict) { c.count(batch[0].Iface(), v) }
	for _, r := range batch {
		var j job
		op := aead.Op{Dst: make([]byte, maxText)}
		if v := c.find(r, again, &j, &op); v != loader.Candidate {
			count(v)
			continue
		}
		jobs, ops = append(jobs, j), append(ops, op)
	}
	c.engine.Open(ops)
	var samples []ring.Sample
	var owners []*stream
	for i := range ops {
		op, j := &ops[i], &jobs[i]
		if !op.OK {
			count(loader.BadTag)
			continue
		}
		verdict, body, sourceTime := c.verified(j, op.Dst[:op.N], again)
		count(verdict)
		if verdict != loader.Accepted || j.stream.heartbeat {
			continue
		}
		x := ring.Sample{
			Stream: uint32(j.stream.Slot), Epoch: j.live.state.Number, Counter: j.counter, SourceTime: sourceTime, ReceiveTime: j.time, Body: body,
		}
		if j.gapBefore() {
			x.Flags |= ring.FlagGapBefore
		}
		if j.live.state.Number > j.stream.epoch {
			x.Flags |= ring.FlagFirstOfEpoch
		}
		c.account(j)
		samples, owners = append(samples, x), append(owners, j.stream)
	}
	for i, s := range owners {
		x := &samples[i]
		found := s.times.Sample(x.Counter, x.SourceTime, x.ReceiveTime, x.Body)
		x.Flags |= s.flags | c.found(s, x.Counter, x.Epoch, x.ReceiveTime, found)
	}
	if err := c.out.(*published).Append(samples); err != nil {
		return err
	}
	for _, s := range owners {
		s.shared.Published.Store(s.shared.Published.Load() + 1)
	}
	return nil
}

// twoCores is the core and a second one that goes by processPlainly, over tables of their own, which start from the same state.
type twoCores struct {
	rt    *rapid.T
	rigs  [2]*rig
	batch []loader.Record
	time  int64 // of the latest record
	// orderly counts the batches that were committed as such.
	orderly int
}

// newTwoCores makes a node with epochs 1 and 2, each with two starts.
func newTwoCores(t *testing.T, rt *rapid.T) *twoCores {
	first := &rig{t: t, set: testSet(t), state: epoch.New(), sink: &published{}, vault: &memoryVault{}, now: 1e9}
	first.clearTables()
	first.agree(1, 1)
	e := first.state.Nodes[0].Epochs[0]
	second := *e
	prk, err := first.state.Keep(&schedule.PRK{7})
	if err != nil {
		rt.Fatal(err)
	}
	second.Number, second.PRK, second.Base = 2, prk, 5000
	second.Starts = []epoch.Start{{F: 5000, Random: [16]byte{1}}, {F: 5400, Random: [16]byte{2}}}
	e.Starts = append(e.Starts, epoch.Start{F: 700, Random: [16]byte{3}})
	first.state.Nodes[0].Floor = 2
	if err := first.state.Nodes[0].Agree(&second, 0); err != nil {
		rt.Fatal(err)
	}
	first.persist()
	state, missing, surplus, err := epoch.Decode(first.disk.State, first.disk.Secrets)
	if err != nil || len(missing)+len(surplus) > 0 {
		rt.Fatalf("decode state: %v, missing %v, surplus %v", err, missing, surplus)
	}
	other := &rig{t: t, set: first.set, state: state, sink: &published{}, vault: &memoryVault{}, now: first.now}
	other.clearTables()
	x := &twoCores{rt: rt, rigs: [2]*rig{first, other}}
	for _, r := range x.rigs {
		if refused := r.boot(true); len(refused) > 0 {
			rt.Fatalf("refused: %v", refused)
		}
	}
	return x
}

// record seals a frame as drawn, most often the next one of its stream, and lays it down as the filter does.
func (x *twoCores) record() loader.Record {
	rt, r := x.rt, x.rigs[0]
	if len(x.batch) > 0 && rapid.IntRange(0, 9).Draw(rt, "again") == 0 {
		return bytes.Clone(rapid.SampledFrom(x.batch).Draw(rt, "copy of"))
	}
	s := rapid.SampledFrom(r.core.streams).Draw(rt, "stream")
	highest := s.window.Highest()
	for _, b := range x.batch {
		if b.StreamID() == s.ID {
			highest = max(highest, binary.LittleEndian.Uint64(b.SPDU())>>16)
		}
	}
	counter := highest + 1
	switch rapid.IntRange(0, 11).Draw(rt, "counter") {
	case 0:
		counter += rapid.Uint64Range(1, 70).Draw(rt, "ahead")
	case 1:
		counter -= min(counter, rapid.Uint64Range(1, 1200).Draw(rt, "behind"))
	case 2:
		counter = rapid.SampledFrom([]uint64{0, 1, 2, 31, 32, 699, 700, 701, 4999, 5000, 5001, 5399, 5400, 5500, 5000 + 1<<32, 5001 + 1<<32}).Draw(rt, "place")
	}
	live := rapid.SampledFrom(s.node.live).Draw(rt, "epoch")
	b := x.lay(s)
	n := x.plaintext(b[24:], s, spdu.ID{Stream: s.ID, Epoch: live.state.Number, Counter: max(counter, 1)})
	header := binary.LittleEndian.Uint64(b[32:])
	binary.LittleEndian.PutUint64(b[32:], header&0xFFFF|counter<<16)
	if rapid.IntRange(0, 19).Draw(rt, "pad") == 0 {
		b[24+n-spdu.TagSize-1] ^= 1 // in the padding, or the last byte of the body
	}
	x.seal(b, n, s, live, counter)
	switch rapid.IntRange(0, 19).Draw(rt, "forged") {
	case 0, 1:
		i := rapid.IntRange(8*32, 8*(24+n)-1).Draw(rt, "bit")
		b[i/8] ^= 1 << (i % 8)
	case 2: // another slot, interface, stream or epoch
		i := rapid.SampledFrom([]int{8, 20, 24, 28}).Draw(rt, "field")
		b[i] = byte(rapid.IntRange(0, 2).Draw(rt, "value"))
	}
	return b
}

// plaintext lays down what a frame of the stream carries and returns the length of the record.
func (x *twoCores) plaintext(record []byte, s *stream, id spdu.ID) int {
	rt := x.rt
	if !s.heartbeat {
		body := rapid.SliceOfN(rapid.Byte(), 0, 36).Draw(rt, "body")
		n, err := spdu.PutSample(record, spdu.FormFD, id, rapid.Uint32().Draw(rt, "source time"), body)
		if err != nil {
			rt.Fatal(err)
		}
		return n
	}
	var entries []spdu.Entry
	for range rapid.IntRange(1, spdu.MaxEntriesFD).Draw(rt, "entries") {
		t := rapid.SampledFrom(s.node.streams).Draw(rt, "named")
		if t.heartbeat && rapid.IntRange(0, 5).Draw(rt, "honest") != 0 {
			continue
		}
		entries = append(entries, spdu.Entry{Stream: t.ID, Next: t.window.Highest() + rapid.Uint64Range(1, 12).Draw(rt, "next")})
	}
	if len(entries) == 0 {
		entries = append(entries, spdu.Entry{Stream: 10, Next: 1})
	}
	n, err := spdu.PutHeartbeat(record, spdu.FormFD, id, entries)
	if err != nil {
		rt.Fatal(err)
	}
	return n
}

// inOrder takes the next frames of all sample streams in turn, as an honest node sends them under its newest epoch.
func (x *twoCores) inOrder(size int) {
	r := x.rigs[0]
	next := make(map[*stream]uint64)
	for i := range size {
		s := r.core.streams[i%len(r.core.streams)]
		if s.heartbeat {
			continue
		}
		live := s.node.live[len(s.node.live)-1]
		counter := max(next[s], s.window.Highest()+1, live.starts[len(live.starts)-1].F)
		if s.epoch < live.state.Number && i%7 != 0 {
			// Some streams go on under the old epoch for a while.
			live = s.node.live[0]
			counter = max(next[s], s.window.Highest()+1)
		}
		next[s] = counter + 1
		b := x.lay(s)
		n := x.plaintext(b[24:], s, spdu.ID{Stream: s.ID, Epoch: live.state.Number, Counter: counter})
		x.seal(b, n, s, live, counter)
		x.batch = append(x.batch, b)
	}
	if len(x.batch) > 0 {
		x.feed(false)
	}
}

// lay makes a record of a stream whose sealed PDU is still to come.
func (x *twoCores) lay(s *stream) loader.Record {
	b := make([]byte, 96)
	// Most often one behind the other.
	if now := x.rigs[0].now; x.time < now || rapid.IntRange(0, 199).Draw(x.rt, "out of time") == 137 {
		x.time = now + rapid.Int64Range(0, 1e6).Draw(x.rt, "time")
	} else {
		x.time += rapid.Int64Range(0, 1e3).Draw(x.rt, "step")
	}
	binary.LittleEndian.PutUint64(b, uint64(x.time))
	binary.LittleEndian.PutUint32(b[8:], uint32(s.slot))
	b[18] = byte(loader.CarrierCANFD)
	binary.LittleEndian.PutUint32(b[20:], uint32(s.Interface.Index))
	return b
}

// seal seals n bytes of a record under the start that the counter belongs to, if there is one.
func (x *twoCores) seal(b loader.Record, n int, s *stream, live *liveEpoch, counter uint64) {
	binary.LittleEndian.PutUint16(b[16:], uint16(n-spdu.PrefixSize))
	if start := live.startFor(counter); start != nil {
		if err := x.rigs[0].core.engine.Seal([]aead.Op{{Key: start.keys[s.source], Record: b[24 : 24+n]}}); err != nil {
			x.rt.Fatal(err)
		}
	}
}

// feed takes the same records through both cores.
func (x *twoCores) feed(again bool) {
	var errs [2]error
	accepted := x.rigs[0].verdicts()[loader.Accepted]
	errs[0] = x.rigs[0].core.process(x.batch, again)
	errs[1] = x.rigs[1].core.processPlainly(x.batch, again)
	if errs[0] != nil || errs[1] != nil {
		x.rt.Fatal(errs)
	}
	if c := x.rigs[0].core; c.inOrder && x.rigs[0].verdicts()[loader.Accepted]-accepted == uint64(len(x.batch)) {
		x.orderly++
	}
	x.batch = x.batch[:0]
}

// over says that the node has no epoch left: a counter at the end of its range has used up the key.
func (x *twoCores) over() bool { return len(x.rigs[0].core.nodes[0].live) == 0 }

// start has the node announce a start of epoch 2 above everything that it has used.
func (x *twoCores) start() {
	r := x.rigs[0]
	n := r.core.nodes[0]
	i := slices.IndexFunc(r.core.streams, func(s *stream) bool { return s.heartbeat })
	l := n.live[len(n.live)-1]
	first := max(n.verified, l.starts[len(l.starts)-1].F) + rapid.Uint64Range(1, 100).Draw(x.rt, "skipped")
	b := make([]byte, 96)
	binary.LittleEndian.PutUint32(b[8:], uint32(i))
	binary.LittleEndian.PutUint16(b[16:], 48)
	binary.LittleEndian.PutUint32(b[20:], uint32(r.core.streams[i].Interface.Index))
	random := [16]byte{byte(first), byte(first >> 8)}
	id := spdu.ID{Stream: r.core.streams[i].ID, Epoch: l.state.Number, Counter: first}
	if _, err := spdu.PutStart(b[24:], spdu.FormFD, id, &random, l.mac.Get()); err != nil {
		x.rt.Fatal(err)
	}
	for _, r := range x.rigs {
		r.core.startRecords([]loader.Record{b}, r.now)
	}
}

// streamView is what is known of a stream, in a form that can be compared.
type streamView struct {
	Words                              [replay.WordCount]uint64
	Hint, Committed, Published         uint64
	Highest, Lowest                    uint64
	Epoch                              uint32
	Missing, Deleted, Corrected        uint64
	Deadline                           int64
	Wanted, Durable                    uint64
	Verified, HighestVerified, Expired uint64
}

func (r *rig) view() (all []streamView) {
	for _, s := range r.core.streams {
		v := streamView{
			Words: s.shared.Words, Hint: s.shared.HighestHint.Load(), Committed: s.shared.Committed.Load(), Published: s.shared.Published.Load(),
			Highest: s.window.Highest(), Lowest: s.lowest, Epoch: s.epoch,
			Missing: s.gaps.Missing(), Deleted: s.gaps.Deleted(), Corrected: s.gaps.Corrected(),
			Wanted: r.core.ceilings.wanted[s.Slot], Durable: r.core.ceilings.durable[s.Slot].Load(),
			Verified: s.node.verified, HighestVerified: s.node.known.HighestVerified.Load(), Expired: uint64(len(s.node.live)),
		}
		v.Deadline, _ = s.gaps.NextDeadline()
		all = append(all, v)
	}
	return all
}

type reportView struct {
	Kind        kind.Kind
	Stream      uint32
	First, Last uint64
	Count       uint64
}

func (r *rig) reports() (all []reportView) {
	for _, e := range r.told(kind.Deletion, kind.TailLoss, kind.KeyPromoted) {
		all = append(all, reportView{e.Kind, e.Stream, e.Counter, e.LastCounter, e.Count})
	}
	return all
}

func (x *twoCores) compare() {
	a, b := x.rigs[0], x.rigs[1]
	for _, c := range []struct {
		name string
		a, b any
	}{
		{"verdicts", a.verdicts(), b.verdicts()},
		{"samples", a.sink.samples, b.sink.samples},
		{"streams", a.view(), b.view()},
		{"deletions", a.reports(), b.reports()},
		{"soon, dirty", []bool{a.core.ceilings.soon, a.core.dirty}, []bool{b.core.ceilings.soon, b.core.dirty}},
	} {
		if !reflect.DeepEqual(c.a, c.b) {
			x.rt.Fatalf("%s differ:\n%+v\nby the rules:\n%+v", c.name, c.a, c.b)
		}
	}
}

// TestStageGoesByTheRules takes random batches through the stage and, one frame after another, through the rules: copies within
// a batch, streams, epochs and runs mixed, wrong tags, wrong plaintexts, heartbeats, gaps, a disk that is full. Whatever can be
// seen of the two is the same.
func TestStageGoesByTheRules(t *testing.T) {
	var total loader.Counts
	lanes, inOrder := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		x := newTwoCores(t, rt)
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) { x.rt = rt; x.compare() },
			"batch": func(rt *rapid.T) {
				if x.rt = rt; x.over() {
					return
				}
				for range rapid.IntRange(1, BatchSize).Draw(rt, "size") {
					x.batch = append(x.batch, x.record())
				}
				x.feed(rapid.IntRange(0, 7).Draw(rt, "reread") == 0)
			},
			"in order": func(rt *rapid.T) { // frames of every day, on which lanes live
				if x.rt = rt; x.over() {
					return
				}
				x.inOrder(rapid.IntRange(1, BatchSize).Draw(rt, "size"))
			},
			"tick": func(rt *rapid.T) {
				step := rapid.SampledFrom([]int64{1e6, 1e9, 3e9, 6e9}).Draw(rt, "step")
				for _, r := range x.rigs {
					r.now += step
					r.core.tick(r.now, time.Now().UnixNano(), int64(33*24*time.Hour))
				}
			},
			"start": func(rt *rapid.T) {
				if x.rt = rt; !x.over() {
					x.start()
				}
			},
			"disk": func(rt *rapid.T) {
				full := rapid.Bool().Draw(rt, "full")
				for _, r := range x.rigs {
					r.diskFull = full
					if !full && r.core.ceilings.soon {
						r.core.ceilings.soon = false
						r.core.ceilings.save()
					}
				}
			},
		})
		for v, n := range x.rigs[0].verdicts() {
			total[v] += n
		}
		for _, s := range x.rigs[0].core.streams {
			if s.lane.easy > s.window.Highest() {
				lanes++
			}
		}
		inOrder += x.orderly
	})
	if lanes == 0 {
		t.Error("no stream came to have a lane")
	}
	if inOrder == 0 {
		t.Error("no batch was in order")
	}
	t.Logf("%d batches in order", inOrder)
	for _, v := range []loader.Verdict{
		loader.Accepted, loader.BadTag, loader.BadPlaintext, loader.AgentReplay, loader.AgentTooOld, loader.Reread, loader.Downgrade,
		loader.NotDurable, loader.NoStart, loader.AgentUnknownStream, loader.AgentUnknownEpoch, loader.AgentCounterRange, loader.StartAccepted,
	} {
		if total[v] == 0 {
			t.Errorf("%v never came up", v)
		}
	}
}
