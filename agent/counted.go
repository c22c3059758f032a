// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/takeover"
	"github.com/cellward/cellward/loader"
)

// counted is how much of what the filters have refused was made events of. Every refused frame is counted by the filter for its stream and
// then for its bus, in counters that outlive the agent. It becomes an event of its stream, so that no flood on one identifier hides what is
// done to another; of a bus only where no stream accounts for it, as for a frame that the kernel could not look into.
//
// For that the counts of a bus are read before those of its streams: whatever is in them is in its streams' by then, but for frames that a
// processor which changes the order of stores shows on the bus an instant before. What the streams have ahead of the bus, being counted a
// moment later or not for the bus yet, is owed until the bus has it too, and is told once. What the bus has ahead of its streams is told
// when it was so at each of restLooks looks, of which an instant cannot have been the reason.
//
// What the filter shows of refused frames goes into the events of what it has counted.
type counted struct {
	tables countedTables
	shown  shown
	// buses are by interface slot, streams by slot of the pinned tables.
	buses   [loader.MaxIfaces]busCounted
	streams []loader.StreamCounts
}

// restLooks is how many looks what no stream accounts for must last. They are 100 ms apart.
const restLooks = 5

// busCounted are the counts of a bus for which there is an event, or which were there before the first look. rest is the least of what no
// stream accounted for at the last looks, and looks how many they were.
type busCounted struct {
	known  bool
	counts loader.Counts
	rest   loader.Counts
	looks  [loader.NumVerdicts]uint8
}

// countedBus is what is looked at of a [loader.Bus].
type countedBus interface {
	Slot() uint32
	FilterCounts() loader.Counts
	TakeRefused(to []loader.RefusedFrame) ([]loader.RefusedFrame, error)
}

// countedTables is what is looked at of a [loader.Set], by slot of the pinned tables.
type countedTables interface {
	StreamCounts(slot int) loader.StreamCounts
	WantFrames(slot int, v loader.Verdict, until uint64)
}

func newCounted(tables countedTables, log *slog.Logger) *counted {
	return &counted{tables: tables, shown: shown{log: log}, streams: make([]loader.StreamCounts, loader.MaxStreams)}
}

// look notes what was refused on a bus since the last look. The first look only takes note. Streams are those of all cores, each told by
// its own core; a slot that two of them have is told by the first. Behind the last look at a bus there is none to wait for.
func (x *counted) look(b countedBus, now int64, last bool, cores ...*core) {
	counts, at := b.FilterCounts(), &x.buses[b.Slot()]
	if !at.known {
		x.begin(b, cores...)
		return
	}
	if sameRefused(&counts, &at.counts) {
		return // nothing has come, and nothing is owed
	}
	x.shown.take(b)
	for _, c := range cores {
		for _, s := range c.onBus[b.Slot()] {
			sum := x.tables.StreamCounts(s.slot)
			for i, n := range sum {
				if added := n - x.streams[s.slot][i]; added != 0 {
					v := loader.Verdict(i)
					c.tellRefused(s, v, added, x.shown.of(s, v), now)
					at.counts[v] += added
					x.want(s.slot, v, n)
				}
			}
			x.streams[s.slot] = sum
		}
	}
	x.shown.age(b.Slot())
	for v := range loader.Verdict(loader.NumVerdicts) {
		if Refusing(v) {
			if n := at.restOf(v, counts[v], last); n > 0 {
				coreOf(b, cores).tell(event.Note{Kind: event.OfVerdict(v), Subject: event.Bus(uint8(b.Slot())), Count: n, Time: now})
			}
		}
	}
}

// restOf returns how many frames of a verdict, of which the bus has counted so many, are to be told as the bus's.
func (at *busCounted) restOf(v loader.Verdict, count uint64, last bool) (n uint64) {
	rest := int64(count - at.counts[v])
	if rest <= 0 { // less than was told is owed
		at.looks[v] = 0
		return 0
	}
	if at.looks[v] == 0 || uint64(rest) < at.rest[v] {
		at.rest[v] = uint64(rest)
	}
	if at.looks[v]++; at.looks[v] < restLooks && !last {
		return 0
	}
	n = at.rest[v]
	if last {
		n = uint64(rest)
	}
	at.counts[v] += n
	at.looks[v] = 0
	return n
}

// coreOf returns the first core that knows a bus.
func coreOf(b countedBus, cores []*core) *core {
	for _, c := range cores {
		if len(c.onBus[b.Slot()]) > 0 {
			return c
		}
	}
	return cores[0]
}

// settleTries is how often a bus is read at most until it stands still. A round takes a few µs, and frames on a bus are 100 µs apart.
const settleTries = 8

// begin takes note of a bus and its streams. A frame between the two readings would be in one of them only, so they are repeated until
// nothing has come in between; under a flood over thousands of streams that may never be, and then what came in the last round is
// an event of the bus.
func (x *counted) begin(b countedBus, cores ...*core) {
	at := &x.buses[b.Slot()]
	for range settleTries {
		counts := b.FilterCounts()
		still := at.known && sameRefused(&counts, &at.counts)
		at.known, at.counts = true, counts
		for _, c := range cores {
			for _, s := range c.onBus[b.Slot()] {
				was := x.streams[s.slot]
				x.place(s.slot)
				still = still && was == x.streams[s.slot]
			}
		}
		if still {
			break
		}
	}
	x.shown.drop(b) // that were refused before
}

// place takes note of a slot of the pinned tables that is about to be a stream's.
func (x *counted) place(slot int) {
	x.streams[slot] = x.tables.StreamCounts(slot)
	x.wantAll(slot)
}

// wantAll has the filter show the next frames of a stream, by each verdict.
func (x *counted) wantAll(slot int) {
	for v, n := range x.streams[slot] {
		x.want(slot, loader.Verdict(v), n)
	}
}

// want has the filter show the next frames of a stream that it refuses by a verdict, of which it has counted n.
func (x *counted) want(slot int, v loader.Verdict, n uint64) {
	x.tables.WantFrames(slot, v, n+framesPerLook)
}

// forget makes the next look at a bus the first.
func (x *counted) forget(slot uint32) { x.buses[slot] = busCounted{} }

// sameRefused says whether two counts are the same as far as they refuse.
func sameRefused(a, b *loader.Counts) bool {
	for v := range loader.Verdict(loader.NumVerdicts) {
		if a[v] != b[v] && Refusing(v) {
			return false
		}
	}
	return true
}

// handOver is what a successor goes on from.
func (x *counted) handOver(c *core) (buses []takeover.BusCounts, streams []takeover.StreamCounts) {
	for slot := range x.buses {
		if at := &x.buses[slot]; at.known {
			buses = append(buses, takeover.BusCounts{Slot: uint32(slot), Counts: at.counts[:]})
		}
	}
	for _, s := range c.streams {
		streams = append(streams, takeover.StreamCounts{ID: s.ID, Counts: x.streams[s.slot][:]})
	}
	return buses, streams
}

// inherit goes on from what a predecessor has handed over.
func (x *counted) inherit(c *core, from *takeover.State) {
	for _, b := range from.Counted {
		if int(b.Slot) < len(x.buses) {
			at := &x.buses[b.Slot]
			at.known = true
			copy(at.counts[:], b.Counts)
		}
	}
	byID := make(map[uint32][]uint64, len(from.Refused))
	for _, s := range from.Refused {
		byID[s.ID] = s.Counts
	}
	for _, s := range c.streams {
		if n, ok := byID[s.ID]; ok {
			copy(x.streams[s.slot][:], n)
			x.wantAll(s.slot)
		} else {
			x.place(s.slot)
		}
	}
}

// tellCounts notes what the filters have refused since the last look; last says that this process does not look again. mu is held.
func (a *Agent) tellCounts(last bool) {
	now, x := a.now(), a.seen()
	for _, b := range a.buses {
		x.look(b, now, last, a.core)
	}
}

// seen returns what was counted up to the last look. mu is held.
func (a *Agent) seen() *counted {
	if a.counted == nil {
		a.counted = newCounted(a.maps, a.log)
	}
	return a.counted
}
