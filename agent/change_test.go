// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/loader"
)

// edited returns a set with the documents of another one, changed.
func edited(t testing.TB, set *policy.Set, edit func(p *policy.Policy, b *policy.Binding)) *policy.Set {
	t.Helper()
	texts := make([][]byte, 2)
	var err error
	for i, d := range []policy.Document{set.Policy, set.Binding} {
		if texts[i], err = policy.Marshal(d); err != nil {
			t.Fatal(err)
		}
	}
	p, err := policy.ParsePolicy("policy", texts[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := policy.ParseBinding("binding", texts[1])
	if err != nil {
		t.Fatal(err)
	}
	edit(p, b)
	for i, d := range []policy.Document{p, b} {
		if texts[i], err = policy.Marshal(d); err != nil {
			t.Fatal(err)
		}
	}
	next, err := policy.ParseSet(policy.File{Name: "policy", Data: texts[0]}, policy.File{Name: "binding", Data: texts[1]})
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// withAux adds a node whose name and streams come before those that are there.
func withAux(id policy.Identity, streams ...policy.CANID) func(*policy.Policy, *policy.Binding) {
	return func(_ *policy.Policy, b *policy.Binding) {
		n := policy.Node{Name: "aux", Identity: id, Heartbeats: []policy.Heartbeat{{StreamID: 3, Interface: "can0", CANID: 0x500}}}
		for i, c := range streams {
			n.Streams = append(n.Streams, policy.Stream{StreamID: uint32(4 + i), Interface: "can0", CANID: c, Source: "cells"})
		}
		b.Nodes = append(b.Nodes, n)
	}
}

// newWideRig is newRig with room in the tables.
func newWideRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	r.tables = Tables{
		Windows: make([]loader.Window, 64), Epochs: make([]loader.EpochTable, 16), Starts: make([]loader.StartTable, 16), Counters: make([]loader.Counters, 3),
	}
	r.at = dense(t, r.set)
	r.boot(true)
	return r
}

// become makes the core go on by other documents, as Agent.change does.
func (r *rig) become(set *policy.Set) (ended []*node) {
	r.t.Helper()
	at, err := placeBeside(r.set, r.at, set)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, slot := range at.slots {
		if !slices.Contains(r.at.slots, slot) {
			r.tables.Windows[slot] = loader.Window{}
		}
	}
	for _, n := range at.nodes {
		if !slices.Contains(r.at.nodes, n) {
			r.tables.Epochs[n], r.tables.Starts[n] = loader.EpochTable{}, loader.StartTable{}
		}
	}
	next, err := r.core.successor(set, at, r.sink)
	if err != nil {
		r.t.Fatal(err)
	}
	if ended, err = r.core.takeOver(next); err != nil {
		r.t.Fatal(err)
	}
	r.core, r.set, r.at = next, set, at
	return ended
}

// sender starts the node of a rig.
func sender(t testing.TB, r *rig) func(id uint32, body ...byte) sent {
	t.Helper()
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	r.mustFeed(r.wire.take()...)
	return func(id uint32, body ...byte) sent {
		r.seal(s, "can0", id, body...)
		return r.wire.take()[0]
	}
}

// TestChangeKeepsStreams changes documents between two frames, with names and ids that move every position. The stream goes on:
// nothing is lost, nothing comes out twice, and readers find it at its new place.
func TestChangeKeepsStreams(t *testing.T) {
	r := newWideRig(t)
	seal := sender(t, r)
	aux := testIdentity(t)
	first := r.set
	edits := []func(*policy.Policy, *policy.Binding){
		withAux(aux, 0x501, 0x502),
		withAux(aux, 0x502),
		func(p *policy.Policy, b *policy.Binding) { p.Transport.ReplayProtection.WindowSize = 64 },
		func(p *policy.Policy, b *policy.Binding) {
			b.Nodes[0].Streams[0].SamplingRate = policy.RateOf(time.Second)
		},
		func(*policy.Policy, *policy.Binding) {},
	}
	var old []sent
	for round := range 20 {
		var frames []sent
		for i := range 7 {
			frames = append(frames, seal(0x100, byte(round), byte(i)))
		}
		before, published := r.verdicts(), len(r.sink.samples)
		r.mustFeed(frames[:4]...)
		if ended := r.become(edited(t, first, edits[round%len(edits)])); len(ended) > 1 || len(ended) == 1 && ended[0].name != "aux" {
			t.Fatalf("round %d: ended %v", round, ended)
		}
		r.mustFeed(frames[4:]...)
		r.expect(before, verdicts{loader.Accepted: 7})
		s, _ := r.set.Stream(10)
		for i, x := range r.sink.samples[published:] {
			if x.Flags&ring.FlagGapBefore != 0 || i >= 4 && x.Stream != uint32(s.Slot) {
				t.Fatalf("round %d, sample %d: %+v, the stream is at %d", round, i, x, s.Slot)
			}
		}
		old = append(old, frames...)
		before = r.verdicts()
		r.mustFeed(old...)
		if now := r.verdicts(); now[loader.Accepted] != before[loader.Accepted] {
			t.Fatalf("round %d: %d frames came out twice", round, now[loader.Accepted]-before[loader.Accepted])
		}
	}
	if d := r.core.nodes[len(r.core.nodes)-1].streams[2].gaps; d.Missing()+d.Deleted() != 0 {
		t.Fatalf("missing %d, deleted %d", d.Missing(), d.Deleted())
	}
}

// TestRecordsOnTheirWay looks up records that name the slots of documents before.
func TestRecordsOnTheirWay(t *testing.T) {
	r := newWideRig(t)
	seal := sender(t, r)
	first, aux := r.set, testIdentity(t)
	r.become(edited(t, first, withAux(aux, 0x501)))
	stale := r.recordFor(sent{"can0", seal(0x100, 1).frame}, must(r.set.Stream(4)))
	before := r.verdicts()
	if err := r.core.process([]loader.Record{stale}, false); err != nil {
		t.Fatal(err)
	}
	r.expect(before, verdicts{loader.AgentUnknownEpoch: 1}) // the node has agreed no key

	// The stream is gone, and then its slot is another stream's.
	r.become(first)
	for range 2 {
		before = r.verdicts()
		if err := r.core.process([]loader.Record{stale}, false); err != nil {
			t.Fatal(err)
		}
		r.expect(before, verdicts{loader.AgentUnknownStream: 1})
		r.become(edited(t, first, func(p *policy.Policy, b *policy.Binding) {
			withAux(aux, 0x501)(p, b)
			b.Nodes[1].Streams[0].StreamID = 99
		}))
	}
	if s := r.core.bySlot[stale.Slot()]; s == nil || s.ID == stale.StreamID() {
		t.Fatal("the slot was not given to another stream")
	}
}

func must(s policy.ResolvedStream, _ bool) policy.ResolvedStream { return s }

// TestChangedNodeNeedsAnAgreement changes what the binding hash covers: the node's epochs end in filter, agent and state, at once,
// and do not come back with the old documents.
func TestChangedNodeNeedsAnAgreement(t *testing.T) {
	r := newWideRig(t)
	seal := sender(t, r)
	r.mustFeed(seal(0x100, 1))
	verified := r.core.nodes[0].verified
	first, index := r.set, r.at.nodes[0]
	inFlight, _ := r.record(seal(0x100, 2))
	if ended := r.become(edited(t, first, func(_ *policy.Policy, b *policy.Binding) { b.Nodes[0].Streams[0].CANID = 0x123 })); len(ended) != 1 {
		t.Fatalf("ended: %v", ended)
	}
	for i := range loader.NodeEpochs {
		if _, _, live := r.tables.Epochs[index].Load(i); live {
			t.Fatal("the filter still accepts the epoch")
		}
	}
	if n := r.state.Nodes[0]; len(n.Epochs) != 0 || n.Verified != verified || r.core.nodes[0].verified != verified || n.Floor != 1 || !r.core.dirty {
		t.Fatalf("state %+v, verified %d, want %d", n, r.core.nodes[0].verified, verified)
	}
	before := r.verdicts()
	if err := r.core.process([]loader.Record{inFlight}, false); err != nil {
		t.Fatal(err)
	}
	r.expect(before, verdicts{loader.AgentUnknownStream: 1})
	r.become(first)
	before = r.verdicts()
	r.mustFeed(seal(0x100, 3))
	r.expect(before, verdicts{loader.AgentUnknownEpoch: 1})
}

// TestNewAgreementAfterAChange agrees a key for a node that documents have changed: it is heard at its new places, and nothing of
// before is.
func TestNewAgreementAfterAChange(t *testing.T) {
	r := newWideRig(t)
	seal := sender(t, r)
	old := seal(0x101, 1)
	r.mustFeed(old)
	r.become(edited(t, r.set, func(_ *policy.Policy, b *policy.Binding) { b.Nodes[0].Streams[0].CANID = 0x123 }))
	r.agree(2, 2*65536+1)
	if refused := r.boot(false); len(refused) != 0 {
		t.Fatalf("refused: %v", refused)
	}
	seal = sender(t, r)
	before, published := r.verdicts(), len(r.sink.samples)
	r.mustFeed(old, seal(0x123, 2), seal(0x101, 3))
	r.expect(before, verdicts{loader.AgentUnknownEpoch: 1, loader.Accepted: 2})
	for i, id := range []uint32{10, 11} {
		if x := r.sink.samples[published+i]; r.set.Streams[x.Stream].ID != id || x.Epoch != 2 {
			t.Errorf("sample %d: %+v", i, x)
		}
	}
}

// TestWiderWindowForgetsNothing makes the window narrow and wide again: what was seen stays seen.
func TestWiderWindowForgetsNothing(t *testing.T) {
	r := newWideRig(t)
	seal := sender(t, r)
	wide := r.set
	narrow := edited(t, wide, func(p *policy.Policy, _ *policy.Binding) { p.Transport.ReplayProtection.WindowSize = 64 })
	var frames []sent
	for range 700 {
		frames = append(frames, seal(0x100, 1))
	}
	r.mustFeed(frames[:300]...)
	r.become(narrow)
	r.mustFeed(frames[310:]...) // ten never came, and are behind the narrow window
	before := r.verdicts()
	r.mustFeed(frames[300:310]...)
	r.expect(before, verdicts{loader.AgentTooOld: 10})
	r.become(wide)
	before = r.verdicts()
	r.mustFeed(frames...)
	r.expect(before, verdicts{loader.Accepted: 10, loader.AgentReplay: 690})
}

// TestStrangersEnd starts an agent by documents without a node, and then with it again: its epoch does not come back.
func TestStrangersEnd(t *testing.T) {
	r := newWideRig(t)
	seal := sender(t, r)
	f := seal(0x100, 1)
	r.mustFeed(f)
	with := r.set
	aux := testIdentity(t)
	r.set = edited(t, with, func(p *policy.Policy, b *policy.Binding) { withAux(aux, 0x501)(p, b); b.Nodes = b.Nodes[1:] })
	r.at = dense(t, r.set)
	if refused := r.boot(true); len(refused) != 1 || !strings.Contains(refused[0].reason, "not in the binding") {
		t.Fatalf("refused: %v", refused)
	}
	r.set, r.at = with, dense(t, with)
	r.tables.Windows = make([]loader.Window, 64)
	r.boot(true)
	before := r.verdicts()
	r.mustFeed(f)
	r.expect(before, verdicts{loader.AgentUnknownEpoch: 1})
}

// entries is the filter's table for a set.
func entries(set *policy.Set, at *placement) map[loader.StreamKey]loader.Stream {
	all := make(map[loader.StreamKey]loader.Stream)
	for i := range set.Streams {
		s := &set.Streams[i]
		all[streamKey(s)] = at.entry(s)
	}
	return all
}

// TestPlacesAcrossDocuments walks through random documents. After each change, what stayed keeps its place, nothing shares one, and
// nothing new stands where something old stood. For a kill at every step of the change, the next start by the old or the new
// documents either finds every place as it is, or sees that it cannot rely on the tables.
func TestPlacesAcrossDocuments(t *testing.T) {
	base := testSet(t)
	ids := []policy.Identity{testIdentity(t), testIdentity(t), testIdentity(t)}
	rapid.Check(t, func(rt *rapid.T) {
		set, at := base, dense(t, base)
		for range rapid.IntRange(1, 5).Draw(rt, "documents") {
			next := edited(t, base, func(_ *policy.Policy, b *policy.Binding) { randomNodes(rt, b, ids) })
			to, err := placeBeside(set, at, next)
			if err != nil {
				rt.Fatal(err)
			}
			checkPlaces(rt, set, at, next, to)
			checkKills(rt, set, at, next, to)
			set, at = next, to
		}
	})
}

// randomNodes adds nodes with a few streams out of a small world, so that ids and identifiers change hands.
func randomNodes(t *rapid.T, b *policy.Binding, ids []policy.Identity) {
	stream, can := uint32(20), policy.CANID(0x200)
	for i, id := range ids {
		if !rapid.Bool().Draw(t, "node") {
			continue
		}
		stream += uint32(rapid.IntRange(0, 1).Draw(t, "stream"))
		can += policy.CANID(rapid.IntRange(0, 1).Draw(t, "id"))
		n := policy.Node{Name: fmt.Sprintf("n%d", i), Identity: id, Heartbeats: []policy.Heartbeat{{StreamID: stream, Interface: "can0", CANID: can}}}
		for range rapid.IntRange(1, 3).Draw(t, "streams") {
			stream, can = stream+1, can+1
			n.Streams = append(n.Streams, policy.Stream{StreamID: stream, Interface: "can0", CANID: can, Source: "cells"})
		}
		stream, can = stream+1, can+1
		b.Nodes = append(b.Nodes, n)
	}
}

func checkPlaces(t *rapid.T, set *policy.Set, at *placement, next *policy.Set, to *placement) {
	for _, p := range [][]int{to.slots, to.nodes} {
		sorted := slices.Sorted(slices.Values(p))
		if len(slices.Compact(sorted)) != len(p) || len(p) > 0 && slices.Min(p) < 0 {
			t.Fatalf("places %v", p)
		}
	}
	for i := range next.Streams {
		s := &next.Streams[i]
		n := &next.Nodes[s.Node]
		was := sameNode(set, n)
		if was == nil {
			if slices.Contains(at.slots, to.slots[i]) || slices.Contains(at.nodes, to.nodes[s.Node]) {
				t.Fatalf("stream %d of node %s stands where something stood", s.ID, n.Name)
			}
			continue
		}
		o, _ := set.Stream(s.ID)
		if at.slots[o.Slot] != to.slots[i] || at.nodes[was.Index] != to.nodes[s.Node] {
			t.Fatalf("stream %d of node %s has moved", s.ID, n.Name)
		}
	}
}

// checkKills makes every state of table and hash in which a kill can leave them.
func checkKills(t *rapid.T, set *policy.Set, at *placement, next *policy.Set, to *placement) {
	hash := func(s *policy.Set, p *placement) [32]byte {
		h, err := p.hash(s)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	before, after := hash(set, at), hash(next, to)
	table := entries(set, at)
	type moment struct {
		table map[loader.StreamKey]loader.Stream
		hash  [32]byte
	}
	moments := []moment{{maps.Clone(table), before}}
	for i := range next.Streams {
		s := &next.Streams[i]
		table[streamKey(s)] = to.entry(s)
		moments = append(moments, moment{maps.Clone(table), before})
	}
	moments = append(moments, moment{maps.Clone(table), after})
	wanted := entries(next, to)
	for key := range maps.Clone(table) {
		if _, ok := wanted[key]; !ok {
			delete(table, key)
			moments = append(moments, moment{maps.Clone(table), after})
		}
	}
	for i, m := range moments {
		for _, x := range []struct {
			set *policy.Set
			at  *placement
		}{{set, at}, {next, to}} {
			p, err := placeAmong(x.set, m.table)
			if err != nil {
				t.Fatal(err)
			}
			// The hash of the one set's places may be that of the other's only where both mean the same.
			if hash(x.set, p) == m.hash && (!slices.Equal(p.slots, x.at.slots) || !slices.Equal(p.nodes, x.at.nodes)) {
				t.Fatalf("moment %d of %d: tables are misread: %v %v, want %v %v", i, len(moments), p.slots, p.nodes, x.at.slots, x.at.nodes)
			}
		}
	}
	last := moments[len(moments)-1]
	if p, err := placeAmong(next, last.table); err != nil || hash(next, p) != last.hash {
		t.Fatalf("the next start does not know its tables: %v", err)
	}
	if p, err := placeAmong(set, moments[0].table); err != nil || hash(set, p) != moments[0].hash {
		t.Fatalf("a start without a change does not know its tables: %v", err)
	}
}

// TestPlacesRunOut fills the tables: two full sets do not stand side by side.
func TestPlacesRunOut(t *testing.T) {
	set := testSet(t)
	at := newPlacement(set)
	for i := range at.slots {
		at.slots[i] = i
	}
	at.nodes[0] = 0
	for i := len(at.slots); i < loader.MaxStreams-1; i++ {
		at.slots = append(at.slots, i)
	}
	next := edited(t, set, func(_ *policy.Policy, b *policy.Binding) { b.Nodes[0].Streams[0].CANID = 0x123 })
	if _, err := placeBeside(set, at, next); !errors.Is(err, errNoRoom) {
		t.Fatalf("got %v", err)
	}
	if _, err := placeBeside(set, at, set); err != nil {
		t.Fatal(err)
	}
}

// TestCompare names what documents change, and what a running agent cannot change.
func TestCompare(t *testing.T) {
	set := testSet(t)
	for _, c := range []struct {
		name string
		edit func(*policy.Policy, *policy.Binding)
		want string
	}{
		{"nothing", func(*policy.Policy, *policy.Binding) {}, "kept 5/1"},
		{"interval", func(p *policy.Policy, _ *policy.Binding) { p.KeyManagement.RotationPolicy.Interval = time.Hour }, "kept 5/1 parameters 1"},
		{"window", func(p *policy.Policy, _ *policy.Binding) { p.Transport.ReplayProtection.WindowSize = 64 }, "changed 5 kept 0/1 parameters 1"},
		{"sensitivity", func(p *policy.Policy, _ *policy.Binding) { p.DataSources[1].Sensitivity = policy.Low }, "changed 1 kept 4/1 ring"},
		{"rate", func(p *policy.Policy, _ *policy.Binding) { p.DataSources[0].SamplingRate = policy.RateOf(time.Second) }, "changed 2 kept 3/1 ring"},
		{"signals", func(_ *policy.Policy, b *policy.Binding) {
			b.Nodes[0].Streams[1].Signals = []policy.Signal{{Name: "i", Length: 8, ByteOrder: policy.LittleEndian, Scale: 1}}
		}, "changed 1 kept 4/1 ring"},
		{"slots", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.Ring.Slots = 2048 }, "kept 5/1 parameters 1 ring"},
		{"ring socket", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.Ring.Socket = "/run/other.sock" }, "kept 5/1 parameters 1 ring"},
		{"stream more", func(_ *policy.Policy, b *policy.Binding) {
			b.Nodes[0].Streams = append(b.Nodes[0].Streams, policy.Stream{StreamID: 13, Interface: "can1", CANID: 0x101, Source: "cells"})
		}, "added 1 changed 5 kept 0/0 agreements 1 ring"},
		{"stream less", func(_ *policy.Policy, b *policy.Binding) { b.Nodes[0].Streams = b.Nodes[0].Streams[1:] }, "removed 1 changed 4 kept 0/0 agreements 1 confirm 1 ring"},
		{"stream of another node", func(_ *policy.Policy, b *policy.Binding) { b.Nodes[0].Name = "bmv" }, "added 5 removed 5 kept 0/0 agreements 1"},
		{"interface away", func(_ *policy.Policy, b *policy.Binding) {
			b.Interfaces, b.Nodes[0].Heartbeats, b.Nodes[0].Streams = b.Interfaces[:1], b.Nodes[0].Heartbeats[:1], b.Nodes[0].Streams[:2]
		}, "removed 2 changed 3 kept 0/0 agreements 1 confirm 2 interfaces 1 ring"},
		{"state", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.StateDirectory = "/other" }, "kept 5/1 refused spec.gateway.stateDirectory"},
		{"TPM", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.TPM = "/dev/tpm1" }, "kept 5/1 refused spec.gateway.tpm"},
		{"bpffs", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.BPFFS = "/sys/fs/bpf/other" }, "kept 5/1 refused spec.gateway.bpffs"},
		{"identity", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.Identity = testIdentity(t) }, "kept 5/1 refused spec.gateway.identity"},
		{"candidates", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.CandidateRing = 1 << 21 }, "kept 5/1 refused spec.gateway.candidateRing"},
		{"group", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.Ring.Group = "can" }, "kept 5/1 refused spec.gateway.ring.group"},
		{"control", func(_ *policy.Policy, b *policy.Binding) { b.Gateway.Control.Socket = "/run/c.sock" }, "kept 5/1 refused spec.gateway.control.socket"},
		{"device", func(_ *policy.Policy, b *policy.Binding) {
			b.Interfaces[1].Name = "can5"
			b.Nodes[0].Heartbeats[1].Interface, b.Nodes[0].Streams[2].Interface = "can5", "can5"
		}, "changed 2 kept 3/1 ring refused spec.interfaces"},
	} {
		if got := inShort(compare(set, edited(t, set, c.edit))); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func inShort(x *Change) string {
	var b strings.Builder
	count := func(name string, n int) {
		if n > 0 {
			fmt.Fprintf(&b, "%s %d ", name, n)
		}
	}
	count("added", len(x.Streams.Added))
	count("removed", len(x.Streams.Removed))
	count("changed", len(x.Streams.Changed))
	fmt.Fprintf(&b, "kept %d/%d ", x.Streams.Kept, x.Nodes.Kept)
	count("parameters", len(x.Parameters))
	count("agreements", len(x.Agreements))
	count("confirm", len(x.Confirm))
	count("interfaces", len(x.Interfaces.Added)+len(x.Interfaces.Removed))
	if x.RingReplaced {
		b.WriteString("ring ")
	}
	for _, r := range x.Refused {
		name, _, _ := strings.Cut(r, ":")
		b.WriteString("refused " + name + " ")
	}
	return strings.TrimSpace(b.String())
}

// TestShorterLimitIsConfirmed shortens the life of keys below the age of one that is in use.
func TestShorterLimitIsConfirmed(t *testing.T) {
	r := newRig(t)
	x := compare(r.set, r.set)
	x.noteEpochs(r.core, r.set, r.now, time.Now().Add(time.Hour).UnixNano(), int64(time.Minute))
	if len(x.Confirm) != 1 || !strings.Contains(x.Confirm[0], "epoch 1 is older") {
		t.Fatalf("confirm: %v", x.Confirm)
	}
}

// TestPowerCutsInApply cuts the power at every step of a life in which documents change the node. Afterwards the agent starts by
// the old documents or by the new ones, without windows, and of everything that was on the wire nothing comes out again.
func TestPowerCutsInApply(t *testing.T) {
	whole := newWorld(t, -1)
	if err := whole.changing(); err != nil {
		t.Fatal(err)
	}
	cuts := 0
	for cut := range whole.power.steps {
		for round := range 4 {
			w := newWorld(t, cut)
			first := w.set
			if err := w.changing(); !w.power.off {
				t.Fatalf("cut at %d: the power was never cut: %v", cut, err)
			}
			w.collect()
			w.wireLog = append(w.wireLog, w.wire.take()...)
			w.power.off, w.power.cut = false, -1
			rng := rand.New(rand.NewPCG(uint64(cut), uint64(round)))
			w.gateway.crash(rng)
			if round%2 == 0 {
				w.set = first
			}
			for range 2 { // and once more: the first start may have ended an epoch
				w.at = dense(t, w.set)
				w.wide()
				if err := w.openStore(); err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				w.mayRefuse = true
				if err := w.startAgent(true); err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				var known []sent
				for _, f := range w.wireLog {
					if slices.ContainsFunc(w.set.Streams, func(s policy.ResolvedStream) bool {
						return s.Interface.Name == f.iface && uint32(s.CANID) == f.frame.ID
					}) {
						known = append(known, f)
					}
				}
				if err := w.feed(false, known...); err != nil {
					t.Fatal(err)
				}
				w.collect() // fails where something came out twice
				w.set = first
			}
			cuts++
		}
	}
	t.Logf("%d cuts at %d steps", cuts, whole.power.steps)
}

func (w *world) wide() {
	w.tables = Tables{
		Windows: make([]loader.Window, 64), Epochs: make([]loader.EpochTable, 16), Starts: make([]loader.StartTable, 16), Counters: make([]loader.Counters, 3),
	}
}

// changing is enrolment, operation, documents that change the node and then take the change back, and a clean stop.
func (w *world) changing() error {
	first := w.set
	w.wide()
	w.at = dense(w.t, w.set)
	for _, s := range []func() error{
		w.openStore, w.enrol,
		func() error { return w.startAgent(true) },
		w.startNode,
		func() error { return w.samples(130) },
		func() error { return w.save(w.become(edited(w.t, first, withAux(testIdentity(w.t), 0x501)))) },
		func() error { return w.samples(30) },
		func() error {
			return w.save(w.become(edited(w.t, first, func(_ *policy.Policy, b *policy.Binding) { b.Nodes[0].Streams[1].CANID = 0x123 })))
		},
		func() error { return w.save(w.become(first)) },
		w.cleanStop,
	} {
		if err := s(); err != nil {
			return err
		}
		if w.power.off {
			return errPower
		}
	}
	return nil
}

func (w *world) save([]*node) error {
	w.core.note()
	return w.store.Save(w.state)
}

// FuzzDocumentsRequest reads arbitrary bytes as a request of the control socket: it never panics, and what is accepted is whole.
func FuzzDocumentsRequest(f *testing.F) {
	set := testSet(f)
	p, err := policy.Marshal(set.Policy)
	if err != nil {
		f.Fatal(err)
	}
	b, err := policy.Marshal(set.Binding)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(testPolicy), b, `{"dry_run":true}`)
	f.Add(p, b, "")
	f.Add(p, b, `{} {}`)
	f.Add([]byte{0xFF}, []byte("?"), `{"policy":{"name":"a","data":"!"}}`)
	f.Fuzz(func(t *testing.T, p, b []byte, raw string) {
		for _, body := range [][]byte{[]byte(raw), requestOf(t, p, b)} {
			r, set, err := parseDocumentsRequest(body)
			if (err == nil) != (r != nil && set != nil) {
				t.Fatalf("half a request: %v %v %v", r, set, err)
			}
			if err == nil {
				if x := compare(set, set); len(x.Refused)+len(x.Confirm)+len(x.Streams.Changed) != 0 || x.Streams.Kept != len(set.Streams) {
					t.Fatalf("documents differ from themselves: %+v", x)
				}
			}
		}
	})
}

func requestOf(t *testing.T, p, b []byte) []byte {
	t.Helper()
	body, err := json.Marshal(DocumentsRequest{Policy: policy.File{Name: "p", Data: p}, Binding: policy.File{Name: "b", Data: b}})
	if err != nil {
		t.Fatal(err)
	}
	return body
}
