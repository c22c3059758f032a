// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

var upgrades = flag.Int("upgrades", 5, "how often TestUpgrades upgrades the agent")

// TestUpgrades has a new agent take over from the running one again and again, under load and with an attacker on the bus. A reader
// that follows all the time gets every sample exactly once, and nothing else.
func TestUpgrades(t *testing.T) {
	needRoot(t)
	const speed = 25 / min(slowdown, 5) // 25: 8,500 frames a second
	simulated := time.Duration(*upgrades+2) * speed * 800 * time.Millisecond
	l := newLab(t, demo.LabOptions{Frames: 200_000}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got readings
	reader, err := l.StartReader(t.Context(), "--reconnect")
	if err != nil {
		t.Fatal(err)
	}
	got.follow(t, reader)
	var inPython readings
	python := followInPython(t, l, &inPython)
	behind, err := l.TapStack()
	if err != nil {
		t.Fatal(err)
	}
	wire := l.StartAttackedWire(7)
	edge, err := l.StartEdge("", nil, speed, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	var longest, sum time.Duration
	var pauses []int64 // in µs
	for i := range *upgrades {
		before := got.count()
		begun, former := time.Now(), gateway
		if gateway, err = l.Upgrade(t.Context(), gateway); err != nil {
			t.Fatalf("upgrade %d: %v", i+1, err)
		}
		took := time.Since(begun)
		pauses = append(pauses, paused(t, former))
		longest, sum = max(longest, took), sum+took
		for deadline := time.Now().Add(10 * time.Second); got.count() == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no sample after upgrade %d", i+1)
			}
		}
	}
	loaded := edge.Running()
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	status := settled(t, l)
	sealed := report(t, edge)
	waitFor(t, &got, sealed.Sealed)
	waitFor(t, &inPython, sealed.Sealed)
	if err := behind.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := reader.Stop(); err != nil {
		t.Fatal(err)
	}
	python()
	got.wg.Wait()
	inPython.wg.Wait()
	r := compareWithSealed(t, l, &got, sealed, simulated)
	if p := compareWithSealed(t, l, &inPython, sealed, simulated); p.doubled != 0 || p.foreign != 0 || p.lost != 0 {
		t.Errorf("reader in Python: doubled %d, not sealed %d, lost %d", p.doubled, p.foreign, p.lost)
	}
	var injected uint64
	for _, n := range wire.Injected() {
		injected += n
	}
	var counted, deleted uint64
	for _, s := range status.Streams {
		counted, deleted = counted+s.Lost, deleted+s.Deleted
	}
	slices.Sort(pauses)
	const row = "| %-8v | %5v | %8v | %8v | %6v | %7v | %4v | %7v | %21v | %21v |"
	t.Logf(row, "what", "times", "sealed", "read", "forged", "doubled", "lost", "counted", "pause median, most", "start mean, most")
	t.Logf(row, "upgrades", *upgrades, sealed.Sealed, r.read, injected, r.doubled, r.lost, counted,
		fmt.Sprintf("%.1f, %.1f ms", float64(pauses[len(pauses)/2])/1e3, float64(pauses[len(pauses)-1])/1e3),
		fmt.Sprintf("%v, %v", (sum/time.Duration(*upgrades)).Round(time.Millisecond), longest.Round(time.Millisecond)))
	if r.doubled != 0 || r.foreign != 0 || r.lost != 0 || counted != 0 || deleted != 0 {
		t.Errorf("doubled %d, not sealed %d, lost %d, counted as lost %d, deleted %d; want none", r.doubled, r.foreign, r.lost, counted, deleted)
	}
	if injected < 100 || !loaded {
		t.Errorf("%d frames injected, edge still at work at the end of the upgrades: %t", injected, loaded)
	}
	if n := status.Verdict(loader.Shed); n != 0 {
		t.Errorf("%d frames were shed: the test's rings are too small", n)
	}
	if n := behind.ProtectedFrames(); n != 0 {
		t.Errorf("%d protected frames reached the CAN stack", n)
	}
}

// paused returns for how many µs the data path of an agent stood still that has handed over, as it says itself.
func paused(t *testing.T, p *demo.Process) int64 {
	t.Helper()
	for line := range strings.Lines(p.Log()) {
		var e struct {
			Event  string `json:"event"`
			Paused int64  `json:"paused_us"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "upgraded" {
			return e.Paused
		}
	}
	t.Fatalf("the agent before says nothing of an upgrade: %s", p.Log())
	return 0
}

// pythonReader follows a ring as programs do that are not this module's.
const pythonReader = `
import sys, cellward_ring
with cellward_ring.open(sys.argv[1], reconnect=True, stale_after=60) as ring:
    while True:
        lines = ['{"stream":%d,"epoch":%d,"counter":%d,"body":"%s"}' % (s.stream.stream_id, s.epoch, s.counter, s.body.hex())
                 for s in ring.next(4096, 1.0)]
        if lines:
            print("\n".join(lines), flush=True)
`

// followInPython starts a reader in Python and waits until it has the ring; end ends it.
func followInPython(t *testing.T, l *demo.Lab, got *readings) (end func()) {
	t.Helper()
	module, err := filepath.Abs(filepath.Join("..", "..", "agent", "ring", "python"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", pythonReader, l.RingSocket())
	cmd.Env = append(os.Environ(), "PYTHONPATH="+module, "PYTHONDONTWRITEBYTECODE=1")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it knows no end
		got.wg.Wait()
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	got.follow(t, &demo.Process{Lines: out})
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if s, err := l.Status(t.Context()); err == nil && s.Readers > before.Readers {
			return end
		}
		if time.Now().After(deadline) {
			end()
			t.Fatalf("reader in Python does not connect: %s", errs.String())
		}
	}
}

// comparison is what came out, held against what was sealed.
type comparison struct{ read, doubled, foreign, lost uint64 }

// compareWithSealed counts.
func compareWithSealed(t *testing.T, l *demo.Lab, got *readings, sealed demo.SealCounts, d time.Duration) (c comparison) {
	t.Helper()
	want := bodies(t, l.Binding(), d)
	seen := make(map[[2]uint64]bool)
	for _, s := range got.all {
		c.read++
		key := [2]uint64{uint64(s.Stream), s.Counter}
		i := s.Counter - sealed.FirstCounter
		switch {
		case seen[key]:
			c.doubled++
		case i >= uint64(len(want[s.Stream])) || want[s.Stream][i] != s.Body:
			c.foreign++
		}
		seen[key] = true
	}
	if sealed.Sealed != sealed.Offered || sealed.Sealed == 0 {
		t.Errorf("sealed %d of %d", sealed.Sealed, sealed.Offered)
	}
	c.lost = sealed.Sealed - uint64(len(seen))
	return c
}

// waitFor waits until readers have so many samples, or none comes any more.
func waitFor(t *testing.T, got *readings, want uint64) {
	t.Helper()
	last, since := -1, time.Now()
	for uint64(got.count()) < want && time.Since(since) < 5*time.Second {
		if n := got.count(); n != last {
			last, since = n, time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
}
