// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// TestUpgradesKeepFaultAndLog upgrades the agent twice while altered frames come in. The fault stands in every one of the three with the
// evidence that there was, each frame is an event in one of them and no more, and what they have written is one log in order.
func TestUpgradesKeepFaultAndLog(t *testing.T) {
	needRoot(t)
	const simulated = 6 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 50_000}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	altered, plain, n := uint64(0), uint64(0), 0
	wire := l.StartWire(func(bus int, f *loader.CANFrame) {
		h, err := spdu.ParseHeader(f.Data[:])
		if err != nil || h.Kind != spdu.KindSample {
			return
		}
		switch n++; {
		case n%10 == 0: // the agent's to refuse
			f.Data[int(f.Len)-1] ^= 1
			altered++
		case n%10 == 5: // the filter's
			f.Flags, f.Len = 0, 8
			plain++
		}
	})
	edge, err := l.StartEdge("", nil, 1, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	raised := func() bool {
		f, err := faultOf(t, l)
		return err == nil && f.State != "ok" && f.State != "suspect"
	}
	until(t, "the fault", raised)
	evidence := func(f agent.Fault) (sum uint64) {
		for _, x := range f.Faults {
			for _, e := range x.Evidence {
				sum += e.Count
			}
		}
		return sum
	}
	for i := range 2 {
		before, err := faultOf(t, l)
		if err != nil {
			t.Fatal(err)
		}
		if gateway, err = l.Upgrade(t.Context(), gateway); err != nil {
			t.Fatalf("upgrade %d: %v", i+1, err)
		}
		after, err := faultOf(t, l)
		if err != nil {
			t.Fatal(err)
		}
		// By its rule it may end, which takes its time and is an event. An upgrade is no reason.
		if after.State == "ok" && before.State != "ok" {
			if s, err := l.Status(t.Context()); err != nil || s.Events.Counts[kind.FaultCleared.String()] == 0 {
				t.Errorf("upgrade %d: %s before, %s after, %v", i+1, before.State, after.State, err)
			}
		} else if evidence(after) < evidence(before) {
			t.Errorf("upgrade %d: evidence %d before, %d after", i+1, evidence(before), evidence(after))
		}
	}
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(l.GatewayState(), agent.EventsFolder)
	said, err := exec.CommandContext(t.Context(), program(), "events", "--verify", "--binding", l.Documents().Binding, log).CombinedOutput()
	if err != nil || !bytes.Contains(said, []byte("closed in order")) {
		t.Errorf("verify: %v: %s", err, said)
	}
	counts := logged(t, log)
	for k, want := range map[kind.Kind]uint64{
		kind.BadTag: altered, kind.PlaintextOnProtected: plain, kind.AgentStarted: 3, kind.AgentStopped: 3, kind.LogDamaged: 0, kind.LogWriteFailed: 0,
	} {
		if counts[k] != want {
			t.Errorf("%s: %d in the log, want %d", k, counts[k], want)
		}
	}
	if counts[kind.FaultRaised] == 0 {
		t.Error("no fault in the log")
	}
	t.Logf("%d altered, %d in the clear; %s", altered, plain, said)
}

// logged sums up the records of an event log by kind.
func logged(t *testing.T, log string) map[kind.Kind]uint64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(), "events", "-o", "json", log).Output()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[kind.Kind]uint64)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r *event.Record
		if r, err = encode.ParseJSON(lines.Bytes()); err != nil {
			t.Fatalf("line %q: %v", lines.Bytes(), err)
		}
		counts[r.Kind] += r.Count
	}
	return counts
}
