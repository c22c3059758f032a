// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/doctor"
)

// TestDemo runs the demonstration, which takes vxcan where the kernel has it, quiet and with an attacker on the bus.
func TestDemo(t *testing.T) {
	needVXCAN(t)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"quiet", []string{"--duration", "1s", "--speed", "0"}},
		{"attack", []string{"--duration", "5s", "--speed", "0", "--attack"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := cellward(t, append([]string{"demo", "-o", "json"}, c.args...)...)
			var r demo.Result
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if wrong := r.Check(true); len(wrong) > 0 {
				t.Errorf("%s", strings.Join(wrong, "; "))
			}
			if r.Bus != "vxcan" || r.Frames.Sealed == 0 {
				t.Errorf("%+v", r)
			}
			if attacked := len(r.Attacks.Injected) > 0; attacked != (c.name == "attack") {
				t.Errorf("attacks %v", r.Attacks.Injected)
			}
		})
	}
}

// TestDoctor examines a gateway on vxcan before its agent runs and while it does: nothing fails, and what it says of the kernel
// and the interface is so.
func TestDoctor(t *testing.T) {
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, shortLog(t, 10))
	examine := func() doctor.Report {
		t.Helper()
		out, err := try(t.Context(), "doctor", "--policy", l.PolicyPath(), "--binding", l.BindingPath(), "-o", "json")
		var r doctor.Report
		if jerr := json.Unmarshal(out, &r); jerr != nil {
			t.Fatalf("%v: %s: %v", jerr, out, err)
		}
		for _, f := range r.Findings {
			if f.Severity == doctor.Fail {
				t.Errorf("%s %s: %s", f.ID, f.Subject, f.What)
			}
		}
		return r
	}
	is := func(r doctor.Report, s doctor.Severity, ids ...string) {
		t.Helper()
		for _, id := range ids {
			found := r.Find(id)
			if len(found) == 0 || slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Severity != s }) {
				t.Errorf("%s is not %s: %+v", id, s, found)
			}
		}
	}
	healthy := []string{
		"kernel.filter", "kernel.jit", "can.family", "can.vcan", "can.vxcan", "interface.exists", "interface.type", "interface.mtu", "interface.up",
	}
	r := examine()
	is(r, doctor.OK, healthy...)
	is(r, doctor.Warn, "interface.filter")
	gateway := l.agent(t)
	r = examine()
	is(r, doctor.OK, append(healthy, "agent.running", "interface.filter")...)
	if f := r.Find("interface.exists"); len(f) != 1 || !strings.Contains(f[0].What, "vxcan") {
		t.Errorf("%+v", f)
	}
	ok(t, gateway.Stop())
}
