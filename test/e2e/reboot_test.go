// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// TestReboot stops the agent, takes everything pinned away as a reboot does, kills the next agents in the middle of their start,
// and then sends a recording of everything once more: nothing of it comes out again.
func TestReboot(t *testing.T) {
	needRoot(t)
	const simulated = 2 * time.Second
	for _, c := range []struct {
		name  string
		clean bool
	}{{"clean stop", true}, {"killed", false}} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, demo.LabOptions{Frames: 20_000}, simulated)
			gateway, err := l.StartAgent(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var onWire []recorded
			wire := l.StartWire(func(bus int, f *loader.CANFrame) { onWire = append(onWire, recorded{bus, *f}) })
			edge, err := l.StartEdge("", nil, 0, packInput(simulated)...)
			if err != nil {
				t.Fatal(err)
			}
			if err := edge.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := wire.Finish(); err != nil {
				t.Fatal(err)
			}
			before := settled(t, l)
			if n := before.Published(); n != report(t, edge).Sealed || n == 0 {
				t.Fatalf("%d samples before the reboot", n)
			}
			if c.clean {
				if err := gateway.Stop(); err != nil {
					t.Fatal(err)
				}
			} else {
				gateway.Kill()
			}
			if err := l.Reboot(); err != nil {
				t.Fatal(err)
			}
			for i := range 25 {
				p, err := l.BeginAgent()
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(i) * 3 * time.Millisecond)
				p.Kill()
			}
			if gateway, err = l.StartAgent(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, r := range onWire {
				if err := l.Buses[r.bus].WriteGateway(&r.frame, loader.CANFDMTU); err != nil {
					t.Fatal(err)
				}
			}
			after := settled(t, l)
			if n := after.Published(); n != 0 {
				t.Errorf("%d samples of the recording came out after the reboot", n)
			}
			if n := len(after.Nodes[0].Epochs); n != 1 {
				t.Errorf("%d epochs are acceptable", n)
			}
			// The channel comes back: a new run of the node is heard.
			wire = l.StartWire(nil)
			if edge, err = l.StartEdge("", nil, 0, packInput(simulated)...); err != nil {
				t.Fatal(err)
			}
			if err := edge.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := wire.Finish(); err != nil {
				t.Fatal(err)
			}
			if again := settled(t, l); again.Published() != report(t, edge).Sealed {
				t.Errorf("%d samples of %d after the reboot", again.Published(), report(t, edge).Sealed)
			}
			if err := gateway.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
