// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/doctor"
	"github.com/cellward/cellward/loader"
)

// overview is `cellward status -o json` on a laboratory.
func overview(t *testing.T, l *demo.Lab) agent.Overview {
	t.Helper()
	var o agent.Overview
	out := cellward(t, t.Context(), "status", "--binding", l.BindingPath(), "-o", "json")
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if o.Kernel == nil {
		t.Fatalf("status has no kernel part: %s", out)
	}
	return o
}

// sealPack lets the edge send the pack as fast as it goes, and waits until everything has its verdict.
func sealPack(t *testing.T, l *demo.Lab, d time.Duration) agent.Status {
	t.Helper()
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, 0, packInput(d)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	return settled(t, l)
}

// TestStatusOfTheKernel wants the kernel's view to be the agent's at rest, and to go on when the agent is dead.
func TestStatusOfTheKernel(t *testing.T) {
	needRoot(t)
	const simulated = 2 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 20_000, SoftwareEdge: true}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealPack(t, l, simulated)

	o := overview(t, l)
	if !o.Running || o.Status == nil || o.AgentError+o.KernelError+o.Kernel.HookError != "" {
		t.Fatalf("%+v", o)
	}
	k := o.Kernel
	if p := k.Pins; !p.SameLayout || !p.SameBoot || !p.Ready || len(p.Foreign) > 0 || len(p.Maps) < 7 {
		t.Errorf("pins %+v", p)
	}
	if len(k.Interfaces) != 1 {
		t.Fatalf("interfaces %+v", k.Interfaces)
	}
	i := k.Interfaces[0]
	hook := hooks(t)[0]
	if i.State != agent.StateAttached || !i.Attached || !i.First || i.Name != "can0" || i.Hook != hook || (i.Link != 0) != (hook == loader.HookTCX) ||
		i.Program == nil || i.Program.Name != "can_ingress" || !i.Program.JITed || i.Program.Tag == "" || len(i.Others) != 0 {
		t.Errorf("interface %+v", i)
	}
	if c := i.Rings["candidates"]; c.Used == nil || *c.Used != o.Interfaces[0].RingUsed || c.Size != o.Interfaces[0].RingSize {
		t.Errorf("ring %+v, the agent says %+v", c, o.Interfaces[0])
	}
	if !maps.Equal(i.Verdicts, o.Interfaces[0].Verdicts) || i.Verdicts["accepted"] == 0 {
		t.Errorf("verdicts %v, the agent says %v", i.Verdicts, o.Interfaces[0].Verdicts)
	}
	if len(k.Streams) != len(o.Streams) || len(k.Streams) == 0 {
		t.Fatalf("%d streams, the agent says %d", len(k.Streams), len(o.Streams))
	}
	for n, s := range k.Streams {
		a := o.Streams[n]
		if s.Stream != a.Stream || s.CANID != a.CANID || s.Role != a.Role || s.Source != a.Source || s.Highest != a.Highest ||
			s.Committed != a.Committed || s.Published != a.Published || s.Shed != a.Shed || !maps.Equal(s.Refused, a.Refused) {
			t.Errorf("stream %+v, the agent says %+v", s, a)
		}
	}
	if n, a := k.Nodes[0], o.Nodes[0]; len(k.Nodes) != 1 || n.Name != a.Name || n.Verified != a.Verified || len(n.Epochs) != 1 ||
		n.Epochs[0].Number != a.Epochs[0].Number || n.Epochs[0].Base != a.Epochs[0].Base || len(n.Epochs[0].Starts) != len(a.Epochs[0].Starts) {
		t.Errorf("node %+v, the agent says %+v", n, a)
	}

	gateway.Kill()
	f := loader.CANFrame{ID: l.Binding().Nodes[0].Streams[0].CANID.Number(), Len: 8}
	for range 5 {
		if err := l.Buses[0].WriteGateway(&f, loader.CANMTU); err != nil {
			t.Fatal(err)
		}
	}
	dead := overview(t, l)
	if dead.Running || dead.Status != nil || !strings.Contains(dead.AgentError, "no agent") {
		t.Errorf("agent is dead: %+v", dead)
	}
	d := dead.Kernel.Interfaces[0]
	if !d.Attached || d.Verdicts["plaintext_on_protected"] != i.Verdicts["plaintext_on_protected"]+5 || d.Verdicts["accepted"] != i.Verdicts["accepted"] {
		t.Errorf("with the agent dead: %+v", d)
	}
	for n, s := range dead.Kernel.Streams {
		want := maps.Clone(k.Streams[n].Refused)
		if s.CANID == l.Binding().Nodes[0].Streams[0].CANID.String() {
			want["plaintext_on_protected"] += 5
		}
		if !maps.Equal(s.Refused, want) {
			t.Errorf("stream %d: refused %v, want %v", s.Stream, s.Refused, want)
		}
	}
	text := string(cellward(t, t.Context(), "status", "--binding", l.BindingPath()))
	for _, want := range []string{"agent   not running", "attached at " + hook + ", first", "plaintext_on_protected  5", "candidates ring", "heartbeat", "cell_voltage_array"} {
		if !strings.Contains(text, want) {
			t.Errorf("text has no %q:\n%s", want, text)
		}
	}
}

// TestDoctor examines a laboratory with a running agent, then with its interface down.
func TestDoctor(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true}, time.Second)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	examine := func() (r doctor.Report, exit int) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program(), "doctor", "--policy", l.PolicyPath(), "--binding", l.BindingPath(), "-o", "json").Output()
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			exit = failed.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return r, exit
	}
	well, exit := examine()
	if exit != 0 || well.Fail != 0 || len(well.Find("interface.filter")) != 1 || well.Find("interface.filter")[0].Severity != doctor.OK ||
		!strings.Contains(well.Find("state.lock")[0].What, "in use by the agent") {
		t.Errorf("exit %d: %+v", exit, well)
	}
	links, err := loader.DialLinks()
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	can0, err := links.ByName("can0")
	if err != nil {
		t.Fatal(err)
	}
	if err := links.SetDown(can0.Index); err != nil {
		t.Fatal(err)
	}
	down, exit := examine()
	if f := down.Find("interface.up"); exit != 1 || down.Fail != 1 || len(f) != 1 || f[0].Severity != doctor.Fail || f[0].Help != "ip link set can0 up" {
		t.Errorf("exit %d: %+v", exit, down)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
}
