// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"path/filepath"
	"testing"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
)

// TestRingTakesEveryGoodBinding makes a ring of the streams of every binding that the documents' own tests call good.
func TestRingTakesEveryGoodBinding(t *testing.T) {
	files, err := filepath.Glob("policy/testdata/good/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("good documents: %v, %v", files, err)
	}
	made := 0
	for _, f := range files {
		b, err := policy.LoadBinding(f)
		if err != nil {
			continue // a policy
		}
		var streams []ring.Stream
		for _, n := range b.Nodes {
			for _, s := range n.Streams {
				iface := policy.Interface{Name: s.Interface}
				streams = append(streams, ringStream(&policy.ResolvedStream{ID: s.StreamID, Interface: iface, CANID: s.CANID, Signals: s.Signals}))
			}
		}
		p, err := ring.NewProducer(ring.Config{Streams: streams, Slots: 64})
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		made++
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if made == 0 {
		t.Fatal("no binding among the good documents")
	}
}

func TestRingSignals(t *testing.T) {
	mux := func(signal string, values ...uint32) *policy.Multiplexor {
		return &policy.Multiplexor{Signal: signal, Values: values}
	}
	got := ringSignals([]policy.Signal{
		{Name: "value", StartBit: 16, Length: 8, Multiplexor: mux("page", 5)},
		{Name: "page", StartBit: 8, Length: 8, Multiplexor: mux("m", 1, 2)},
		{Name: "m", Length: 8},
	})
	type entry struct {
		name, multiplexor string
		value             uint32
	}
	want := []entry{{"m", "", 0}, {"page", "m", 1}, {"page@2", "m", 2}, {"value", "page", 5}, {"value@2", "page@2", 5}}
	if len(got) != len(want) {
		t.Fatalf("%d entries: %+v", len(got), got)
	}
	for i, g := range got {
		if (entry{g.Name, g.Multiplexor, g.MuxValue}) != want[i] {
			t.Errorf("entry %d is %+v, want %+v", i, g, want[i])
		}
	}
}
