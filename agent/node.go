// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"

	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// node is one transmitting controller as the pipeline sees it.
type node struct {
	name  string
	hash  [32]byte // of its part of the binding
	state *epoch.Node
	table *loader.EpochTable
	known *loader.StartTable
	// sources are the source ids of the node's streams, heartbeat streams included; streams name them by position.
	sources []uint32
	// heartbeats are the ids of its heartbeat streams, ascending.
	heartbeats []uint32
	streams    []*stream
	// live are the acceptable epochs, ascending by number.
	live []*liveEpoch
	// verified is the highest counter verified from the node on any stream.
	verified uint64
	budget   startBudget
	refusals refusals
}

// stream is one message identifier of one node on one bus.
type stream struct {
	*policy.ResolvedStream
	node *node
	// slot is that of the window in the pinned tables, which the filter's records name; ResolvedStream.Slot is the position in
	// the documents and in the ring's stream table.
	slot   int
	source int
	window *replay.Window
	shared *loader.Window
	gaps   *replay.Gaps
	// epoch is the newest epoch under which a frame of the stream has verified, lowest the lowest counter under it.
	epoch  uint32
	lowest uint64
	lane   *lane // one of the core's
	// flags are those that every sample of the stream has as long as a fault stands; flag sets them.
	flags ring.Flags
	// times is what is known of when its frames come; keepTimes sets it.
	times *detect.Stream
	// heartbeat says that the stream carries heartbeats and start records instead of samples.
	heartbeat bool
}

// verifiedUpTo notes a counter of a frame that has verified.
func (n *node) verifiedUpTo(counter uint64) {
	if counter > n.verified {
		n.verified = counter
		n.known.HighestVerified.Store(counter)
	}
}

// find returns the acceptable epoch with this number, or nil.
func (n *node) find(number uint32) *liveEpoch {
	for _, l := range n.live {
		if l.state.Number == number {
			return l
		}
	}
	return nil
}

// newNodes lays out nodes and streams of a set over the shared tables. Nothing is acceptable yet.
func newNodes(set *policy.Set, at *placement, state *epoch.State, t Tables) ([]*node, []*stream, []lane) {
	nodes := make([]*node, len(set.Nodes))
	for i, r := range set.Nodes {
		index := at.nodes[i]
		nodes[i] = &node{
			name: r.Name, hash: r.BindingHash, state: state.AddNode(identity.Kid(r.Identity.KID)), table: &t.Epochs[index], known: &t.Starts[index],
		}
	}
	streams := make([]*stream, len(set.Streams))
	lanes := make([]lane, slices.Max(slices.Concat(at.slots, []int{-1}))+1)
	for i := range set.Streams {
		r := &set.Streams[i]
		n := nodes[r.Node]
		source := slices.Index(n.sources, r.SourceID)
		if source < 0 {
			source = len(n.sources)
			n.sources = append(n.sources, r.SourceID)
		}
		slot := at.slots[i]
		s := &stream{
			ResolvedStream: r, node: n, slot: slot, source: source, shared: &t.Windows[slot], lane: &lanes[slot],
			heartbeat: r.Role == policy.RoleHeartbeat,
		}
		s.lane.stream = s
		if s.heartbeat {
			n.heartbeats = append(n.heartbeats, r.ID)
		}
		n.streams = append(n.streams, s)
		streams[i] = s
	}
	return nodes, streams, lanes
}

// openWindow takes up the stream's window where the words stand. reference is a counter near those of the node's epochs.
func (s *stream) openWindow(reference uint64) error {
	w, err := replay.New(&s.shared.Words, replay.Options{Size: s.WindowSize, Reference: reference})
	if err != nil {
		return fmt.Errorf("stream %d: %w", s.ID, err)
	}
	// Nothing below the first counter that may still come is a hole: what was missed before is not known here.
	next := w.Highest() + 1
	if k := len(s.node.live); k > 0 {
		next = max(next, s.node.live[k-1].state.Base)
	}
	g, err := replay.NewGaps(replay.GapOptions{Next: next, Window: s.WindowSize, Period: s.Period})
	if err != nil {
		return fmt.Errorf("stream %d: %w", s.ID, err)
	}
	s.window, s.gaps = w, g
	// What the stream has switched to is found again from its counters: an epoch begins at its base.
	for _, l := range s.node.live {
		if w.Highest() >= l.state.Base {
			s.epoch, s.lowest = l.state.Number, l.state.Base
		}
	}
	// Every start that is already known has skipped counters; a start that comes later says so itself.
	for _, l := range s.node.live {
		for _, st := range l.starts {
			s.begins(st.F)
		}
	}
	s.shared.HighestHint.Store(w.Highest())
	return nil
}

// accept makes an epoch acceptable in agent and filter, in a slot of its own. A slot that already holds just this epoch is
// left as it is, so that a restart closes nothing even for an instant.
func (n *node) accept(engine aead.Engine, e *epoch.Epoch, now int64, wall int64) error {
	slot := -1
	for i := range loader.NodeEpochs {
		number, base, live := n.table.Load(i)
		if live && number == e.Number && base == e.Base {
			slot = i
			break
		}
		if !live && slot < 0 {
			slot = i
		}
	}
	if slot < 0 {
		return fmt.Errorf("node %s: no room for epoch %d in the filter's table", n.name, e.Number)
	}
	pinned := n.known.Epoch(slot)
	if pinned.Owner() == e.Number {
		mergeStarts(e, pinned.Known())
	} else {
		pinned.Reset(e.Number)
	}
	// Only what is missing is put there: an agent killed in between must not lose the start that is in use.
	for _, s := range e.Starts {
		if !slices.Contains(first(pinned.Known()), s.F) {
			pinned.Put(loader.Start{First: s.F, Random: s.Random})
		}
	}
	l, err := newLiveEpoch(engine, e, slot, n)
	if err != nil {
		return err
	}
	l.loaded = now
	l.ageAtLoad = max(0, wall-e.Agreed*1e9)
	n.live = append(n.live, l)
	n.forget()
	slices.SortFunc(n.live, func(a, b *liveEpoch) int { return int(int64(a.state.Number) - int64(b.state.Number)) })
	return n.table.Publish(slot, e.Number, e.Base)
}

func first(known [2]loader.Start) []uint64 { return []uint64{known[0].First, known[1].First} }

// mergeStarts adds the starts that an earlier run has left in the pinned maps to those of the state file: whichever was
// written last knows more, and a start that either forgot would let a rolled-back node in again.
func mergeStarts(e *epoch.Epoch, pinned [2]loader.Start) {
	for _, p := range pinned {
		if p.First == 0 || slices.ContainsFunc(e.Starts, func(s epoch.Start) bool { return s.F == p.First }) {
			continue
		}
		e.Starts = append(e.Starts, epoch.Start{F: p.First, Random: p.Random})
	}
	slices.SortFunc(e.Starts, func(a, b epoch.Start) int { return int(int64(a.F) - int64(b.F)) })
	if n := len(e.Starts); n > epoch.KnownStarts {
		e.Starts = slices.Delete(e.Starts, 0, n-epoch.KnownStarts)
	}
}

// retire ends an epoch: the filter refuses it first, then its keys are wiped.
func (n *node) retire(number uint32) {
	for i, l := range n.live {
		if l.state.Number == number {
			n.table.Retire(l.slot)
			n.known.Epoch(l.slot).Reset(0)
			l.wipe()
			n.live = slices.Delete(n.live, i, i+1)
			n.forget()
			break
		}
	}
	n.state.Retire(number)
}
