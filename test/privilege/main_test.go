// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/privilege"
)

// build builds this command as the product is built: without cgo, whose threads Go cannot reach.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "privilege")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// run runs the command in a network namespace of its own and returns what it printed.
func run(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "privilege-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "PRIVILEGE_FOLDER="+dir)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// TestCapabilities runs each feature under exactly the capabilities of the table in docs/security.md, under those less each one, and
// under the set that an agent keeps. The filter on system calls is on.
func TestCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: attaches the filter and gives up capabilities")
	}
	needs := map[string]privilege.Capabilities{
		"streams": 0,
		"attach":  privilege.CapabilitySet(unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON),
		"links":   0,
		"state":   0,
		"ring":    0,
		"memory":  privilege.CapabilitySet(unix.CAP_IPC_LOCK),
	}
	all := features()
	if !slices.Equal(slices.Sorted(maps.Keys(needs)), slices.Sorted(maps.Keys(all))) {
		t.Fatalf("the table has %v, want a row for each of %v", needs, all)
	}
	program := build(t)
	keep := func(c privilege.Capabilities) string {
		if c == 0 {
			return ""
		}
		return c.String()
	}
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		need := needs[name]
		if out, err := run(t, program, "-keep", keep(need), name); err != nil {
			t.Errorf("%s under %v: %v: %s", name, need, err, out)
		}
		for c := range 64 {
			if !need.Has(c) {
				continue
			}
			less := need &^ privilege.CapabilitySet(c)
			if out, err := run(t, program, "-keep", keep(less), name); err == nil {
				t.Errorf("%s works without %v, too", name, privilege.CapabilitySet(c))
			} else {
				t.Logf("%s without %v: %s", name, privilege.CapabilitySet(c), out)
			}
		}
		agents := privilege.AgentCapabilities()
		if all[name].limited {
			agents |= privilege.CapabilitySet(unix.CAP_IPC_LOCK)
		}
		if out, err := run(t, program, "-keep", keep(agents), name); err != nil {
			t.Errorf("%s under the agent's set: %v: %s", name, err, out)
		}
		t.Logf("%-8s needs %v", name, need)
	}
}

// TestForbiddenCalls makes every call under the agent's filter and without one.
func TestForbiddenCalls(t *testing.T) {
	program := build(t)
	hostile := privilege.Hostile()
	refused, killed := 0, 0
	for _, name := range slices.Sorted(maps.Keys(calls())) {
		// Without the filter it comes through or fails for another reason, so it is the filter that is seen below.
		if name != "execve" && os.Geteuid() == 0 {
			if out, err := run(t, program, "-seccomp", "off", "call", name); err != nil || out == "EPERM" {
				t.Errorf("%s without a filter: %q, %v", name, out, err)
			}
		}
		out, err := run(t, program, "call", name)
		if !slices.Contains(hostile, name) {
			if err != nil || out != "EPERM" {
				t.Errorf("%s: %q, %v, want EPERM", name, out, err)
			}
			refused++
			continue
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
			t.Errorf("%s: %q, %v, want death by SIGSYS", name, out, err)
		}
		killed++
	}
	t.Logf("%d kinds of calls refused with EPERM, %d deadly ones", refused, killed)
	if out, err := run(t, program, "-seccomp", "log", "call", "keyctl"); err != nil || out == "" {
		t.Errorf("keyctl with a filter that only logs: %q, %v", out, err)
	}
}

// TestConfineBesideWork installs the filter again and again in processes whose goroutines change threads all the time: filter and
// no_new_privs must be on every thread each time, whichever thread asked for them.
func TestConfineBesideWork(t *testing.T) {
	program := build(t)
	for range 400 {
		if out, err := run(t, program, "-busy", "4", "call", "signal"); err != nil || out != "EPERM" {
			t.Fatalf("signal: %q, %v, want EPERM", out, err)
		}
	}
}

// TestWithoutRights starts as a user without rights: the filter still works, and becoming another user is refused.
func TestWithoutRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: becomes another user")
	}
	dir, err := os.MkdirTemp("", "privilege-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "privilege")
	b, err := os.ReadFile(build(t))
	if err == nil {
		err = os.WriteFile(program, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ arg, want string }{
		{"call inotify", "EPERM"},
		{"drop 65533", ""}, // is he already
		{"drop 65532", privilege.ErrNotRoot.Error()},
	} {
		cmd := exec.Command(program, strings.Fields(c.arg)...)
		cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: someUser, Gid: someUser}}
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); !strings.Contains(got, c.want) || (c.arg != "drop 65532") != (err == nil) {
			t.Errorf("%s: %q, %v, want %q", c.arg, fmt.Sprint(got), err, c.want)
		}
	}
}
