// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/takeover"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// sieve stands for the filters of two buses: the counters that they leave, and the frames that they show.
type sieve struct {
	streams map[int]loader.StreamCounts // by slot
	buses   [3]loader.Counts            // by interface slot
	wanted  map[int]loader.StreamCounts // by slot: until when frames are shown
	shown   [3][]loader.RefusedFrame    // by interface slot
	broken  error                       // of the ring that they are shown in
	peek    func()                      // is called before a stream's counts are read
}

func newSieve() *sieve {
	return &sieve{streams: make(map[int]loader.StreamCounts), wanted: make(map[int]loader.StreamCounts)}
}

// StreamCounts implements countedTables.
func (s *sieve) StreamCounts(slot int) loader.StreamCounts {
	if s.peek != nil {
		s.peek()
	}
	return s.streams[slot]
}

// WantFrames implements countedTables.
func (s *sieve) WantFrames(slot int, v loader.Verdict, until uint64) {
	w := s.wanted[slot]
	w[v] = until
	s.wanted[slot] = w
}

// show shows a frame if it is wanted, as the filter does before it counts it.
func (s *sieve) show(t *stream, v loader.Verdict, f loader.RefusedFrame) {
	if !loader.Shown(v) || s.streams[t.slot][v] >= s.wanted[t.slot][v] {
		return
	}
	f.Slot, f.StreamID, f.Iface, f.Verdict = uint32(t.slot), t.ID, uint32(t.Interface.Index), v
	f.Frame.ID = uint32(t.CANID)
	s.shown[f.Iface] = append(s.shown[f.Iface], f)
}

// refuse shows and counts frames for their stream and returns what is left to be counted, as the filter does one after the other.
func (s *sieve) refuse(t *stream, v loader.Verdict, n uint64) (bus func()) {
	for i := range n {
		if i < 2*framesPerLook {
			s.show(t, v, loader.RefusedFrame{})
		}
		c := s.streams[t.slot]
		c[v]++
		s.streams[t.slot] = c
	}
	return func() { s.buses[t.Interface.Index][v] += n }
}

// sieveBus is one of the buses.
type sieveBus struct {
	s    *sieve
	slot uint32
}

func (b sieveBus) Slot() uint32                { return b.slot }
func (b sieveBus) FilterCounts() loader.Counts { return b.s.buses[b.slot] }

func (b sieveBus) TakeRefused(to []loader.RefusedFrame) ([]loader.RefusedFrame, error) {
	to = append(to, b.s.shown[b.slot]...)
	b.s.shown[b.slot] = b.s.shown[b.slot][:0]
	return to, b.s.broken
}

// toldKey is what an event is about.
type toldKey struct {
	subject event.Subject
	kind    kind.Kind
}

func (r *rig) toldCounts(sum map[toldKey]uint64) {
	for _, e := range r.told() {
		sum[toldKey{e.Subject, e.Kind}] += e.Count
	}
}

// refusedOnStreams are the verdicts by which the filter refuses frames of a stream.
func refusedOnStreams() (all []loader.Verdict) {
	for v := loader.PlaintextOnProtected; v <= loader.ControlFull; v++ {
		if Refusing(v) {
			all = append(all, v)
		}
	}
	return all
}

// TestCountedOnce refuses frames of streams and of none, looks at any moment, also between the two counts of a frame, which it shows in either
// order, and has successors go on. Each frame is in one event, of its stream if it has one; those from before the first look are in none.
func TestCountedOnce(t *testing.T) {
	r := newRig(t)
	r.told()
	verdicts := refusedOnStreams()
	if len(verdicts) != 10 {
		t.Fatalf("%d verdicts, want 10", len(verdicts))
	}
	rapid.Check(t, func(t *rapid.T) {
		s, want, got := newSieve(), make(map[toldKey]uint64), make(map[toldKey]uint64)
		for _, b := range r.core.streams { // of an earlier run
			s.refuse(b, loader.Replay, uint64(b.slot+3))()
		}
		s.buses[1][loader.Malformed] += 7
		x := newCounted(s, slog.New(slog.DiscardHandler))
		// What a processor shows on the bus first is there for its stream by the next look, and not at every one.
		var late []func()
		quiet := true
		look := func() {
			for slot := uint32(1); slot <= 2; slot++ {
				x.look(sieveBus{s, slot}, r.now, false, r.core)
			}
			r.toldCounts(got)
			quiet = len(late) == 0
			for _, f := range late {
				f()
			}
			late = nil
		}
		look()
		var flying []func()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			v := rapid.SampledFrom(verdicts).Draw(t, "verdict")
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				i := rapid.IntRange(0, len(r.core.streams)-1).Draw(t, "stream")
				st := r.core.streams[i]
				n := rapid.Uint64Range(1, 1000).Draw(t, "frames")
				want[toldKey{event.Stream(st.Slot), event.OfVerdict(v)}] += n
				if quiet && rapid.Bool().Draw(t, "bus first") {
					s.show(st, v, loader.RefusedFrame{})
					s.buses[st.Interface.Index][v] += n
					late = append(late, func() {
						c := s.streams[st.slot]
						c[v] += n
						s.streams[st.slot] = c
					})
				} else {
					flying = append(flying, s.refuse(st, v, n))
				}
			case 2:
				if len(flying) > 0 {
					i := rapid.IntRange(0, len(flying)-1).Draw(t, "frame")
					flying[i]()
					flying = slices.Delete(flying, i, i+1)
				}
			case 3:
				bus := rapid.IntRange(1, 2).Draw(t, "bus")
				want[toldKey{event.Bus(uint8(bus)), event.OfVerdict(v)}]++
				s.buses[bus][v]++
			case 4:
				look()
			case 5:
				look()
				var state, over takeover.State
				state.Counted, state.Refused = x.handOver(r.core)
				b, err := takeover.Encode(&state)
				if err == nil {
					err = takeover.Decode(b, &over)
				}
				if err != nil {
					t.Fatal(err)
				}
				x = newCounted(s, slog.New(slog.DiscardHandler))
				x.inherit(r.core, &over)
			}
			for k, n := range got {
				if n > want[k] {
					t.Fatalf("%v: %d told, %d refused", k, n, want[k])
				}
			}
		}
		for _, bus := range flying {
			bus()
		}
		for range 2 * restLooks { // what came at the last of them begins anew
			look()
		}
		if !maps.Equal(got, want) {
			t.Fatalf("told %v, want %v", got, want)
		}
		look()
		if !maps.Equal(got, want) {
			t.Fatalf("told again: %v, want %v", got, want)
		}
	})
}

// TestCountedAfterOlderAgent goes on from an agent that has counted for buses alone. What has come since is told, of the bus up to here and of
// the stream from here on.
func TestCountedAfterOlderAgent(t *testing.T) {
	r := newRig(t)
	r.told()
	s, st := newSieve(), r.core.streams[1]
	s.refuse(st, loader.Shed, 5)() // known to it
	state := takeover.State{Counted: []takeover.BusCounts{{Slot: uint32(st.Interface.Index), Counts: slices.Clone(s.buses[st.Interface.Index][:])}}}
	s.buses[st.Interface.Index][loader.Replay] += 3
	s.refuse(st, loader.Shed, 2)()
	x := newCounted(s, slog.New(slog.DiscardHandler))
	x.inherit(r.core, &state)
	s.refuse(st, loader.Replay, 4)()
	for range restLooks {
		x.look(sieveBus{s, uint32(st.Interface.Index)}, r.now, false, r.core)
	}
	got := make(map[toldKey]uint64)
	r.toldCounts(got)
	bus := event.Bus(st.Interface.Index)
	if want := map[toldKey]uint64{{event.Stream(st.Slot), kind.Replay}: 4, {bus, kind.Replay}: 3, {bus, kind.Shed}: 2}; !maps.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// TestCountedLast tells at once what no stream accounts for, where no look follows.
func TestCountedLast(t *testing.T) {
	r := newRig(t)
	r.told()
	s := newSieve()
	x, b := newCounted(s, slog.New(slog.DiscardHandler)), sieveBus{s, 1}
	x.look(b, r.now, false, r.core)
	s.buses[1][loader.Malformed] += 3
	x.look(b, r.now, false, r.core)
	got := make(map[toldKey]uint64)
	if r.toldCounts(got); len(got) != 0 {
		t.Errorf("told %v at the first of %d looks", got, restLooks)
	}
	s.buses[1][loader.Malformed]++
	for range 2 {
		x.look(b, r.now, true, r.core)
	}
	r.toldCounts(got)
	if want := map[toldKey]uint64{{event.Bus(1), kind.Malformed}: 4}; !maps.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// TestCountedFirstLook has frames come in while the first look takes note: they are in one event at most, and of their stream.
func TestCountedFirstLook(t *testing.T) {
	r := newRig(t)
	r.told()
	s := newSieve()
	st := r.core.streams[1]
	s.peek = func() {
		s.peek = nil
		s.refuse(st, loader.Replay, 1)() // behind the reading of the bus, and in front of that of the stream
	}
	x := newCounted(s, slog.New(slog.DiscardHandler))
	b := sieveBus{s, uint32(st.Interface.Index)}
	x.look(b, r.now, false, r.core)
	s.refuse(st, loader.Replay, 4)()
	x.look(b, r.now, false, r.core)
	got := make(map[toldKey]uint64)
	r.toldCounts(got)
	if want := map[toldKey]uint64{{event.Stream(st.Slot), kind.Replay}: 4}; !maps.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// TestCountedAcrossDocuments changes documents: what a stream that ends has counted is told as its own, under the documents that have it; a
// stream in a slot that another one has had begins with taking note.
func TestCountedAcrossDocuments(t *testing.T) {
	r := newWideRig(t)
	s := newSieve()
	x := newCounted(s, slog.New(slog.DiscardHandler))
	b := sieveBus{s, 1}
	x.look(b, r.now, false, r.core)
	aux := testIdentity(t)
	for round := range 3 {
		var records [2]recorder
		var collectors [2]*event.Collector
		cores := []*core{r.core, nil}
		edit := withAux(aux, 0x501)
		if round > 0 {
			edit = func(_ *policy.Policy, b *policy.Binding) {
				i := slices.IndexFunc(b.Nodes, func(n policy.Node) bool { return n.Name == "aux" })
				b.Nodes[i].Streams[0].CANID++ // another part of the binding: all its streams have new slots
			}
		}
		set := edited(t, r.set, edit)
		was, before := r.at, r.set
		r.become(set)
		cores[1] = r.core
		for i, c := range cores {
			c.notes = event.NewTable(event.NewDirectory([]*policy.Set{before, set}[i]))
			collectors[i] = event.NewCollector(event.CollectorOptions{Table: c.notes, Destinations: []event.Destination{&records[i]}})
		}
		for _, st := range cores[1].streams {
			if !slices.Contains(was.slots, st.slot) {
				s.streams[st.slot] = loader.StreamCounts{} // loader.Set.ResetStream
				x.place(st.slot)
			}
		}
		var want [2]map[toldKey]uint64
		for i, c := range cores {
			want[i] = make(map[toldKey]uint64)
			for _, st := range c.onBus[1] {
				if i == 1 && slices.Contains(was.slots, st.slot) {
					continue
				}
				n := uint64(10*st.slot + i + 1)
				s.refuse(st, loader.Replay, n)()
				want[i][toldKey{event.Stream(st.Slot), kind.Replay}] = n
			}
		}
		x.look(b, r.now, false, cores...)
		for i := range cores {
			collectors[i].Flush()
			got := make(map[toldKey]uint64)
			for _, e := range records[i].all {
				got[toldKey{e.Subject, e.Kind}] += e.Count
			}
			if !maps.Equal(got, want[i]) || len(want[i]) == 0 {
				t.Errorf("round %d, documents %d: told %v, want %v", round, i, got, want[i])
			}
		}
	}
}

// TestFloodHidesNoStream floods an identifier of one source, with a few frames of the same kind on one of another source beside it: two
// events with the count of each, and the fault is that of the flooded source alone. The few, if they last, bring up a fault of their own.
func TestFloodHidesNoStream(t *testing.T) {
	for _, v := range []loader.Verdict{loader.Replay, loader.PlaintextOnProtected} {
		t.Run(v.String(), func(t *testing.T) {
			r := newRig(t)
			r.told()
			s := newSieve()
			x, b := newCounted(s, slog.New(slog.DiscardHandler)), sieveBus{s, 1}
			cells, current := r.core.streams[streamOf(t, r.set, 10)], r.core.streams[streamOf(t, r.set, 11)]
			directory := event.NewDirectory(r.set)
			machine, records := fault.New(directory), &recorder{}
			r.core.notes = event.NewTable(directory)
			var raised []string
			note := func(all []fault.Transition) {
				for _, x := range all {
					if x.To >= fault.Raised {
						raised = append(raised, x.Name)
					}
				}
			}
			collector := event.NewCollector(event.CollectorOptions{
				Table: r.core.notes, Clock: logClock{r}, Destinations: []event.Destination{records}, Facts: func(f []event.Fact) { note(machine.Take(f)) },
			})
			x.look(b, r.now, false, r.core)
			turn := func(flood, few uint64) {
				if flood > 0 {
					s.refuse(cells, v, flood)()
				}
				if few > 0 {
					s.refuse(current, v, few)()
				}
				r.now += int64(monitorPoll)
				x.look(b, r.now, false, r.core)
				collector.Flush()
				note(machine.Advance(r.now))
			}
			for range 50 {
				turn(800, 0)
			}
			turn(800, 2)
			k := event.OfVerdict(v)
			sum := make(map[toldKey]uint64)
			for _, e := range records.all {
				sum[toldKey{e.Subject, e.Kind}] += e.Count
			}
			want := map[toldKey]uint64{{event.Stream(cells.Slot), k}: 51 * 800, {event.Stream(current.Slot), k}: 2}
			if !maps.Equal(sum, want) {
				t.Errorf("told %v, want %v", sum, want)
			}
			if !slices.Contains(raised, "cells") || slices.Contains(raised, "current") {
				t.Errorf("faults of %v, want one of cells alone", raised)
			}
			for _, f := range machine.Views() {
				if f.Name != "cells" && f.Advice != "" {
					t.Errorf("%s cannot be trusted: %s", f.Name, f.Advice)
				}
			}
			for range 300 {
				turn(800, 40)
			}
			if !slices.Contains(raised, "current") {
				t.Errorf("faults of %v, and current is attacked as well", raised)
			}
		})
	}
}

// streamOf returns the position of a stream in a set.
func streamOf(t testing.TB, set *policy.Set, id uint32) int {
	t.Helper()
	s, ok := set.Stream(id)
	if !ok {
		t.Fatal(fmt.Errorf("no stream %d", id))
	}
	return s.Slot
}

// A look allocates nothing, whether anything has come or not.
func TestCountedAllocates(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	r := newRig(t)
	s := newSieve()
	s.streams[r.core.streams[1].slot] = loader.StreamCounts{}
	x := newCounted(s, slog.New(slog.DiscardHandler))
	var b countedBus = sieveBus{s, 1}
	x.look(b, r.now, false, r.core)
	if n := testing.AllocsPerRun(100, func() {
		s.refuse(r.core.streams[1], loader.Replay, 1)
		s.buses[1][loader.Replay]++
		x.look(b, r.now, false, r.core)
		x.look(b, r.now, false, r.core)
	}); n > 1 { // the closure of refuse
		t.Errorf("%v allocations", n)
	}
}

// shownReplay is a sealed frame with a counter, as the filter shows it.
func shownReplay(counter uint64, at int64) loader.RefusedFrame {
	f := loader.RefusedFrame{TimeNS: uint64(at), Epoch: 5}
	f.Frame.Len, f.Frame.Flags = 32, loader.CANFDFDF
	spdu.Header{Kind: spdu.KindSample, EpochLow: 5, Counter: counter}.Put(f.Frame.Data[:])
	return f
}

// TestRefusedFrames shows frames with what they are counted as: the event has one of them, with its counter, epoch and time, and the table the
// first few. How many there were the counters say, whatever is shown.
func TestRefusedFrames(t *testing.T) {
	var log strings.Builder
	r := newRig(t)
	r.told()
	s := newSieve()
	x := newCounted(s, slog.New(slog.NewJSONHandler(&log, nil)))
	st := r.core.streams[1]
	b := sieveBus{s, uint32(st.Interface.Index)}
	look := func() (all []event.Record) {
		x.look(b, r.now, false, r.core)
		return slices.DeleteFunc(r.told(), func(e event.Record) bool { return e.Subject == event.Bus(uint8(b.slot)) })
	}
	one := func(what string, all []event.Record, count uint64) event.Record {
		t.Helper()
		if len(all) != 1 || all[0].Kind != kind.Replay || all[0].Subject != event.Stream(st.Slot) || all[0].Count != count {
			t.Fatalf("%s: told %+v", what, all)
		}
		return all[0]
	}
	replay := func(counter uint64) {
		s.show(st, loader.Replay, shownReplay(counter, r.now-int64(1000-counter)))
		c := s.streams[st.slot]
		c[loader.Replay]++
		s.streams[st.slot] = c
		s.buses[b.slot][loader.Replay]++
	}

	before := shownReplay(1, r.now)
	before.Slot, before.StreamID, before.Iface, before.Verdict = uint32(st.slot), st.ID, b.slot, loader.Replay
	s.shown[b.slot] = append(s.shown[b.slot], before)
	if all := look(); len(all) != 0 || len(x.shown.frames) != 0 {
		t.Fatalf("the first look tells %v", all)
	}
	for i := range uint64(10) {
		replay(100 + i)
	}
	e := one("ten", look(), 10)
	if e.Frame == nil || e.Frame.ID != uint32(st.CANID) || e.Counter != 100 || e.LastCounter != 103 || e.Epoch != 5 || e.First.Boot != r.now-900 || e.Last.Boot != r.now {
		t.Errorf("ten: %+v", e)
	}
	kept := r.core.notes.Frames()
	if len(kept) != framesPerLook {
		t.Errorf("%d frames are kept, want %d", len(kept), framesPerLook)
	}

	// A frame that is there before its count waits for that, and no longer.
	s.show(st, loader.Replay, shownReplay(200, r.now))
	c := s.streams[st.slot]
	c[loader.TooOld]++
	s.streams[st.slot] = c
	s.buses[b.slot][loader.TooOld]++
	if all := look(); len(all) != 1 || all[0].Kind != kind.TooOld || all[0].Frame != nil {
		t.Fatalf("another verdict: %+v", all)
	}
	c[loader.Replay]++
	s.streams[st.slot] = c
	s.buses[b.slot][loader.Replay]++
	if e := one("the late count", look(), 1); e.Frame == nil || e.Counter != 200 || e.LastCounter != 200 {
		t.Errorf("the late count: %+v", e)
	}
	s.show(st, loader.Replay, shownReplay(300, r.now))
	for range 2 {
		s.buses[b.slot][loader.TooOld]++ // of no stream: looked at, and not told yet
		look()
	}
	if len(x.shown.frames) != 0 {
		t.Errorf("what is never counted is kept: %+v", x.shown.frames)
	}

	// More than were counted, and those of who has had the slot before.
	stranger := shownReplay(400, r.now)
	stranger.Slot, stranger.StreamID, stranger.Iface, stranger.Verdict = uint32(st.slot), st.ID+1000, b.slot, loader.Replay
	s.shown[b.slot] = append(s.shown[b.slot], stranger)
	s.show(st, loader.Replay, shownReplay(401, r.now))
	replay(402)
	if e := one("one of two", look(), 1); e.Counter != 401 {
		t.Errorf("one of two: %+v", e)
	}

	// A ring that cannot be read is said once and takes no count away.
	s.broken = loader.ErrRingCorrupt
	for range 3 {
		s.shown[b.slot] = nil
		s.streams[st.slot] = func(c loader.StreamCounts) loader.StreamCounts { c[loader.Replay] += 3; return c }(s.streams[st.slot])
		s.buses[b.slot][loader.Replay] += 3
		one("broken", look(), 3)
	}
	if n := strings.Count(log.String(), "refused_frames_unreadable"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
}
