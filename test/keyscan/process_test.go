// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// lifetime is how long the epoch still lives when the agent starts: long enough to look at it in use. On a machine that does not get that
// far it is twice as long the next time, up to longestLifetime.
const (
	lifetime        = 15 * time.Second
	longestLifetime = 8 * lifetime
)

// patience bounds every wait.
const patience = 60 * time.Second

func newLab(t *testing.T, o demo.LabOptions) (*demo.Lab, *policy.Set) {
	t.Helper()
	p, err := demo.DefaultPolicy()
	if err != nil {
		t.Fatal(err)
	}
	options := trace.PackOptions{Seed: 3, Duration: time.Second, TemperatureID: 0x6F3}
	pack, err := trace.NewPack(options)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := trace.Summarize(pack)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := trace.PackLayout(options)
	if err != nil {
		t.Fatal(err)
	}
	o.Policy, o.Frames = p, 1000
	if o.Binding, _, err = demo.BindingFor(p, sum, layout); err != nil {
		t.Fatal(err)
	}
	l, err := demo.NewLab(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close laboratory: %v", err)
		}
	})
	if err := l.AgreeKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	set, err := policy.Load(l.PolicyPath(), l.BindingPath())
	if err != nil {
		t.Fatal(err)
	}
	return l, set
}

// stateKey opens the sealed key of a state file: 16 bytes of magic, a length, the sealed key (agent/vault).
func stateKey(t *testing.T, dir, name string, unseal func([]byte) ([]byte, error)) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	key, err := unseal(b[20 : 20+binary.LittleEndian.Uint32(b[16:])])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sources lists what the first node's traffic keys are for.
func sources(set *policy.Set) (all []uint32) {
	for _, s := range set.Streams {
		if !slices.Contains(all, s.SourceID) {
			all = append(all, s.SourceID)
		}
	}
	return all
}

// gateway reads the gateway's secrets, as its TPM gives them out, and gives its epoch some time to live.
func gateway(t *testing.T, l *demo.Lab, set *policy.Set, s *secrets, lifetime time.Duration) (number uint32, prk schedule.PRK) {
	t.Helper()
	g, err := station.Open(t.Context(), station.Options{Dir: l.GatewayState(), TPM: l.GatewayTPM(), Gateway: true, Owner: demo.AgentUID})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	store := agent.NewStore(g.Epochs, g.Offline)
	state, missing, err := store.Load()
	if err != nil || len(missing) > 0 || len(state.Nodes) != 1 || len(state.Nodes[0].Epochs) != 1 {
		t.Fatalf("state of the gateway: %v, %v", missing, err)
	}
	defer state.Wipe()
	e := state.Nodes[0].Epochs[0]
	limit := time.Duration(set.Policy.KeyManagement.RotationPolicy.Interval) + set.Binding.Gateway.Grace
	e.Agreed = time.Now().Add(lifetime - limit).Unix()
	if err := store.Save(state); err != nil {
		t.Fatal(err)
	}
	encoded, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.add("state file of secrets", encoded.Secrets)
	encoded.Wipe()
	for _, f := range []struct {
		name  string
		value uint64
		hw    vault.Hardware
	}{{"epochs", g.Epochs.Value(), g.Counters.Generation}, {"offline", g.Offline.Value(), g.Counters.Offline}} {
		names, err := filepath.Glob(filepath.Join(l.GatewayState(), f.name+".*.state"))
		if err != nil || len(names) != 1 {
			t.Fatalf("state files %v, %v", names, err)
		}
		s.mac("key of state file "+f.name, stateKey(t, "", names[0], func(b []byte) ([]byte, error) { return f.hw.UnsealAt(b, f.value) }))
	}
	prk = *e.PRK.Get()
	s.epoch(e.Number, &prk)
	for _, x := range e.Starts {
		s.run(e.Number, &prk, &x.Random, sources(set))
	}
	return e.Number, prk
}

// starts notes the random values of the starts on the wire.
type starts struct {
	mu  sync.Mutex
	all [][16]byte
}

func (s *starts) record(_ int, f *loader.CANFrame) {
	h, err := spdu.ParseHeader(f.Data[:f.Len])
	if err != nil || h.Kind != spdu.KindStart {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := [16]byte(f.Data[8:24]); !slices.Contains(s.all, x) {
		s.all = append(s.all, x)
	}
}

func (s *starts) seen() [][16]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	within(t, patience, what, is)
}

// within waits for a condition that may take its time.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestProcesses looks at the agent and at the edge while they work, and at the agent after its epoch has come to its end.
func TestProcesses(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name    string
		refuse  bool
		edgeTPM bool
	}{{"memfd_secret", false, true}, {"locked pages", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			seen := false
			for life := lifetime; !seen && !t.Failed(); life *= 2 {
				if life > longestLifetime {
					t.Fatalf("an epoch that lives for %v has always ended before the scan has", longestLifetime)
				}
				t.Run(fmt.Sprintf("epoch of %v", life), func(t *testing.T) { seen = testProcesses(t, c.refuse, c.edgeTPM, life) })
			}
		})
	}
}

// testProcesses returns false, and has found nothing, if the epoch ended before it was looked at.
func testProcesses(t *testing.T, refuse, edgeTPM bool, life time.Duration) (seen bool) {
	t.Setenv("GOTRACEBACK", "crash") // a crash ends in the way that dumps core
	l, set := newLab(t, demo.LabOptions{Program: program(t, refuse), SoftwareEdge: !edgeTPM})
	s := &secrets{t: t}
	number, prk := gateway(t, l, set, s, life)
	public := []byte(set.Policy.Name)

	running, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var onWire starts
	wire := l.StartWire(onWire.record)
	edge, err := l.StartEdge("", nil, 1, "--simulate", (4 * life).String(), "--seed", "3", "--temperature-id", "0x6F3")
	if err != nil {
		t.Fatal(err)
	}
	status := func() agent.Status {
		t.Helper()
		x, err := l.Status(t.Context())
		if err != nil {
			t.Fatalf("%v; the agent says: %s", err, running.Log())
		}
		return x
	}
	ended := false
	within(t, life+patience, "samples are published", func() bool {
		x := status()
		if ended = len(x.Nodes[0].Epochs) == 0; ended {
			return true
		}
		for _, st := range x.Streams {
			if st.Role != "heartbeat" && st.Published > 0 {
				return true
			}
		}
		return false
	})
	if ended {
		t.Logf("the epoch has ended before there was a sample")
		return false
	}
	for _, random := range onWire.seen() {
		s.run(number, &prk, &random, sources(set))
	}

	kind := "memfd_secret"
	if refuse {
		kind = "locked pages"
	}
	x := status()
	if x.KeyMemory.Kind != kind || (x.KeyMemory.Refused != "") != refuse {
		t.Errorf("key memory in status: %+v", x.KeyMemory)
	}
	until(t, "the log says that the agent is running", func() bool { return strings.Contains(running.Log(), "agent is running") })
	if said := strings.Count(running.Log(), "key_memory_readable"); said != 1 && refuse || said != 0 && !refuse {
		t.Errorf("the log names the refusal %d times", said)
	}
	allowed := nowhere
	if refuse {
		allowed = locked
	}
	r := s.inUse(running.PID(), public, allowed)
	live := status()
	if len(live.Nodes[0].Epochs) != 1 {
		t.Logf("the epoch has ended before the scan has")
		return false
	}
	t.Run("agent in use", func(t *testing.T) { s.on(t).atRest(r, refuse) })

	// The edge's own keys: what is looked for is the same, and its state file besides.
	own := &secrets{t: t, all: slices.Clone(s.all)}
	if !edgeTPM {
		key, err := os.ReadFile(filepath.Join(l.EdgeState(), "software.key"))
		if err != nil {
			t.Fatal(err)
		}
		own.cipher("software ", key)
	}
	r = own.inUse(edge.PID(), public, allowed)
	t.Run("edge in use", func(t *testing.T) { own.on(t).atRest(r, refuse) })
	if err := edge.Stop(); err != nil {
		t.Fatal(err)
	}
	var report struct {
		Sealed    uint64 `json:"sealed"`
		KeyMemory string `json:"key_memory"`
	}
	if err := json.Unmarshal(edge.Output(), &report); err != nil || report.Sealed == 0 || report.KeyMemory != kind {
		t.Errorf("report of the edge %q: %v", edge.Output(), err)
	}

	within(t, life+patience, "the epoch ends", func() bool { return len(status().Nodes[0].Epochs) == 0 })
	until(t, "memory is cleared", func() bool { return strings.Contains(running.Log(), "secrets_erased") })
	if !strings.Contains(running.Log(), "key_expired") {
		t.Errorf("the agent does not say that a key has expired: %s", running.Log())
	}
	r = s.scan(running.PID(), public)
	t.Run("agent after the end of the epoch", func(t *testing.T) { s.on(t).none("retired", r) })
	noCore(t, running)
	if err := wire.Finish(); err != nil {
		t.Error(err)
	}
	return true
}

// on is s with another test to report to.
func (s *secrets) on(t *testing.T) *secrets { return &secrets{t: t, all: s.all} }

// noCore ends a process in a way that dumps core, after root has lifted its limit, and wants none: the process is not dumpable.
func noCore(t *testing.T, p *demo.Process) {
	t.Helper()
	// A root without CAP_SYS_RESOURCE cannot lift the limit of zero; the process must leave no core with it, either.
	err := unix.Prlimit(p.PID(), unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
	if err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	if err := unix.Kill(p.PID(), unix.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	err = p.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the process ends with %v", err)
	}
	if w, ok := exit.Sys().(syscall.WaitStatus); !ok || w.Signal() != unix.SIGABRT || w.CoreDump() {
		t.Errorf("the process ends with %v", exit)
	}
}
