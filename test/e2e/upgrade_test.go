// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
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
	const speed = 25 // 8,500 frames a second
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
	for i := range *upgrades {
		before := got.count()
		begun := time.Now()
		if gateway, err = l.Upgrade(t.Context(), gateway); err != nil {
			t.Fatalf("upgrade %d: %v", i+1, err)
		}
		took := time.Since(begun)
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
	if err := behind.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := reader.Stop(); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	r := compareWithSealed(t, l, &got, sealed, simulated)
	var injected uint64
	for _, n := range wire.Injected() {
		injected += n
	}
	var counted, deleted uint64
	for _, s := range status.Streams {
		counted, deleted = counted+s.Lost, deleted+s.Deleted
	}
	t.Logf("| %-9s | %6s | %8s | %8s | %6s | %7s | %4s | %7s | %s", "what", "times", "sealed", "read", "forged", "doubled", "lost", "counted", "time of each: mean, longest")
	t.Logf("| %-9s | %6d | %8d | %8d | %6d | %7d | %4d | %7d | %v, %v", "upgrades", *upgrades, sealed.Sealed, r.read, injected, r.doubled, r.lost, counted,
		sum/time.Duration(max(1, *upgrades)), longest)
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
