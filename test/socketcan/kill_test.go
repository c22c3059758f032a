// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"testing"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// TestKilledAgent kills the agent (SIGKILL) and sends 100,000 frames on protected identifiers, of all kinds: none reaches a
// CAN_RAW socket, and every foreign frame among them does.
func TestKilledAgent(t *testing.T) {
	const tries, every = 100_000, 8
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, shortLog(t, 10))
	bus := l.Buses[0].Name
	gateway := l.agent(t)
	gateway.Kill()
	w := l.watch(t, nil, bus)
	sender := openRaw(t, l.EdgeNetns(), bus, rawOptions{})
	var ids []uint32
	for id := range l.ids {
		ids = append(ids, id)
	}
	foreign := l.foreignID()
	sent := 0
	for i := range tries {
		id := ids[i%len(ids)]
		switch i % 4 {
		case 0:
			sender.send(&loader.CANFrame{ID: id, Len: 8}, loader.CANMTU)
		case 1:
			sender.send(&loader.CANFrame{ID: id | loader.CANRTRFlag}, loader.CANMTU)
		default: // past the ring's end in the course of it, since nobody empties it
			sender.send(sealed(id, uint64(i+1)), loader.CANFDMTU)
		}
		if i%every == 0 {
			sender.send(&loader.CANFrame{ID: foreign, Len: 8}, loader.CANMTU)
			sent++
		}
	}
	w.finish(t, l)
	if n := w.protected.Load(); n != 0 {
		t.Errorf("%d of %d protected frames reached the socket", n, tries)
	}
	if n := w.foreign.Load(); n != uint64(sent) {
		t.Errorf("%d of %d foreign frames reached the socket", n, sent)
	}
	// A new agent finds the filter's counts where they were.
	gateway = l.agent(t)
	var status agent.Status
	eventually(t, "all frames are counted", func() bool {
		status = l.settle(t)
		return status.Verdict(loader.Passed) >= uint64(sent+1)
	})
	var refused uint64
	for v := range loader.NumVerdicts {
		if v := loader.Verdict(v); v.Drops() && v < loader.Accepted {
			refused += status.Verdict(v)
		}
	}
	if passed := status.Verdict(loader.Passed); refused != tries || passed != uint64(sent+1) {
		t.Errorf("the filter dropped %d of %d and passed %d of %d", refused, tries, passed, sent+1)
	}
	ok(t, gateway.Stop())
}
