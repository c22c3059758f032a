// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/cellward/cellward/loader"
)

// The batch of every day: each of its frames is the next one of its stream, and each of their tags is right. What the two loops of
// stage.go find out frame by frame is then known of all of them: look up has counted each stream's frames ahead, and what they
// change follows from how many there were. Nothing but the plaintext is left to be judged, and the slot to be written.
//
// Look up moves nothing that counts: ahead, newest and seen of a lane are notes about the batch, which mean nothing unless all of
// it turns out to be in order, and which rewind takes back if it does not. commit does it all over then, by stage.go. Nor can
// anything be in the way of a run: until is 0 for a stream that has anything missing or unsettled in front of its next frame.

// commitInOrder is commit for a batch of n operations that are in order and all have a right tag. It returns false, and has
// committed nothing, if a plaintext is not well-formed: stage.go has the answer then.
func (c *core) commitInOrder(n int) bool {
	if !fetchesAhead {
		c.draft.FetchAhead()
	}
	if c.layDown(n) != n {
		return false
	}
	c.settleInOrder()
	c.tally[loader.Accepted] += uint64(n)
	c.nRuns = 0
	return true
}

// layDown writes n samples into their slots and returns how many of them are well-formed; it stops at the first that is not.
func (c *core) layDown(n int) (done int) {
	for done < n {
		span := c.draft.Span(done, n-done)
		k := layDownInOrder(&span, c.candidates[done:n], c.text[done:n], c.padding)
		if done += k; k < span.N {
			break
		}
	}
	return done
}

// rewind takes back what look up has noted of the batch in the lanes of its streams.
func (c *core) rewind() {
	for _, slot := range c.runs[:c.nRuns] {
		l := &c.lanes[slot]
		l.goOn(l.next)
		l.seen = 0
	}
}
