// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/vault"
)

// lineBuffer is a buffer that may be written by another goroutine.
type lineBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lineBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func monitorOf(t *testing.T, o Options) *monitor {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	m, err := newMonitor(&o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestFaultOutlivesDocumentsAndAgents latches a fault, changes the documents, ends the agent and starts another one.
func TestFaultOutlivesDocumentsAndAgents(t *testing.T) {
	dir, err := vault.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	set, out := testSet(t), &lineBuffer{}
	o := Options{Set: set, Events: out, Station: &station.Station{Dir: dir}}
	m := monitorOf(t, o)
	if err := m.openLog(); err != nil {
		t.Fatal(err)
	}
	m.report(event.Record{Kind: kind.Downgrade, Subject: event.Stream(2)})
	if _, f := m.status(); f.State != fault.Latched.String() || len(f.Faults) != 1 || f.Faults[0].Name != "cells" {
		t.Fatalf("%+v", f)
	}
	next, err := m.observe(testSet(t))
	if err != nil {
		t.Fatal(err)
	}
	m.change(next)
	if _, f := m.status(); f.State != fault.Latched.String() || m.table() != next.table {
		t.Fatalf("under new documents: %+v", f)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
	kinds := make(map[kind.Kind]uint64)
	for line := range strings.Lines(out.b.String()) {
		r, err := encode.ParseJSON([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		kinds[r.Kind] += r.Count
	}
	if kinds[kind.Downgrade] != 1 || kinds[kind.FaultRaised] != 1 || kinds[kind.FaultLatched] != 1 {
		t.Errorf("said: %v", kinds)
	}
	again := monitorOf(t, o)
	if _, f := again.status(); f.State != fault.Latched.String() {
		t.Errorf("the next agent: %+v", f)
	}
	if err := again.close(); err != nil {
		t.Error(err)
	}
	// Damaged, it is evidence itself.
	if err := vault.Replace(dir, faultsFile, []byte("{")); err != nil {
		t.Fatal(err)
	}
	damaged := monitorOf(t, o)
	if e, f := damaged.status(); e.Counts[kind.StateRefused.String()] != 1 || f.State == fault.OK.String() {
		t.Errorf("damaged: %+v, %+v", e, f)
	}
	if err := damaged.close(); err != nil {
		t.Error(err)
	}
}

// TestDestinationCalls opens the Internet to an agent only if a destination is there.
func TestDestinationCalls(t *testing.T) {
	for _, c := range []struct {
		destination policy.Destination
		open        bool
	}{
		{policy.Destination{Type: policy.ToStderr}, false},
		{policy.Destination{Type: policy.ToSyslog, Network: "unixgram", Path: "/dev/log"}, false},
		{policy.Destination{Type: policy.ToSyslog, Network: "udp", Address: "192.0.2.1:514"}, true},
		{policy.Destination{Type: policy.ToSyslog, Network: "tcp", Address: "192.0.2.1:514"}, true},
	} {
		b := &policy.Binding{Destinations: []policy.Destination{c.destination}}
		if got := slices.Contains(destinationCalls(b).Calls, "connect"); got != c.open {
			t.Errorf("%+v: %v", c.destination, got)
		}
	}
	if len(destinationCalls(&policy.Binding{}).Calls) != 0 {
		t.Error("the default needs more than the agent has")
	}
}
