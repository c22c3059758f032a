// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEventHook: the program gets the line, its failure is said and ends nothing, and one that hangs is ended with all that it has started.
func TestEventHook(t *testing.T) {
	var out, errs bytes.Buffer
	run := func(text string, limit time.Duration) (string, string) {
		t.Helper()
		out.Reset()
		errs.Reset()
		h := &eventHook{program: script(t, text), limit: limit, out: &out, errs: &errs}
		if err := h.check(); err != nil {
			t.Fatal(err)
		}
		h.run(t.Context(), []byte(`{"kind":"fault_raised"}`))
		return out.String(), errs.String()
	}
	if got, said := run("cat", time.Minute); got != `{"kind":"fault_raised"}`+"\n" || said != "" {
		t.Errorf("output %q, errors %q", got, said)
	}
	if _, said := run("exit 3", time.Minute); !strings.Contains(said, "exit status 3") {
		t.Errorf("errors %q", said)
	}
	if _, said := run("true </dev/null", time.Minute); said != "" { // it need not read
		t.Errorf("errors %q", said)
	}
	if _, said := run("sleep 600 & wait", 200*time.Millisecond); !strings.Contains(said, "took longer than 200ms") {
		t.Errorf("errors %q", said)
	}
}

// TestEventFlags: what cannot be done is said before the agent is asked.
func TestEventFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--follow --kind nothing", `no kind of event is called "nothing"`},
		{"--follow --exec /nowhere/at/all", "find program for events"},
		{"--follow --exec cat --exec-limit 0s", "want a positive limit"},
		{"--exec cat FOLDER", "go with --follow"},
		{"--kind bad_tag FOLDER", "go with --follow"},
	} {
		cmd := newEventsCommand()
		cmd.SetArgs(strings.Fields(c.args))
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&bytes.Buffer{})
		err := cmd.ExecuteContext(context.Background())
		if u := (usageError{}); !errors.As(err, &u) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}
