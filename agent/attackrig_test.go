// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// begin is when the log time of these tests begins, on CLOCK_BOOTTIME.
const logBegin = int64(100e9)

// capture is a recorded bus: its periodic identifiers, and the frames on them.
type capture struct {
	name   string
	length int64 // ns
	sum    []trace.StreamSummary
	frames []trace.Frame
}

// openCapture reads a capture of ../shared/data, or skips the test where it is absent.
func openCapture(t testing.TB, name string) *capture {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "data", "can", name)
	src, err := trace.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join("..", "..", "shared", "data")); err == nil {
			t.Fatalf("../shared/data is here, and can/%s is not in it", name)
		}
		t.Skip("real captures are not here: ../shared/data is absent")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	c := &capture{name: name}
	var all []trace.Frame
	for {
		var f trace.Frame
		if err := src.Next(&f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if !f.Error && !f.RTR {
			all = append(all, f)
		}
	}
	sum, err := trace.Summarize(&frameList{all: all})
	if err != nil {
		t.Fatal(err)
	}
	c.length = sum.Last - sum.First
	known := make(map[uint32]bool)
	for _, s := range sum.Streams {
		// What is sent by request, or when something happens, has no sampling rate.
		const diagnostic = 0x7E0 // to 0x7EF (ISO 15765-4)
		if s.Bus != sum.Buses[0] || s.Extended || s.ID&^0xF == diagnostic || s.Count < 4 || s.Period <= 0 {
			continue
		}
		s.Period = min(s.Period, time.Duration(c.length/int64(s.Count)))
		gap := longest(all, sum.First, c.length, func(f *trace.Frame) bool { return f.Key() == s.StreamKey })
		if gap < max(int64(s.Period)*6/5, int64(450*time.Millisecond)) {
			c.sum = append(c.sum, s)
			known[s.ID] = true
		}
	}
	// The capture has lost frames itself, and so some parts of the array for more than a turn: those get a number that is not expected.
	whole := make(map[byte]bool)
	for part := range byte(muxParts) {
		gap := longest(all, sum.First, c.length, func(f *trace.Frame) bool { return f.ID == muxID && f.Data[0] == part })
		whole[part] = gap > 0 && gap < muxParts*int64(130*time.Millisecond)
	}
	for _, f := range all {
		if f.Bus == sum.Buses[0] && known[f.ID] {
			if f.ID == muxID && !whole[f.Data[0]] {
				f.Data[0] = 0xFF
			}
			f.Time -= sum.First
			c.frames = append(c.frames, f)
		}
	}
	return c
}

// longest is the longest time between two frames that are wanted when the capture is played over and over.
func longest(all []trace.Frame, first, length int64, want func(*trace.Frame) bool) (gap int64) {
	last := int64(-1)
	for i := range 2 * len(all) {
		f := &all[i%len(all)]
		if !want(f) {
			continue
		}
		at := f.Time - first + int64(i/len(all))*(length+seam)
		if last >= 0 {
			gap = max(gap, at-last)
		}
		last = at
	}
	return gap
}

// seam is the time between two rounds of a capture.
const seam = int64(10 * time.Millisecond)

type frameList struct {
	all []trace.Frame
	n   int
}

func (l *frameList) Next(f *trace.Frame) error {
	if l.n == len(l.all) {
		return io.EOF
	}
	*f = l.all[l.n]
	l.n++
	return nil
}

// muxID is the identifier of the Tesla capture whose first byte numbers 32 parts of an array.
const (
	muxID    = 0x6F2
	muxParts = 32
)

// documents are those of a node that sends what a capture has.
func (c *capture) documents(t testing.TB, change func(*policy.Binding)) *policy.Set {
	t.Helper()
	p, err := policy.ParsePolicy("test", []byte(testPolicy))
	if err != nil {
		t.Fatal(err)
	}
	b := testSet(t).Binding
	b.Interfaces = b.Interfaces[:1]
	n := &b.Nodes[0]
	n.Heartbeats = n.Heartbeats[:1]
	n.Heartbeats[0].CANID = 0x7FE
	n.Streams = nil
	for i, s := range c.sum {
		x := policy.Stream{
			StreamID: uint32(10 + i), Interface: "can0", CANID: policy.CANID(s.ID), Source: []string{"cells", "current"}[i%2],
			SamplingRate: policy.RateOf(s.Period),
		}
		if s.ID == muxID {
			x.Signals = []policy.Signal{{Name: "part", Length: 8, ByteOrder: policy.LittleEndian, Scale: 1}}
			for v := range uint32(muxParts) {
				x.Signals = append(x.Signals, policy.Signal{
					Name: fmt.Sprintf("cell%d", v), StartBit: 8, Length: 14, ByteOrder: policy.LittleEndian, Scale: 1,
					Multiplexor: &policy.Multiplexor{Signal: "part", Values: []uint32{v}},
				})
			}
		}
		n.Streams = append(n.Streams, x)
	}
	change(b)
	return bound(t, p, b)
}

// timed is a sealed frame on its way. sealed is when it was put on the bus by its node, at when it comes.
type timed struct {
	at, sealed int64
	sent
	counter uint64
	mux     int // of a sample of muxID, else -1
	kind    spdu.Kind
	forged  bool
}

// logClock is the clock of the collector.
type logClock struct{ r *rig }

func (c logClock) Now() event.Instant { return event.Instant{Boot: c.r.now, Wall: c.r.now} }

// noticed is when so many events of a kind had been counted.
type noticed struct {
	at    int64
	count uint64
}

// siege is a gateway in log time: core, events and faults, without kernel or files.
type siege struct {
	*rig
	c       *capture
	machine *fault.Machine
	seen    map[kind.Kind][]noticed
	// subjects are those of which there were events of a kind.
	subjects map[kind.Kind]map[event.Subject]bool
	faultAt  int64
	states   ring.FaultState
	tickAt   int64
	turnAt   int64
	byID     map[uint32]policy.ResolvedStream
	node     *edge.Sealer
	clock    int64 // of the node, ns
	origin   int64 // log time at which seal begins
	records  [1]loader.Record
	flagged  map[ring.Flags]int
	// published counts the samples that came out.
	published uint64
}

// flagCounter publishes nothing, and counts flags.
type flagCounter struct {
	s    *siege
	room ring.Draft
}

func newFlagCounter(s *siege) flagCounter {
	return flagCounter{s, ring.NewDraft(BatchSize, maxText)}
}

func (flagCounter) Wake() {}

func (c flagCounter) Begin(int, int64) (ring.Draft, error) { return c.room, nil }
func (flagCounter) Restamp(*ring.Draft, int)               {}

func (c flagCounter) End(d *ring.Draft, n int, _ []uint32) error {
	c.s.published += uint64(n)
	for i := range n {
		flags := d.Sample(i).Flags
		for f := ring.Flags(1); f <= ring.FlagFault; f <<= 1 {
			if flags&f != 0 {
				c.s.flagged[f]++
			}
		}
	}
	*d = ring.Draft{}
	return nil
}

func newSiege(t testing.TB, c *capture) *siege {
	t.Helper()
	return newSiegeOf(t, c, func(*policy.Binding) {})
}

// newSiegeOf is newSiege with documents that change has changed.
func newSiegeOf(t testing.TB, c *capture, change func(*policy.Binding)) *siege {
	t.Helper()
	s := &siege{
		rig: &rig{t: t, set: c.documents(t, change), state: epoch.New(), sink: &published{}, vault: &memoryVault{}, now: logBegin},
		c:   c, seen: make(map[kind.Kind][]noticed), subjects: make(map[kind.Kind]map[event.Subject]bool), tickAt: logBegin, turnAt: logBegin, byID: make(map[uint32]policy.ResolvedStream),
		flagged: make(map[ring.Flags]int),
	}
	d := event.NewDirectory(s.set)
	s.machine = fault.New(d)
	s.notes = event.NewTable(d)
	s.collector = event.NewCollector(event.CollectorOptions{
		Table: s.notes, Clock: logClock{s.rig}, Destinations: []event.Destination{&s.events}, Facts: s.facts,
	})
	s.clearTables()
	s.agree(1, 1)
	s.boot(true)
	s.core.out = newFlagCounter(s)
	for _, x := range s.set.Streams {
		s.byID[uint32(x.CANID)] = x
	}
	s.node = s.newNode(s.vault)
	return s
}

// newNode starts the node with the clock of the siege.
func (s *siege) newNode(v edge.Vault) *edge.Sealer {
	s.t.Helper()
	store, err := edge.OpenStore(v)
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := edge.NewSealer(store, edge.Options{
		Set: s.set, Node: ownNode, Engine: s.newEngine(), Buses: map[string]edge.Sender{"can0": wireEnd{&s.wire, "can0"}},
		Now: func() time.Time { return time.Unix(1_700_000_000, s.clock) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// facts takes what the collector has counted.
func (s *siege) facts(all []event.Fact) {
	for _, f := range all {
		before := s.seen[f.Kind]
		n := noticed{s.now, f.Count}
		if k := len(before); k > 0 {
			n.count += before[k-1].count
		}
		s.seen[f.Kind] = append(before, n)
		if s.subjects[f.Kind] == nil {
			s.subjects[f.Kind] = make(map[event.Subject]bool)
		}
		s.subjects[f.Kind][f.Subject] = true
	}
	s.machine.Take(all)
}

// count is how many events of a kind were noticed.
func (s *siege) count(k kind.Kind) uint64 {
	if n := s.seen[k]; len(n) > 0 {
		return n[len(n)-1].count
	}
	return 0
}

// pass lets log time pass: looks every second and turns every 100 ms, as the agent has them.
func (s *siege) pass(to int64) {
	for {
		next := min(s.tickAt+int64(tickEvery), s.turnAt+int64(monitorPoll))
		if next > to {
			break
		}
		s.now = next
		if next == s.tickAt+int64(tickEvery) {
			s.tickAt = next
			s.core.tick(s.now, time.Now().UnixNano(), int64(33*24*time.Hour))
			s.core.overdue(s.now, func(uint8) bool { return true })
		}
		if next == s.turnAt+int64(monitorPoll) {
			s.turnAt = next
			s.collector.Turn()
			s.machine.Advance(s.now)
			s.states = max(s.states, s.machine.State())
			if s.faultAt == 0 && s.machine.State() >= fault.Raised {
				s.faultAt = s.now
			}
		}
	}
	s.now = max(s.now, to)
}

// take gives a frame to the gateway.
func (s *siege) take(f *timed) {
	s.pass(f.at)
	x, ok := s.byID[f.frame.ID]
	if !ok {
		s.t.Fatalf("no stream for %03X", f.frame.ID)
	}
	s.records[0] = s.recordFor(f.sent, x)
	if spdu.Kind(f.frame.Data[0]>>2&3) == spdu.KindStart {
		s.core.startRecords(s.records[:], s.now)
		return
	}
	if err := s.core.process(s.records[:], false); err != nil {
		s.t.Fatal(err)
	}
}

// seal has the node send the capture over and over for so long. freeze says whether its clock stands still at a time.
func (s *siege) seal(length time.Duration, freeze func(at int64) bool) (all []timed) {
	return s.sealWith(length, length, freeze)
}

// sealWith is seal with heartbeats that go on for longer than the samples.
func (s *siege) sealWith(length, beats time.Duration, freeze func(at int64) bool) (all []timed) {
	s.t.Helper()
	add := func(at int64) {
		for _, f := range s.wire.take() {
			x := timed{at: logBegin + s.origin + at, sealed: logBegin + s.origin + at, sent: f, mux: -1}
			h, err := spdu.ParseHeader(f.frame.Data[:])
			if err != nil {
				s.t.Fatal(err)
			}
			x.counter, x.kind = h.Counter, h.Kind
			all = append(all, x)
		}
	}
	if err := s.node.AnnounceStart(); err != nil {
		s.t.Fatal(err)
	}
	add(0)
	const still = int64(50 * time.Millisecond) // a node is quiet behind its start
	beat := int64(0)
	for round := int64(0); ; round++ {
		for i := range s.c.frames {
			f := s.c.frames[i]
			at := still + round*(s.c.length+seam) + f.Time
			until := min(at, int64(length))
			if at > int64(length) {
				until = int64(beats)
			}
			for ; beat <= until; beat += int64(time.Second) {
				if err := s.node.Heartbeat(); err != nil {
					s.t.Fatal(err)
				}
				add(max(beat, still))
			}
			if at > int64(length) {
				return all
			}
			if freeze == nil || !freeze(at) {
				s.clock = s.origin + at
			}
			f.Bus = "can0"
			if err := errors.Join(s.node.Seal(&f), s.node.Flush()); err != nil {
				s.t.Fatal(err)
			}
			add(at)
			if f.ID == muxID {
				all[len(all)-1].mux = int(f.Data[0])
			}
		}
	}
}

// play gives frames in the order in which they come, and lets the time pass behind the last in which what is missing is noticed.
func (s *siege) play(all []timed, after time.Duration) {
	slices.SortStableFunc(all, func(a, b timed) int { return int(min(max(a.at-b.at, -1), 1)) })
	for i := range all {
		s.take(&all[i])
	}
	s.pass(s.now + int64(after))
}

// dropped removes the frames that drop wants, and returns when they would have come.
func dropped(all []timed, drop func(*timed) bool) (kept []timed, at []int64) {
	for i := range all {
		if all[i].kind == spdu.KindSample && drop(&all[i]) {
			at = append(at, all[i].at)
			continue
		}
		kept = append(kept, all[i])
	}
	return kept, at
}

// shuffled moves frames by up to distance places. Start records stay where they are.
func shuffled(all []timed, distance int, rng *rand.Rand) []timed {
	type placed struct {
		timed
		to int
	}
	list := make([]placed, len(all))
	for i := range all {
		list[i] = placed{all[i], i}
		if all[i].kind != spdu.KindStart {
			list[i].to += rng.IntN(distance + 1)
		}
	}
	times := make([]int64, len(all))
	for i := range all {
		times[i] = all[i].at
	}
	slices.SortStableFunc(list, func(a, b placed) int { return a.to - b.to })
	out := make([]timed, len(all))
	for i := range list {
		out[i] = list[i].timed
		out[i].at = max(times[i], out[i].at)
	}
	// A frame that was moved back in the list comes no earlier than the one before it.
	for i := 1; i < len(out); i++ {
		out[i].at = max(out[i].at, out[i-1].at)
	}
	return out
}

// verdict is a row of the table.
type siegeRow struct {
	capture, attack string
	kind            string
	injected, found uint64
	detect, p99     time.Duration
	fault           time.Duration // behind the first injection; 0: none
	others          string
}

func (r *siegeRow) String() string {
	fault := "none"
	switch {
	case r.fault > 0:
		fault = r.fault.Round(time.Millisecond).String()
	case r.fault < 0:
		fault = "earlier" // by what came with it
	}
	return fmt.Sprintf("%-8s %-26s %-18s %8d %8d %10v %10v %10s  %s", r.capture, r.attack, r.kind, r.injected, r.found,
		r.detect.Round(time.Millisecond), r.p99.Round(time.Millisecond), fault, r.others)
}

func siegeHead() string {
	return fmt.Sprintf("%-8s %-26s %-18s %8s %8s %10s %10s %10s  %s", "CAPTURE", "ATTACK", "EVENT", "INJECTED", "NOTICED", "FIRST", "P99", "FAULT", "OTHER EVENTS")
}

// row compares what was injected, with its times in order, with what was noticed of a kind.
func (s *siege) row(attack string, k kind.Kind, at []int64) siegeRow {
	r := siegeRow{capture: strings.SplitN(s.c.name, "-", 2)[0], attack: attack, kind: k.String(), injected: uint64(len(at)), found: s.count(k)}
	slices.Sort(at)
	var took []time.Duration
	steps := s.seen[k]
	for i, t := range at {
		for len(steps) > 0 && steps[0].count < uint64(i+1) {
			steps = steps[1:]
		}
		if len(steps) > 0 {
			took = append(took, time.Duration(steps[0].at-t))
		}
	}
	if len(took) > 0 {
		r.detect = took[0]
		slices.Sort(took)
		r.p99 = took[len(took)*99/100]
	}
	if s.faultAt > 0 && len(at) > 0 {
		r.fault = time.Duration(s.faultAt - at[0])
	}
	var others []string
	for _, o := range kind.All() {
		if n := s.count(o); n > 0 && o != k && o != kind.KeyPromoted && o != kind.NodeRestart {
			others = append(others, fmt.Sprintf("%s %d", o, n))
		}
	}
	r.others = strings.Join(others, ", ")
	return r
}
