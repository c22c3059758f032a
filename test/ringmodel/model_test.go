// SPDX-License-Identifier: Apache-2.0

package ringmodel

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/tooltest"
)

// check builds the model with the given parameters and searches all its states. It returns the line of the violated
// assertion, or "" when there is none, and the number of states.
func check(t *testing.T, optimize string, parameters ...string) (violated, states string) {
	t.Helper()
	dir := t.TempDir()
	model, err := filepath.Abs("ring.pml")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-a"}
	for _, p := range parameters {
		args = append(args, "-D"+p)
	}
	run := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("spin", append(args, model)...); err != nil {
		t.Fatalf("spin: %v\n%s", err, out)
	}
	if out, err := run("gcc", optimize, "-DSAFETY", "-DMEMLIM=2000", "-o", "pan", "pan.c"); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	// -b makes a search that was not deep enough an error.
	out, err := run(filepath.Join(dir, "pan"), "-m500000", "-b")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^pan:\d+: (.*)$`).FindStringSubmatch(out)
	count := regexp.MustCompile(`(\d+) states, stored`).FindStringSubmatch(out)
	switch {
	case count == nil:
		t.Fatalf("the search says nothing of its states:\n%s", out)
	case found != nil && strings.Contains(out, "errors: 1"):
		return found[1], count[1]
	case found == nil && strings.Contains(out, "errors: 0") && err == nil && !strings.Contains(out, "Search not completed"):
		return "", count[1]
	}
	t.Fatalf("the search did not end: %v\n%s", err, out)
	return "", ""
}

func needSpin(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		tooltest.Path(t, "Debian packages spin, gcc and libc6-dev", tool)
	}
}

// TestNoTornRead: no order of the stores and loads that the rules allow gives a reader a torn sample or a wrong count.
func TestNoTornRead(t *testing.T) {
	needSpin(t)
	for _, parameters := range []string{
		"RING",
		"RING KILL",
		"RING SLOTS=4 BATCH=2 COPIES=2 TOTAL=6",
		"LATEST",
		"LATEST KILL",
		"LATEST SLOTS=4 BATCH=2 TOTAL=5",
		"RING LATEST TOTAL=3",
		// What tests on x86-64 cannot find: there the barriers are not needed.
		"RING TSO NO_BARRIER_AFTER_INTENT",
		"LATEST TSO NO_SECOND_BARRIER",
		"LATEST TSO NO_BARRIER_AFTER_TAIL",
	} {
		t.Run(parameters, func(t *testing.T) {
			violated, states := check(t, "-O1", strings.Fields(parameters)...)
			if violated != "" {
				t.Errorf("%s", violated)
			}
			t.Logf("%s states", states)
		})
	}
}

// TestSeededBugs: the model finds each mistake that the protocol guards against, so it would find one in the protocol.
func TestSeededBugs(t *testing.T) {
	needSpin(t)
	for _, c := range []struct{ parameters, violates string }{
		{"RING TORN_ONLY NO_INTENT", "copy"},
		{"RING TORN_ONLY LATE_INTENT", "copy"},
		{"RING TORN_ONLY NO_BARRIER_AFTER_INTENT", "copy"},
		{"RING TORN_ONLY PLAIN_TAIL NO_SECOND_BARRIER", "copy"},
		{"RING TORN_ONLY NO_SECOND_LOOK", "copy"},
		{"RING TORN_ONLY NO_FENCE", "copy"},
		{"RING TSO TORN_ONLY NO_INTENT", "copy"},
		{"RING MISSED_TWICE", "missed"},
		{"LATEST NO_SECOND_BARRIER", "copy"},
		{"LATEST NO_BARRIER_AFTER_TAIL", "copy"},
		{"LATEST LATE_BEGIN", "copy"},
		{"LATEST NO_SECOND_LOOK", "copy"},
		{"LATEST NO_FENCE", "copy"},
	} {
		t.Run(c.parameters, func(t *testing.T) {
			violated, states := check(t, "-O0", strings.Fields(c.parameters)...) // found soon: compiling takes longer
			if !strings.Contains(violated, "assertion violated") || !strings.Contains(violated, c.violates) {
				t.Errorf("found %q, want an assertion about %s", violated, c.violates)
			}
			t.Logf("%s, after %s states", violated, states)
		})
	}
}
