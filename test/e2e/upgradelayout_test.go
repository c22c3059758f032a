// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// changing is a program that is installed over and over, once with the layout of the product's pinned maps and once with another.
type changing struct {
	path    string
	builds  [2]string
	shifted int
}

// newChanging builds the program a second time, with the layout that only the build tag cellward_shifted brings. No target of the
// Makefile sets the tag, and the program tells its layout (cellward version), so that one with it cannot be taken for the product.
func newChanging(t *testing.T) *changing {
	t.Helper()
	dir := t.TempDir()
	c := &changing{path: filepath.Join(dir, "cellward"), builds: [2]string{program(), filepath.Join(dir, "shifted")}}
	build := exec.Command("go", "build", "-tags", "cellward_shifted", "-o", c.builds[1], "github.com/cellward/cellward/cmd/cellward")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program with another layout: %v\n%s", err, out)
	}
	if one, other := layoutOf(t, c.builds[0]), layoutOf(t, c.builds[1]); one == other {
		t.Fatalf("both programs have the layout %s", one)
	}
	c.install(t)
	return c
}

// install puts the build that is next in the program's place, as a package manager does.
func (c *changing) install(t *testing.T) {
	t.Helper()
	fresh := c.path + ".new"
	_ = os.Remove(fresh) // of an install that failed
	from, err := os.Open(c.builds[c.shifted%2])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(fresh, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close(), os.Rename(fresh, c.path)); err != nil {
		t.Fatal(err)
	}
	c.shifted++
}

func layoutOf(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command(program, "version", "-o", "json").Output()
	if err != nil {
		t.Fatalf("ask %s for its version: %v", program, err)
	}
	var v struct {
		Filter struct {
			Layout string `json:"layout"`
		} `json:"filter"`
	}
	if err := json.Unmarshal(out, &v); err != nil || v.Filter.Layout == "" {
		t.Fatalf("version of %s: %v: %s", program, err, out)
	}
	return v.Filter.Layout
}

// TestUpgradesToAnotherLayout upgrades a running agent to a program with another layout of the pinned maps, and back to the one before, again
// and again, under load and with an attacker on the bus. A reader that follows gets every sample exactly once, and nothing else.
func TestUpgradesToAnotherLayout(t *testing.T) {
	needRoot(t)
	c := newChanging(t)
	x := startTrafficOf(t, c.path)
	behind, err := x.TapStack()
	if err != nil {
		t.Fatal(err)
	}
	var pauses []int64
	for i := range *upgrades {
		former := x.gateway
		c.install(t)
		if x.gateway, err = x.Upgrade(t.Context(), former); err != nil {
			t.Fatalf("upgrade %d: %v", i+1, err)
		}
		pauses = append(pauses, paused(t, former))
		until(t, "the word of a migration", func() bool { return strings.Contains(x.gateway.Log(), `"tables_migrated"`) })
		x.followed()
		x.flows(fmt.Sprintf("upgrade %d", i+1))
		if i == 0 {
			c.refused(t, x)
		}
	}
	r, status := x.finish()
	if err := behind.Finish(); err != nil {
		t.Fatal(err)
	}
	var counted uint64
	for _, s := range status.Streams {
		counted += s.Lost
	}
	var forged uint64
	for _, n := range x.wire.Injected() {
		forged += n
	}
	t.Logf("%d upgrades between layouts; %d read, %d injected, doubled %d, not sealed %d, lost %d, counted %d, %d shed; pauses in µs %v",
		*upgrades, r.read, forged, r.doubled, r.foreign, r.lost, counted, status.Verdict(loader.Shed), pauses)
	if r.doubled != 0 || r.foreign != 0 || r.lost != 0 || counted != 0 || forged == 0 {
		t.Errorf("doubled %d, not sealed %d, lost %d, counted %d of %d injected; want none", r.doubled, r.foreign, r.lost, counted, forged)
	}
	if n := behind.ProtectedFrames(); n != 0 {
		t.Errorf("%d protected frames reached the CAN stack", n)
	}
}

// refused has a member in use that the product does not know, so that nobody can go back to it: the agent is not taken over from, and goes
// on. Then the member is not in use any more.
func (c *changing) refused(t *testing.T, x *traffic) {
	t.Helper()
	windows, err := ebpf.LoadPinnedMap(filepath.Join(x.Binding().Gateway.BPFFS, "maps", "windows"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.Close()
	const slot = uint32(4000) // of no stream
	value, err := windows.LookupBytes(slot)
	if err != nil {
		t.Fatal(err)
	}
	last := len(value) - 1 // of windows.shifted
	value[last] = 1
	if err := windows.Put(slot, value); err != nil {
		t.Fatal(err)
	}
	own, first := x.programs(), x.pid()
	c.install(t)
	p, err := x.BeginUpgrade()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "windows.shifted is gone, and is in use in entry 4000") {
		t.Errorf("upgrade over a member that is in use: %v", err)
	}
	if got := x.programs(); x.pid() != first || fmt.Sprint(got) != fmt.Sprint(own) {
		t.Errorf("agent %d with programs %v, before %d with %v", x.pid(), got, first, own)
	}
	x.flows("after an upgrade that was refused")
	value[last] = 0
	if err := windows.Put(slot, value); err != nil {
		t.Fatal(err)
	}
	c.shifted--
}

// TestStartsWithAnotherLayout kills agents at any instant, in an upgrade or without, and starts one with the other layout over what they
// have left. Nothing is published twice, nothing forged is accepted, and what is lost is at most a batch per kill and counted. The filter is
// held by clsact, where the program at the hook is told by its rings, and the rings are exchanged.
func TestStartsWithAnotherLayout(t *testing.T) {
	needRoot(t)
	c := newChanging(t)
	x := startTrafficOf(t, c.path, "--hook", loader.HookClsact)
	behind, err := x.TapStack()
	if err != nil {
		t.Fatal(err)
	}
	killed, migrated := 0, 0
	for i := range 10 {
		c.install(t)
		var p *demo.Process
		if i%2 == 0 {
			if p, err = x.BeginUpgrade(); err != nil {
				t.Fatal(err)
			}
			if i%4 == 0 {
				time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
			} else {
				// Just behind the take-over, where the maps are put into effect and the programs are exchanged.
				until(t, "the successor to its take-over", func() bool {
					return !x.gateway.Running() || strings.Contains(x.gateway.Log(), `"upgraded"`)
				})
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
			}
			p.Kill()
			killed++
		}
		if x.gateway.Running() {
			x.gateway.Kill()
			killed++
		}
		time.Sleep(20 * time.Millisecond) // frames go on arriving
		if x.gateway, err = x.StartAgent(t.Context()); err != nil {
			t.Fatalf("start %d: %v", i+1, err)
		}
		x.followed()
		x.flows(fmt.Sprintf("start %d", i+1))
		if strings.Contains(x.gateway.Log(), `"tables_migrated"`) {
			migrated++
		}
	}
	r, status := x.finish()
	if err := behind.Finish(); err != nil {
		t.Fatal(err)
	}
	var counted uint64
	for _, s := range status.Streams {
		counted += s.Lost
	}
	t.Logf("%d kills, %d starts migrated; %d read, doubled %d, not sealed %d, lost %d, counted %d, %d shed",
		killed, migrated, r.read, r.doubled, r.foreign, r.lost, counted, status.Verdict(loader.Shed))
	if r.doubled != 0 || r.foreign != 0 || r.lost > counted || counted > uint64(killed)*agent.BatchSize || migrated == 0 {
		t.Errorf("doubled %d, not sealed %d, lost %d, counted %d, migrated %d", r.doubled, r.foreign, r.lost, counted, migrated)
	}
	if n := behind.ProtectedFrames(); n != 0 {
		t.Errorf("%d protected frames reached the CAN stack", n)
	}
}
