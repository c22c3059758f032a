// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// lane is what a sample stream's frame of every day needs to know: it comes under the epoch and the start of the frame before
// it, and next in its order. The lane holds answers that find and verified have given, and only such as stay true until it is
// forgotten or renewed; every frame that it has no answer for goes to those two. A lane of zeros answers nothing.
//
// The lanes of all streams lie one behind the other, in two cache lines each: the first is all that it takes to look a frame up.
type lane struct {
	// origin is that of the stream's records. Counters from next up to but not including end are fresh, belong to epoch number
	// of the node, and to one start of it, whose key is key.
	origin uint64
	next   uint64
	end    uint64
	index  uint32 // of the stream, in the ring; in front of number as in a slot
	number uint32
	key    *aead.Key
	// limit is above the highest counter up to which the run that is open goes on by itself, 0 if none is open. from is the
	// run's first counter, time the latest time of its frames. newest is where its newest sample stands in the batch, and batch
	// says which batch looked for the stream last.
	limit  uint64
	time   int64
	newest uint32
	batch  uint32

	from uint64
	// easy is a counter up to which a frame of live, if it is next in order, changes nothing but the counts: live is the newest
	// epoch of the stream, its promotion is noted, and the ceiling is neither passed nor to be raised.
	easy  uint64
	first uint64 // of the start
	live  *liveEpoch
	// samples are those of the batch; touched says that the lane is among those that have any.
	samples uint64
	touched bool
	_       [16]byte
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
		origin: loader.OriginOf(uint32(s.Interface.Index), s.ID), first: first, end: last + 1,
		number: l.state.Number, index: uint32(s.Slot), live: l, key: start.keys[s.source],
	}
	s.lane.moved(s.window.Highest())
}

// moved tells the lane up to where counters may have been seen.
func (l *lane) moved(highest uint64) { l.next = max(l.first, highest+1) }

// ease finds how far the lane may go on by itself. What it is made of only grows meanwhile: durable is raised by the saver,
// wanted by this goroutine.
func (c *core) ease(s *stream) {
	l := s.lane
	l.easy = 0
	l.moved(s.window.Highest())
	if l.live == nil || l.number != s.epoch || l.live.promoted == 0 {
		return
	}
	half := c.ceilings.ahead[s.Slot] / 2
	if wanted := c.ceilings.wanted[s.Slot]; wanted > half {
		l.easy = min(c.ceilings.durable[s.Slot].Load(), wanted-half)
	}
}

// forget empties the lanes of a node's streams. Whatever changes its epochs, starts or keys calls it.
func (n *node) forget() {
	for _, s := range n.streams {
		*s.lane = lane{}
	}
}
