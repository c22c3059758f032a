// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// followed collects what `cellward events --follow` prints.
type followed struct {
	mu  sync.Mutex
	all []*event.Record
}

func (f *followed) count(k kind.Kind) (n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.all {
		if r.Kind == k {
			n += r.Count
		}
	}
	return n
}

// follow starts `cellward events --follow` beside a running agent, and returns when it follows. end waits for its end, which is the agent's.
func follow(t *testing.T, l *demo.Lab) (got *followed, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(), "events", "--follow", "-o", "json", "--socket", l.ControlSocket())
	lines, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got = new(followed)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(lines); s.Scan(); {
			r, err := encode.ParseJSON(s.Bytes())
			if err != nil {
				t.Errorf("line %q: %v", s.Bytes(), err)
				return
			}
			got.mu.Lock()
			got.all = append(got.all, r)
			got.mu.Unlock()
		}
	}()
	// It follows once it has said hello to the agent, which nothing shows but an event.
	until(t, "the follower", func() bool {
		_, _ = exec.CommandContext(t.Context(), program(), "apply", "--socket", l.ControlSocket(), "--policy", l.Documents().Policy, "--binding", l.Documents().Binding).Output()
		return got.count(kind.DocumentsApplied)+got.count(kind.DocumentsRefused) > 0
	})
	return got, func() {
		<-ended
		_ = cmd.Wait() // it may say that the agent is gone
	}
}

// faultOf asks for the fault as an operator does.
func faultOf(t *testing.T, l *demo.Lab, args ...string) (agent.Fault, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(), append([]string{"fault", "status", "-o", "json", "--socket", l.ControlSocket()}, args...)...).Output()
	var f agent.Fault
	if err == nil {
		err = json.Unmarshal(out, &f)
	}
	return f, err
}

// TestEventsAndFault puts altered frames on the bus of a running agent and follows what it says: the events, the fault with its source,
// the flag on the samples. The fault stands after a kill and a restart, and until an operator clears it. The event log verifies.
func TestEventsAndFault(t *testing.T) {
	needRoot(t)
	const simulated = 6 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 50_000, SoftwareEdge: true}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, followerEnds := follow(t, l)

	hooked := filepath.Join(t.TempDir(), "hooked")
	hook := hookInto(t, l, hooked)
	// It follows, too, once it has run the program.
	until(t, "the hook", func() bool {
		_, _ = exec.CommandContext(t.Context(), program(), "apply", "--socket", l.ControlSocket(), "--policy", l.Documents().Policy, "--binding", l.Documents().Binding).Output()
		return len(hookedRecords(t, hooked)) > 0
	})

	var flagged sync.Map
	reader, err := l.StartReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(reader.Lines); s.Scan(); {
			if bytes.Contains(s.Bytes(), []byte(`"fault"`)) {
				flagged.Store("seen", true)
			}
		}
	}()
	// Every 10th sample is altered on its way, so that it is missing as well.
	altered, n := uint64(0), 0
	wire := l.StartWire(func(_ int, f *loader.CANFrame) {
		if h, err := spdu.ParseHeader(f.Data[:]); err != nil || h.Kind != spdu.KindSample {
			return
		}
		if n++; n%10 == 0 {
			f.Data[int(f.Len)-1] ^= 1
			altered++
		}
	})
	edge, err := l.StartEdge("", nil, 1, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the fault", func() bool {
		f, err := faultOf(t, l)
		return err == nil && f.State != "ok" && f.State != "suspect"
	})
	f, err := faultOf(t, l)
	if err != nil || len(f.Faults) == 0 || f.Faults[0].Advice != "inspect communication integrity and controller hardware" {
		t.Fatalf("fault %+v, %v", f, err)
	}
	// Readers that cannot ask have it from the ring.
	own, err := ring.Dial(t.Context(), l.RingSocket(), ring.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	until(t, "the fault record", func() bool {
		r, err := own.FaultRecord()
		if err != nil {
			t.Fatal(err)
		}
		return r.Causes&ring.FaultForgeable != 0 && r.Sources > 0 && r.SourceIDs[0] == l.Binding().Sources[0].ID && r.Kinds > 0 && r.Count[0] > 0
	})
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	status := func() agent.Status {
		t.Helper()
		s, err := l.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	until(t, "all verdicts", func() bool { s := status(); return s.Settled() && s.Events.Counts["bad_tag"] == altered })
	until(t, "what is missing", func() bool {
		c := status().Events.Counts
		return c["deletion"]+c["tail_loss"] == altered
	})
	if _, ok := flagged.Load("seen"); !ok {
		t.Error("no sample has the flag of the fault")
	}
	if got.count(kind.FaultRaised) == 0 || got.count(kind.BadTag) == 0 {
		t.Error("the follower has not heard of it")
	}

	until(t, "the hook's fault", func() bool {
		return slices.ContainsFunc(hookedRecords(t, hooked), func(r *event.Record) bool {
			return r.Kind == kind.FaultRaised && r.Fault != nil && len(r.Fault.Sources) > 0
		})
	})
	for _, r := range hookedRecords(t, hooked) {
		if r.Kind == kind.BadTag {
			t.Error("the hook was run for a kind that was not asked for")
		}
	}

	// Killed: the fault stands in the next run.
	gateway.Kill()
	if gateway, err = l.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, err := faultOf(t, l); err != nil || f.State == "ok" {
		t.Errorf("after a restart: %+v, %v", f, err)
	}
	clearing := func(args ...string) ([]byte, error) {
		return exec.CommandContext(t.Context(), program(), append([]string{"fault", "clear", "--socket", l.ControlSocket(), "-o", "json"}, args...)...).CombinedOutput()
	}
	if out, err := clearing(); err == nil {
		t.Errorf("cleared without a reason: %s", out)
	}
	if out, err := clearing("--reason", "harness replaced", "nothing"); err == nil {
		t.Errorf("cleared a source that is none: %s", out)
	}
	// It may have been cleared by its rule meanwhile, which is an answer as well.
	out, err := clearing("--reason", "harness replaced")
	if err != nil && !bytes.Contains(out, []byte("no fault stands")) {
		t.Errorf("clear: %v: %s", err, out)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(l.GatewayState(), agent.EventsFolder)
	verify := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), program(), "events", "--verify", "--binding", l.Documents().Binding, log).CombinedOutput()
		return string(out), err
	}
	said, err := verify()
	if err != nil {
		t.Fatalf("verify: %v: %s", err, said)
	}
	t.Logf("%d frames altered; %s", altered, said)
	names, err := os.ReadDir(log)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(names, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) == ".log" })
	path := filepath.Join(log, names[i].Name())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(`"kind":"bad_tag"`), []byte(`"kind":"bad_tab"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := verify(); err == nil {
		t.Errorf("an altered log verifies: %s", said)
	}
	followerEnds()
	_ = hook.Wait() // it ends with the agent that was killed
}

// hookInto runs a program for each fault that is raised, and when documents are applied, which appends what it gets to a file.
func hookInto(t *testing.T, l *demo.Lab, file string) *exec.Cmd {
	t.Helper()
	script := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec cat >>'"+file+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program(), "events", "--follow", "--kind", "fault_raised,documents_applied,documents_refused",
		"--exec", script, "--socket", l.ControlSocket())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// hookedRecords reads what the program of hookInto has got.
func hookedRecords(t *testing.T, file string) (all []*event.Record) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			continue // being written
		}
		r, err := encode.ParseJSON(bytes.TrimSpace(line))
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}
