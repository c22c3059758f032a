// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/cellward/cellward/crypto/spdu"
)

// Ceilings are raised ahead by aheadTime of a stream's rate, by at least leastAhead counters; that is what an unclean reboot can
// cost.
const (
	aheadTime  = 10 * time.Second
	leastAhead = 2
	// retryRaise is how long in ns after a failed write no other one is waited for.
	retryRaise = 1e9
)

// ceilings holds for every stream a counter above which nothing may take effect before a higher one is durable. After a reboot
// that has taken the windows away, everything up to the ceiling counts as seen: whatever was published lies below.
type ceilings struct {
	// durable is what is known to be on disk; the saver raises it.
	durable []atomic.Uint64
	// wanted is what the next save writes; it never falls below durable.
	wanted []uint64
	ahead  []uint64
	// save writes the state with wanted in it and returns whether that is durable. nil: there is nothing to write to, and
	// wanted counts at once.
	save func() bool
	// soon says that some stream has used up half of what was raised ahead, and failed when a write failed last.
	soon   bool
	failed int64
}

func (c *ceilings) init(streams []*stream) {
	c.durable = make([]atomic.Uint64, len(streams))
	c.wanted = make([]uint64, len(streams))
	c.ahead = make([]uint64, len(streams))
	for i, s := range streams {
		frames := 1.0
		if s.heartbeat {
			// A round has as many frames as it takes to name all streams of the bus.
			frames = math.Ceil(float64(s.siblings()) / spdu.MaxEntriesFD)
		}
		c.ahead[i] = max(leastAhead, uint64(math.Ceil(frames*float64(aheadTime)/float64(s.Period))))
	}
}

// siblings counts the sample streams of the same node on the same bus.
func (s *stream) siblings() (n int) {
	for _, t := range s.node.streams {
		if !t.heartbeat && t.Interface.Index == s.Interface.Index {
			n++
		}
	}
	return n
}

// want raises what the next save writes for one stream to ahead of a counter.
func (c *ceilings) want(slot int, counter uint64) {
	c.wanted[slot] = max(c.wanted[slot], min(counter+c.ahead[slot], spdu.MaxCounter))
}

// used notes that a counter has taken effect.
func (c *ceilings) used(slot int, counter uint64) {
	if counter+c.ahead[slot]/2 > c.wanted[slot] {
		c.want(slot, counter)
		c.soon = true
	}
}

// settled takes note of what has become durable. It may be called by another goroutine.
func (c *ceilings) settled(values []uint64) {
	for i, v := range values {
		if v > c.durable[i].Load() {
			c.durable[i].Store(v)
		}
	}
}

// byID is how the state holds the ceilings.
func (c *ceilings) byID(streams []*stream) map[uint32]uint64 {
	all := make(map[uint32]uint64, len(streams))
	for i, s := range streams {
		all[s.ID] = c.wanted[i]
	}
	return all
}

// raise makes a ceiling above an authenticated counter durable, and waits for it. Streams are raised ahead of use in the
// background, so this waits only for a node that is faster than its rate, or a disk that is slower than ten seconds.
func (c *core) raise(s *stream, counter uint64, now int64) bool {
	if c.ceilings.failed != 0 && now-c.ceilings.failed < retryRaise {
		return false
	}
	// The node is there, so its other streams are about to need the same.
	for _, t := range s.node.streams {
		c.ceilings.want(t.Slot, t.window.Highest())
	}
	c.ceilings.want(s.Slot, counter)
	c.ceilings.soon = false
	if c.ceilings.save == nil {
		c.ceilings.settled(c.ceilings.wanted)
		return true
	}
	c.wake() // a disk takes long
	c.waited = true
	if !c.ceilings.save() {
		c.ceilings.failed = now
		return false
	}
	c.ceilings.failed = 0
	return counter <= c.ceilings.durable[s.Slot].Load()
}

// begin sets the ceilings at the start of an agent: what the state file has, and ahead of what the windows hold. The caller makes
// them durable before a frame is accepted.
func (c *core) begin() {
	for i, s := range c.streams {
		v, ok := c.state.Ceilings[s.ID]
		c.ceilings.wanted[i] = v
		if ok && c.fresh && v >= s.firstCounter() {
			// The window holds no more than the ceiling itself. Raising it again would cost another ten seconds with every
			// boot; the first frame that verifies will do it.
			continue
		}
		c.ceilings.want(i, max(s.window.Highest(), s.firstCounter()))
	}
}

// firstCounter is where the node's counters are: the highest start of its newest epoch.
func (s *stream) firstCounter() uint64 {
	if k := len(s.node.live); k > 0 {
		if l := s.node.live[k-1]; len(l.starts) > 0 {
			return l.starts[len(l.starts)-1].F
		}
	}
	return 0
}

// exact sets the ceilings at a clean stop: nothing above the highest counters was accepted.
func (c *core) exact() {
	for i, s := range c.streams {
		c.ceilings.wanted[i] = s.window.Highest()
	}
}
