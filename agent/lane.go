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
type lane struct {
	// origin is that of the stream's records. Counters from first to first + span of epoch number belong to live, and to one
	// start of it, whose key is key.
	origin uint64
	first  uint64
	span   uint64
	number uint32
	index  uint32 // of the stream, in the ring
	live   *liveEpoch
	key    *aead.Key
	// easy is a counter up to which a frame of live, if it is next in order, changes nothing but the counts: live is the newest
	// epoch of the stream, its promotion is noted, and the ceiling is neither passed nor to be raised.
	easy uint64
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
	s.lane = lane{
		origin: loader.OriginOf(uint32(s.Interface.Index), s.ID), first: first, span: last - first,
		number: l.state.Number, index: uint32(s.Slot), live: l, key: start.keys[s.source],
	}
}

// ease finds how far the lane may go on by itself. What it is made of only grows meanwhile: durable is raised by the saver,
// wanted by this goroutine.
func (c *core) ease(s *stream) {
	l := &s.lane
	l.easy = 0
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
		s.lane = lane{}
	}
}
