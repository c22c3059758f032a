// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"reflect"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/replay"
)

// sameNode returns the node of c that means the same as n, or nil.
func (c *core) sameNode(n *node) *node {
	for _, o := range c.nodes {
		if o.name == n.name && o.hash == n.hash {
			return o
		}
	}
	return nil
}

func (n *node) stream(id uint32) *stream {
	for _, s := range n.streams {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// successor lays a core for other documents over the same tables. Nodes whose part of the binding is the same bring keys, starts,
// windows and accounts with them. The places of all others must be empty. It changes nothing that c goes by, so it may be thrown
// away; c may not be used any more once it took over (takeOver).
func (c *core) successor(set *policy.Set, at *placement, out publisher) (*core, error) {
	for _, n := range c.nodes {
		n.state.Verified = n.verified // as every save does
	}
	next := newCore(c.engine, set, at, c.state, c.tables, out)
	next.fresh, next.dirty, next.held = c.fresh, c.dirty, c.held
	next.ceilings.save, next.ceilings.soon, next.ceilings.failed = c.ceilings.save, c.ceilings.soon, c.ceilings.failed
	for _, n := range next.nodes {
		if o := c.sameNode(n); o != nil {
			if err := next.inherit(c, n, o); err != nil {
				return nil, fmt.Errorf("node %s: %w", n.name, err)
			}
			continue
		}
		// Also of a node that is here under another part of the binding: its counters go on, whatever they are for.
		n.verified = n.state.Verified
		n.known.HighestVerified.Store(n.verified)
		for _, s := range n.streams {
			if err := s.openWindow(n.verified); err != nil {
				return nil, fmt.Errorf("node %s: %w", n.name, err)
			}
		}
	}
	return next, nil
}

// inherit gives n what o has. The two have the same streams and sources in the same order, since both are sorted by what the
// hash covers.
func (c *core) inherit(from *core, n, o *node) error {
	n.verified, n.live, n.budget, n.refusals = o.verified, o.live, o.budget, o.refusals
	for _, s := range n.streams {
		was := o.stream(s.ID)
		s.epoch, s.lowest, s.gaps, s.window = was.epoch, was.lowest, was.gaps, was.window
		s.flags = was.flags
		if s.Period == was.Period && reflect.DeepEqual(s.Signals, was.Signals) {
			c.keepTimes(s, was.times)
		}
		if s.WindowSize != was.WindowSize {
			// The words hold what was seen of twice the largest window, so a wider one finds the truth there, too.
			w, err := replay.New(&s.shared.Words, replay.Options{Size: s.WindowSize, Reference: max(was.window.Highest(), o.reference())})
			if err != nil {
				return fmt.Errorf("stream %d: %w", s.ID, err)
			}
			s.window = w
		}
		c.ceilings.wanted[s.Slot] = from.ceilings.wanted[was.Slot]
		c.ceilings.durable[s.Slot].Store(from.ceilings.durable[was.Slot].Load())
	}
	return nil
}

// takeOver makes next the core, in place of c, and returns the nodes whose epochs end: those that the documents do not have any
// more or describe otherwise. The filter refuses them from here on, and their keys are gone.
//
// Nothing of this needs to be durable first. Until the state is saved, the file has these epochs together with the ceilings of
// their streams, and an agent that starts from it takes them up only by the same part of the binding, either over the very
// windows that they had or, because the tables are then of another placement, over windows filled up to those ceilings.
// Once it is saved it has neither.
func (c *core) takeOver(next *core) (ended []*node, err error) {
	for _, o := range c.nodes {
		if next.sameNode(o) != nil {
			continue
		}
		for len(o.live) > 0 {
			o.retire(o.live[0].state.Number)
		}
		for len(o.state.Epochs) > 0 {
			o.state.Retire(o.state.Epochs[0].Number)
		}
		ended = append(ended, o)
	}
	for _, s := range next.streams {
		s.flag(s.flags) // also where its times are new
	}
	for _, s := range next.streams {
		reports, err := s.gaps.Retune(s.WindowSize, s.Period, next.reports[:0])
		if err != nil {
			return ended, fmt.Errorf("stream %d: %w", s.ID, err)
		}
		next.collect(s, reports)
	}
	next.dirty = true
	return ended, nil
}
