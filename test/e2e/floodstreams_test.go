// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/loader"
)

// TestFloodAttackIsToldApart floods one protected identifier with frames in the clear, through the filter in the kernel, and puts three on
// another one whose data are of another source. The events have the exact number of each, none speaks of the bus, status has them by stream,
// and the fault names the one source only.
func TestFloodAttackIsToldApart(t *testing.T) {
	needRoot(t)
	const simulated = time.Second
	l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, followerEnds := follow(t, l)
	defer func() {
		gateway.Kill()
		followerEnds()
	}()

	streams := l.Binding().Nodes[0].Streams
	flooded, other := streams[0], streams[0]
	for _, s := range streams {
		if s.Source != flooded.Source {
			other = s
		}
	}
	if other.Source == flooded.Source {
		t.Fatalf("all streams are of %s", flooded.Source)
	}
	sent := make(map[uint32]uint64) // by stream
	write := func(stream uint32, id uint32, n int) {
		for range n {
			if err := l.Buses[0].WriteGateway(&loader.CANFrame{ID: id, Len: 8}, loader.CANMTU); err != nil {
				t.Fatal(err)
			}
			sent[stream]++
		}
	}
	write(flooded.StreamID, flooded.CANID.Number(), 1000)
	write(other.StreamID, other.CANID.Number(), 3)
	until(t, "the fault", func() bool {
		write(flooded.StreamID, flooded.CANID.Number(), 500)
		f, err := faultOf(t, l)
		return err == nil && f.State == "fault"
	})
	total := func(m map[uint32]uint64) (n uint64) {
		for _, x := range m {
			n += x
		}
		return n
	}
	until(t, "all events", func() bool { return got.count(kind.PlaintextOnProtected) >= total(sent) })
	told := make(map[uint32]uint64)
	got.mu.Lock()
	for _, r := range got.all {
		if r.Kind != kind.PlaintextOnProtected {
			continue
		}
		if r.Subject.Scope != event.ScopeStream {
			t.Errorf("an event of the %v: %+v", r.Subject.Scope, r)
		}
		told[r.Stream] += r.Count
	}
	got.mu.Unlock()
	if told[flooded.StreamID] != sent[flooded.StreamID] || told[other.StreamID] != 3 || len(told) != 2 {
		t.Errorf("told %v, sent %v", told, sent)
	}
	f, err := faultOf(t, l)
	if err != nil || len(f.Faults) == 0 {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, x := range f.Faults {
		if (x.Advice != "") != (x.Name == flooded.Source) {
			b, _ := json.Marshal(x)
			t.Errorf("fault %s", b)
		}
	}
	o := overview(t, l)
	for n, s := range o.Streams {
		if s.Refused["plaintext_on_protected"] != sent[s.Stream] || o.Kernel.Streams[n].Refused["plaintext_on_protected"] != sent[s.Stream] {
			t.Errorf("stream %d: refused %v by the agent, %v by the maps, want %d", s.Stream, s.Refused, o.Kernel.Streams[n].Refused, sent[s.Stream])
		}
	}
}
