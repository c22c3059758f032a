// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"fmt"
	"testing"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// TestUpgrades has new agents take over from the running one while sealed traffic comes in at its own pace and cangen forges frames on a
// protected identifier. A reader that follows gets every sample once, and nothing else; no protected frame reaches a socket.
func TestUpgrades(t *testing.T) {
	const upgrades, frames = 3, 30_000 // half a minute: emulated machines take seconds for each upgrade
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, shortLog(t, frames))
	gateway := l.agent(t)
	reader := l.read(t, "--reconnect")
	bus := l.Buses[0].Name
	w := l.watch(t, nil, bus)
	forged := begin(t, l.EdgeNetns(), nil, "cangen", bus, "-g", "5", "-I", fmt.Sprintf("%X", l.Binding().Nodes[0].Streams[0].CANID.Number()), "-f", "-L", "48", "-D", "r", "-p", "1000")
	edge := must[*demo.Process](t)(l.StartEdge("", l.names, 1, "--log", l.log))
	for range upgrades {
		before := reader.count()
		gateway = must[*demo.Process](t)(l.Upgrade(t.Context(), gateway))
		eventually(t, "samples come after an upgrade", func() bool { return reader.count() > before })
	}
	if !edge.Running() {
		t.Error("the edge had ended before the upgrades")
	}
	ok(t, edge.Wait())
	if forged.ended() {
		t.Errorf("cangen has ended by itself: %s", forged.errs.String())
	}
	forged.kill()
	sealed := report(t, edge)
	reader.wait(t, l)
	w.finish(t, l)
	status := l.settle(t)
	hook := status.Interfaces[0].Link.Hook
	ok(t, gateway.Stop())
	reader.check(t, l, sealed.FirstCounter)
	if sealed.Sealed != frames || status.Published() != frames || status.Verdict(loader.Shed) != 0 {
		t.Errorf("sealed %d, published %d of %d, shed %d", sealed.Sealed, status.Published(), frames, status.Verdict(loader.Shed))
	}
	if n := status.Verdict(loader.Malformed) + status.Verdict(loader.UnknownEpoch) + status.Verdict(loader.BadTag) + status.Verdict(loader.CounterRange); n == 0 {
		t.Error("no forged frame was refused")
	}
	if n := w.protected.Load(); n != 0 {
		t.Errorf("%d protected frames reached the socket", n)
	}
	t.Logf("%d upgrades at %s: %d sealed, %d read", upgrades, hook, sealed.Sealed, reader.count())
}
