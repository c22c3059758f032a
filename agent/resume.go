// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

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

// layoutOf identifies what gives the slots and indexes of the pinned tables their meaning. Pinned maps of another layout are
// not opened.
func layoutOf(set *policy.Set) ([32]byte, error) {
	type stream struct {
		_      struct{} `cbor:",toarray"`
		ID     uint32
		Node   int
		Iface  uint8
		CANID  uint32
		Role   uint8
		Window int
	}
	var nodes [][32]byte
	for _, n := range set.Nodes {
		nodes = append(nodes, n.BindingHash)
	}
	var streams []stream
	for _, s := range set.Streams {
		streams = append(streams, stream{ID: s.ID, Node: s.Node, Iface: s.Interface.Index, CANID: uint32(s.CANID), Role: uint8(s.Role), Window: s.WindowSize})
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return [32]byte{}, fmt.Errorf("make encoder of table layout: %w", err)
	}
	b, err := mode.Marshal([]any{"cellward tables 1", nodes, streams})
	if err != nil {
		return [32]byte{}, fmt.Errorf("encode table layout: %w", err)
	}
	return sha256.Sum256(b), nil
}

// resume takes up the epochs of the state file. fresh says that the pinned tables were just created: the gateway has booted,
// and what the windows knew is gone. Of an epoch that was used before, nothing is accepted then but what lies above the
// ceilings; without them it is refused, because nobody can tell a replay from a new frame any more.
//
// The caller makes the refusals durable, marks the tables as ready, and then has the epochs marked as used (markUsed).
func (c *core) resume(state *epoch.State, set *policy.Set, fresh bool, now, wall, limit int64) ([]refusal, error) {
	c.fresh = fresh
	var refused []refusal
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

func (n *node) openWindows(ceilings map[uint32]uint64, fresh bool) error {
	used := slices.ContainsFunc(n.state.Epochs, func(e *epoch.Epoch) bool { return e.Used })
	reference := n.verified
	if k := len(n.live); k > 0 {
		reference = max(reference, n.live[k-1].state.Base)
	}
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
