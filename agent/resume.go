// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// refusal is an epoch of the state file that is not taken up.
type refusal struct {
	node   string
	epoch  uint32
	reason string
}

// resume takes up the epochs of the state file. fresh says that the pinned tables were just created: the gateway has booted,
// and what the windows knew is gone. Of an epoch that was used before, nothing is accepted then but what lies above the
// ceilings; without them it is refused, because nobody can tell a replay from a new frame any more.
//
// The caller makes the refusals durable, marks the tables as ready, and then has the epochs marked as used (markUsed).
func (c *core) resume(state *epoch.State, set *policy.Set, fresh bool, now, wall, limit int64) ([]refusal, error) {
	c.fresh = fresh
	refused := c.dropStrangers()
	for i, n := range c.nodes {
		n.verified = max(n.state.Verified, n.known.HighestVerified.Load())
		n.known.HighestVerified.Store(n.verified)
		keep := n.state.Epochs[:0:0]
		for _, e := range n.state.Epochs {
			reason := ""
			switch {
			case wall-e.Agreed*1e9 > limit:
				reason = "the key is beyond its hard limit"
			case e.BindingHash != set.Nodes[i].BindingHash:
				reason = "the node's part of the binding has changed"
			case fresh && e.Used && state.Ceilings == nil:
				reason = "the replay windows were lost, and there are no ceilings"
			}
			if reason != "" {
				refused = append(refused, refusal{n.name, e.Number, reason})
				e.PRK.Free()
				continue
			}
			keep = append(keep, e)
		}
		n.state.Epochs = keep
		n.closeOthers()
		for _, e := range keep {
			if err := n.accept(c.engine, e, now, wall); err != nil {
				return nil, err
			}
		}
		if err := n.openWindows(state.Ceilings, fresh); err != nil {
			return nil, err
		}
		n.state.Verified = n.verified
	}
	return refused, nil
}

// dropStrangers ends the epochs of nodes that the binding does not have. Their ceilings are not kept, so nobody could tell a
// replay from a new frame if the node came back with the same epoch. Floor and highest counter of the node stay.
func (c *core) dropStrangers() (refused []refusal) {
	for _, n := range c.state.Nodes {
		if slices.ContainsFunc(c.nodes, func(x *node) bool { return x.state == n }) {
			continue
		}
		for _, e := range n.Epochs {
			refused = append(refused, refusal{n.Kid.String(), e.Number, "the node is not in the binding"})
			e.PRK.Free()
		}
		n.Epochs = nil
	}
	return refused
}

// markUsed notes that frames may be accepted under every epoch from now on, up to ceilings ahead of the windows. The caller makes
// that durable before a frame is accepted.
func (c *core) markUsed() {
	for _, n := range c.nodes {
		for _, e := range n.state.Epochs {
			e.Used = true
		}
	}
	c.begin()
	c.note()
}

// closeOthers takes epochs out of the filter's table that the state does not have: they were retired while no agent ran.
func (n *node) closeOthers() {
	for i := range loader.NodeEpochs {
		number, base, live := n.table.Load(i)
		wanted := slices.ContainsFunc(n.state.Epochs, func(e *epoch.Epoch) bool { return e.Number == number && e.Base == base })
		if live && !wanted {
			n.table.Retire(i)
			n.known.Epoch(i).Reset(0)
		}
	}
}

// reference is a counter near those of the node's epochs.
func (n *node) reference() uint64 {
	if k := len(n.live); k > 0 {
		return max(n.verified, n.live[k-1].state.Base)
	}
	return n.verified
}

func (n *node) openWindows(ceilings map[uint32]uint64, fresh bool) error {
	used := slices.ContainsFunc(n.state.Epochs, func(e *epoch.Epoch) bool { return e.Used })
	reference := n.reference()
	for _, s := range n.streams {
		if fresh && used {
			// A stream that the note does not name has sent nothing that anybody remembers; the node's highest counter is
			// then the safe bound.
			top, ok := ceilings[s.ID]
			if !ok {
				top = n.verified
			}
			replay.Fill(&s.shared.Words, top)
		}
		if err := s.openWindow(reference); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	return nil
}
