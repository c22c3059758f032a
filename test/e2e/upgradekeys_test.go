// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
)

// TestKeysAfterUpgrade agrees keys with an agent that has taken over, and which has asked the TPM for nothing before; upgrades once more,
// stops, and starts anew: the folder is whole all the time.
func TestKeysAfterUpgrade(t *testing.T) {
	needRoot(t)
	const simulated = 5 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 10_000}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(published uint64) {
		t.Helper()
		wire := l.StartWire(nil)
		edge, err := l.StartEdge("", nil, 0, packInput(simulated)...)
		if err == nil {
			err = edge.Wait()
		}
		if err == nil {
			err = wire.Finish()
		}
		if err != nil {
			t.Fatal(err)
		}
		if s := settled(t, l); s.Published() != published {
			t.Fatalf("%d samples published, want %d", s.Published(), published)
		}
	}
	const each = 1700
	send(each)
	for round := uint64(1); round <= 2; round++ {
		if gateway, err = l.Upgrade(t.Context(), gateway); err != nil {
			t.Fatal(err)
		}
		send(2 * round * each)
		if err := l.Rotate(t.Context()); err != nil {
			t.Fatalf("agree keys after upgrade %d: %v", round, err)
		}
		send((2*round + 1) * each)
	}
	out, err := l.Keys(t.Context(), "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var keys struct {
		Nodes []struct {
			Epochs []struct {
				Epoch uint32 `json:"epoch"`
			} `json:"epochs"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(out, &keys); err != nil || len(keys.Nodes) != 1 || len(keys.Nodes[0].Epochs) == 0 {
		t.Fatalf("keys: %v\n%s", err, out)
	}
	if e := keys.Nodes[0].Epochs; e[len(e)-1].Epoch != 3 {
		t.Errorf("newest epoch %d, want 3", e[len(e)-1].Epoch)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	if gateway, err = l.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	send(6 * each)
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
}
