// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// lane is what a sample stream's frame of every day needs to know: it comes under the epoch and the start of the frame before
// it, and next in its order. The lane holds answers that find and verified have given, and only such as stay true until it is
// forgotten or renewed; every frame that it has no answer for goes to those two. A lane of zeros answers nothing.
//
// The lanes of all streams lie one behind the other, in two cache lines each: the first is all that it takes to look a frame up.
type lane struct {
	// origin is that of the stream's records. ahead is the header of the frame that is next in order, as spdu.SampleInOrder has it,
	// and until is above those of the frames that may go on by themselves; see inorder.go. Between two batches ahead is that of next.
	origin uint64
	ahead  uint64
	until  uint64
	index  uint32 // of the stream, in the ring; in front of number as in a slot
	number uint32 // of the epoch
	key    *aead.Key
	// newest is where the newest sample of the batch stands in it, and seen is 1 if the batch has a frame of the stream, else 0.
	newest uint32
	seen   uint32
	// Counters from next up to but not including end are fresh, belong to epoch number of the node, and to one start of it, whose
	// key is key.
	next   uint64
	stream *stream

	end uint64
	// limit is above the highest counter up to which the run that is open goes on by itself, 0 if none is open. from is the
	// run's first counter, time the latest time of its frames.
	limit uint64
	from  uint64
	time  int64
	// easy is a counter up to which a frame of live, if it is next in order, changes nothing but the counts: live is the newest
	// epoch of the stream, its promotion is noted, and the ceiling is neither passed nor to be raised.
	easy  uint64
	first uint64 // of the start
	live  *liveEpoch
	// samples are those of the batch; touched says that the lane is among those that have any.
	samples uint32
	touched bool
}

// learn has the lane answer for the frames of one start.
func (s *stream) learn(l *liveEpoch, start *liveStart) {
	if s.heartbeat {
		return
	}
	first, last := max(start.F, l.state.Base, 1), min(l.state.Base+replay.EpochSpan, replay.MaxCounter)
	for _, later := range l.starts {
		if later.F > start.F {
			last = min(last, later.F-1)
		}
	}
	if first > last {
		return
	}
	*s.lane = lane{
		stream: s, origin: loader.OriginOf(uint32(s.Interface.Index), s.ID), first: first, end: last + 1,
		number: l.state.Number, index: uint32(s.Slot), live: l, key: start.keys[s.source],
	}
	s.lane.moved(s.window.Highest())
}

// moved tells the lane up to where counters may have been seen.
func (l *lane) moved(highest uint64) { l.goOn(max(l.first, highest+1)) }

// goOn says which counter is next.
func (l *lane) goOn(next uint64) { l.next, l.ahead = next, spdu.SampleInOrder(next) }

// ease finds how far the lane may go on by itself. What it is made of only grows meanwhile: durable is raised by the saver,
// wanted by this goroutine.
func (c *core) ease(s *stream) {
	l := s.lane
	l.easy, l.until = 0, 0
	l.moved(s.window.Highest())
	if l.live == nil || l.number != s.epoch || l.live.promoted == 0 {
		return
	}
	half := c.ceilings.ahead[s.Slot] / 2
	if wanted := c.ceilings.wanted[s.Slot]; wanted > half {
		l.easy = min(c.ceilings.durable[s.Slot].Load(), wanted-half)
	}
	if s.window.Follows(l.next) && s.gaps.Follows(l.next) {
		l.until = spdu.SampleInOrder(min(l.end, l.easy+1))
	}
}

// disturb says that something else than a frame of the stream has moved its account, which is looked at anew with the next one.
func (l *lane) disturb() { l.until = 0 }

// forget empties the lanes of a node's streams. Whatever changes its epochs, starts or keys calls it.
func (n *node) forget() {
	for _, s := range n.streams {
		*s.lane = lane{stream: s}
	}
}
