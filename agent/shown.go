// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"log/slog"
	"slices"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// framesPerLook is how many frames of one stream and verdict the filter is asked to show until the next look, 100 ms later: what the event
// table keeps until a record is made of them.
const framesPerLook = 4

// shown are frames that the filter has refused and shown, until what they are counted as is looked at. They are evidence and no more: how
// many there were the counters alone say, so one that is missing is no event less. The filter shows a frame before it counts it, and so one
// whose count is not there yet waits for the next look, and no longer.
type shown struct {
	log    *slog.Logger
	frames []shownFrame // in the order of compareShown, each kind in the order in which they came
	fresh  []loader.RefusedFrame
	failed [loader.MaxIfaces]bool
}

type shownFrame struct {
	loader.RefusedFrame
	waited, told bool
}

// compareShown brings together what belongs to one stream and verdict. A slot that was another stream's is told by the stream's number.
func compareShown(a, b *loader.RefusedFrame) int {
	return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.StreamID, b.StreamID), cmp.Compare(a.Verdict, b.Verdict))
}

// take takes what the filter of a bus has shown.
func (x *shown) take(b countedBus) {
	var err error
	x.fresh, err = b.TakeRefused(x.fresh[:0])
	for i := range x.fresh {
		x.frames = append(x.frames, shownFrame{RefusedFrame: x.fresh[i]})
	}
	if err != nil && !x.failed[b.Slot()] {
		// Counts and verdicts do not depend on it.
		x.failed[b.Slot()] = true
		x.log.Error("frames that the filter refuses cannot be shown", "event", "refused_frames_unreadable", "error", err.Error())
	}
	if len(x.fresh) > 0 {
		slices.SortStableFunc(x.frames, func(a, b shownFrame) int { return compareShown(&a.RefusedFrame, &b.RefusedFrame) })
	}
}

// of returns the frames of a stream and verdict, which are told now.
func (x *shown) of(s *stream, v loader.Verdict) []shownFrame {
	if len(x.frames) == 0 {
		return nil
	}
	want := loader.RefusedFrame{Slot: uint32(s.slot), StreamID: s.ID, Verdict: v}
	i, _ := slices.BinarySearchFunc(x.frames, &want, func(f shownFrame, want *loader.RefusedFrame) int { return compareShown(&f.RefusedFrame, want) })
	j := i
	for ; j < len(x.frames) && compareShown(&x.frames[j].RefusedFrame, &want) == 0; j++ {
		x.frames[j].told = true
	}
	return x.frames[i:j]
}

// age forgets what was told of a bus, and what has waited since the look before, as it does with what belongs to no stream.
func (x *shown) age(bus uint32) {
	x.frames = slices.DeleteFunc(x.frames, func(f shownFrame) bool { return f.Iface == bus && (f.told || f.waited) })
	for i := range x.frames {
		x.frames[i].waited = x.frames[i].waited || x.frames[i].Iface == bus
	}
}

// drop forgets what the filter of a bus has shown.
func (x *shown) drop(b countedBus) {
	x.take(b)
	x.frames = slices.DeleteFunc(x.frames, func(f shownFrame) bool { return f.Iface == b.Slot() })
}

// tellRefused notes that the filter has refused n frames of a stream by a verdict, of which it has shown some. What it has shown is noted one
// by one, up to as many as were counted, and the rest at once.
func (c *core) tellRefused(s *stream, v loader.Verdict, n uint64, frames []shownFrame, now int64) {
	note := event.Note{Kind: event.OfVerdict(v), Subject: event.Stream(s.Slot), Highest: s.window.Highest()}
	for i := range frames {
		if n == 0 {
			return
		}
		f := &frames[i]
		note.Time, note.Epoch, note.Counter, note.Frame = int64(f.TimeNS), f.Epoch, claimedCounter(&f.RefusedFrame), &f.Frame
		c.tell(note)
		n--
	}
	if n > 0 {
		note.Count, note.Time, note.Frame = n, now, nil
		c.tell(note)
	}
}

// claimedCounter returns the counter that a refused frame has in its header; 0 if it has no header.
func claimedCounter(f *loader.RefusedFrame) uint64 {
	if f.Verdict == loader.PlaintextOnProtected {
		return 0
	}
	h, err := spdu.ParseHeader(f.Frame.Data[:f.Frame.Len])
	if err != nil {
		return 0
	}
	return h.Counter
}
