// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// errNoRoom says that the tables cannot hold streams or nodes of the old and the new documents side by side.
var errNoRoom = errors.New("the filter's tables have no room for the old and the new at one time; apply it in two steps")

// placement says where streams and nodes of a set stand in the pinned tables. It outlives documents: what they do not change
// keeps its place, so its windows, starts and keys go on. The positions of the set itself change with every document.
type placement struct {
	slots []int // of the windows, by position in Set.Streams
	nodes []int // indexes of epochs and starts, by position in Set.Nodes
}

// streamKey is where the filter meets the frames of a stream.
func streamKey(s *policy.ResolvedStream) loader.StreamKey {
	return loader.StreamKey{Iface: uint32(s.Interface.Index), CANID: uint32(s.CANID)}
}

// entry is what the filter knows of a stream of the set.
func (p *placement) entry(s *policy.ResolvedStream) loader.Stream {
	role := loader.RoleSample
	if s.Role == policy.RoleHeartbeat {
		role = loader.RoleHeartbeat
	}
	return loader.Stream{
		Slot: uint32(p.slots[s.Slot]), StreamID: s.ID, Node: uint32(p.nodes[s.Node]), Carrier: loader.CarrierCANFD, Role: role,
		WindowSize: uint16(s.WindowSize),
	}
}

// allocator gives out the lowest numbers that are not taken.
type allocator struct {
	taken map[int]bool
	next  int
	limit int
}

func newAllocator(limit int) *allocator { return &allocator{taken: make(map[int]bool), limit: limit} }

// take takes a certain number; false: it is not there, or taken.
func (a *allocator) take(n int) bool {
	if n < 0 || n >= a.limit || a.taken[n] {
		return false
	}
	a.taken[n] = true
	return true
}

func (a *allocator) any() (int, error) {
	for ; a.next < a.limit; a.next++ {
		if a.take(a.next) {
			return a.next, nil
		}
	}
	return 0, errNoRoom
}

// unplaced marks what has no place yet.
const unplaced = -1

func newPlacement(set *policy.Set) *placement {
	return &placement{
		slots: slices.Repeat([]int{unplaced}, len(set.Streams)), nodes: slices.Repeat([]int{unplaced}, len(set.Nodes)),
	}
}

// fill gives places to what has none.
func (p *placement) fill(slots, nodes *allocator) error {
	for _, all := range []struct {
		places []int
		from   *allocator
	}{{p.slots, slots}, {p.nodes, nodes}} {
		for i, n := range all.places {
			if n != unplaced {
				continue
			}
			n, err := all.from.any()
			if err != nil {
				return err
			}
			all.places[i] = n
		}
	}
	return nil
}

// placeAmong finds the places of a set's streams and nodes in a stream table that an earlier run has left, and gives others to
// what is not there. Whether the table was made for the same streams and nodes is not seen here: hash says it.
func placeAmong(set *policy.Set, table map[loader.StreamKey]loader.Stream) (*placement, error) {
	p := newPlacement(set)
	slots, nodes := newAllocator(loader.MaxStreams), newAllocator(loader.MaxNodes)
	for i := range set.Streams {
		s := &set.Streams[i]
		e, ok := table[streamKey(s)]
		if !ok || e.StreamID != s.ID {
			continue
		}
		if slots.take(int(e.Slot)) {
			p.slots[i] = int(e.Slot)
		}
		// The first of its streams speaks for a node. Where others say something else the hash will differ.
		if p.nodes[s.Node] == unplaced && nodes.take(int(e.Node)) {
			p.nodes[s.Node] = int(e.Node)
		}
	}
	return p, p.fill(slots, nodes)
}

// placeBeside places a set in tables that hold another one. A node whose part of the binding is the same, to the bit, keeps its
// index, and its streams their slots. Everything else gets places that the old set does not use: while the filter still judges
// by old entries, and records that name old slots are on their way, nothing new may be found under them.
func placeBeside(old *policy.Set, at *placement, set *policy.Set) (*placement, error) {
	p := newPlacement(set)
	slots, nodes := newAllocator(loader.MaxStreams), newAllocator(loader.MaxNodes)
	for _, n := range at.slots {
		slots.take(n)
	}
	for _, n := range at.nodes {
		nodes.take(n)
	}
	for i := range set.Nodes {
		n := &set.Nodes[i]
		was := sameNode(old, n)
		if was == nil {
			continue
		}
		p.nodes[i] = at.nodes[was.Index]
		for _, slot := range n.Slots {
			s, _ := old.Stream(set.Streams[slot].ID) // the hash covers the ids
			p.slots[slot] = at.slots[s.Slot]
		}
	}
	return p, p.fill(slots, nodes)
}

// sameNode returns the node of a set whose part of the binding is that of n, or nil. The hash covers the name, the key, and where
// each stream travels and whose data it carries, so a node with the same hash means the same by every frame.
func sameNode(set *policy.Set, n *policy.ResolvedNode) *policy.ResolvedNode {
	if was, ok := set.Node(n.Name); ok && was.BindingHash == n.BindingHash {
		return &was
	}
	return nil
}

// hash identifies what gives the slots and indexes of the pinned tables their meaning. It does not depend on the order of
// documents. Sizes of windows are not in it: the words are those of any size.
func (p *placement) hash(set *policy.Set) ([32]byte, error) {
	type node struct {
		_           struct{} `cbor:",toarray"`
		Index       int
		BindingHash [32]byte
	}
	type stream struct {
		_     struct{} `cbor:",toarray"`
		ID    uint32
		Slot  int
		Node  int
		Iface uint8
		CANID uint32
		Role  uint8
	}
	var nodes []node
	for i, n := range set.Nodes {
		nodes = append(nodes, node{Index: p.nodes[i], BindingHash: n.BindingHash})
	}
	slices.SortFunc(nodes, func(a, b node) int { return cmp.Compare(a.Index, b.Index) })
	var streams []stream
	for i, s := range set.Streams {
		streams = append(streams, stream{
			ID: s.ID, Slot: p.slots[i], Node: p.nodes[s.Node], Iface: s.Interface.Index, CANID: uint32(s.CANID), Role: uint8(s.Role),
		})
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return [32]byte{}, fmt.Errorf("make encoder of table layout: %w", err)
	}
	b, err := mode.Marshal([]any{"cellward tables 2", nodes, streams})
	if err != nil {
		return [32]byte{}, fmt.Errorf("encode table layout: %w", err)
	}
	return sha256.Sum256(b), nil
}
