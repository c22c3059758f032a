// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
)

// arrivals are the times at which a reader has printed samples.
type arrivals struct {
	mu  sync.Mutex
	all []time.Time
	wg  sync.WaitGroup
}

func (a *arrivals) follow(p *demo.Process) {
	a.wg.Go(func() {
		for s := bufio.NewScanner(p.Lines); s.Scan(); {
			now := time.Now()
			a.mu.Lock()
			a.all = append(a.all, now)
			a.mu.Unlock()
		}
	})
}

// longest returns the longest time without a sample between two moments, and how many samples there were.
func (a *arrivals) longest(from, to time.Time) (pause time.Duration, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := from
	for _, x := range a.all {
		if x.Before(from) || x.After(to) {
			continue
		}
		pause, last, n = max(pause, x.Sub(last)), x, n+1
	}
	return max(pause, to.Sub(last)), n
}

// TestErasureUnderLoad has the agent take up an epoch and retire it again, with memory erased behind either, while samples come in
// under another: none is lost. It prints the longest time without a sample, next to that of a time in which nothing is done.
func TestErasureUnderLoad(t *testing.T) {
	needRoot(t)
	const simulated = 20 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 50_000, SoftwareEdge: true}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got arrivals
	reader, err := l.StartReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got.follow(reader)
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, 1, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the first samples", func() bool { return published(t, l) > 100 })
	node := t.TempDir()
	names, err := os.ReadDir(l.EdgeState())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(l.EdgeState(), n.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(node, n.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	message := func(name string) string { return filepath.Join(t.TempDir(), name) }
	offer, reply := message("offer"), message("reply")
	keys := func(verb string, args ...string) (from, to time.Time) {
		t.Helper()
		from = time.Now()
		if _, err := l.Keys(t.Context(), verb, args...); err != nil {
			t.Fatal(err)
		}
		return from, time.Now()
	}
	say := func(what string, from, to time.Time) {
		t.Helper()
		pause, n := got.longest(from, to)
		t.Logf("%s: %v, %d samples, longest time without one %v", what, to.Sub(from).Round(time.Millisecond), n, pause.Round(time.Millisecond/10))
	}
	keys("offer", "--node", "bmu", "--out", offer)
	keys("enroll", "--node", "bmu", "--state", node, "--offer", offer, "--out", reply, "--software-key")
	for range 2 {
		from := time.Now()
		time.Sleep(time.Second)
		say("nothing is done", from, time.Now())
	}
	from, to := keys("accept", "--reply", reply)
	say("epoch taken up", from, to)
	from, to = keys("retire", "--node", "bmu", "--epoch", "2")
	say("epoch retired", from, to)
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	sealed := report(t, edge).Sealed
	until(t, "the last sample", func() bool { return published(t, l) == sealed })
	if x := settled(t, l); x.Published() != sealed {
		t.Errorf("%d samples of %d", x.Published(), sealed)
	}
	if err := wire.Finish(); err != nil {
		t.Error(err)
	}
	if err := reader.Stop(); err != nil {
		t.Error(err)
	}
	got.wg.Wait()
	if err := gateway.Stop(); err != nil {
		t.Error(err)
	}
}
