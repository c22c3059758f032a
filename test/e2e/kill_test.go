// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

var kills = flag.Int("kills", 8, "how often TestKilledAgent kills the agent")

// TestKilledAgent kills the agent (SIGKILL) again and again under load and starts it anew. Nothing is published twice, what is
// lost is what an agent had committed and not published, at most a batch per kill and counted, protected identifiers are closed
// meanwhile, and samples resume.
func TestKilledAgent(t *testing.T) {
	needRoot(t)
	const speed = 25 / min(slowdown, 5)
	// More than it takes: a slow machine must not run out of frames, and what is left over is not sealed.
	simulated := time.Duration(*kills) * 160 * time.Second
	l := newLab(t, demo.LabOptions{Frames: 100_000}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got readings
	reader, err := l.StartReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got.follow(t, reader)
	behind, err := l.TapStack()
	if err != nil {
		t.Fatal(err)
	}
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, speed, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range *kills {
		time.Sleep(150 * time.Millisecond)
		gateway.Kill()
		if err := reader.Wait(); err == nil {
			t.Fatal("the reader did not notice the kill")
		}
		time.Sleep(50 * time.Millisecond) // frames go on arriving
		before := got.count()
		if gateway, err = l.StartAgent(t.Context()); err != nil {
			t.Fatalf("start after kill %d: %v", i+1, err)
		}
		if reader, err = l.StartReader(t.Context()); err != nil {
			t.Fatal(err)
		}
		got.follow(t, reader)
		for deadline := time.Now().Add(10 * time.Second); got.count() == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no sample after kill %d", i+1)
			}
		}
	}
	if err := errors.Join(edge.Stop(), wire.Finish()); err != nil {
		t.Fatal(err)
	}
	status := settled(t, l)
	if err := behind.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := reader.Wait(); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	checkKilled(t, l, &got, report(t, edge), status, simulated)
	if n := behind.ProtectedFrames(); n != 0 {
		t.Errorf("%d protected frames reached the CAN stack", n)
	}
}

func checkKilled(t *testing.T, l *demo.Lab, got *readings, sealed demo.SealCounts, status agent.Status, d time.Duration) {
	t.Helper()
	want := bodies(t, l.Binding(), d)
	type key struct {
		stream  uint32
		counter uint64
	}
	seen := make(map[key]bool)
	for _, s := range got.all {
		k := key{s.Stream, s.Counter}
		if seen[k] {
			t.Fatalf("published twice: %+v", s)
		}
		seen[k] = true
		i := s.Counter - sealed.FirstCounter
		if i >= uint64(len(want[s.Stream])) || want[s.Stream][i] != s.Body {
			t.Fatalf("not what was sealed: %+v", s)
		}
	}
	var counted, reread uint64
	for _, s := range status.Streams {
		counted += s.Lost
	}
	reread = status.Verdict(loader.Reread)
	lost := sealed.Sealed - uint64(len(seen))
	t.Logf("%d kills: %d sealed, %d came out, %d lost, %d counted as lost, %d reread, shed %d", *kills, sealed.Sealed, len(seen), lost, counted, reread, status.Verdict(loader.Shed))
	if sealed.Sealed != sealed.Offered || sealed.Sealed == 0 {
		t.Errorf("sealed %d of %d", sealed.Sealed, sealed.Offered)
	}
	// The count errs on one side only: a sample whose publication was not noted any more counts as lost and was read.
	if counted < lost || counted > uint64(*kills)*agent.BatchSize {
		t.Errorf("%d lost, %d counted, at most %d allowed", lost, counted, *kills*agent.BatchSize)
	}
}

// TestCleanRestart stops and starts the agent cleanly under load: nothing is lost and nothing doubled.
func TestCleanRestart(t *testing.T) {
	needRoot(t)
	const simulated, speed = 150 * time.Second, 60 / slowdown // 60: 20,400 frames a second
	l := newLab(t, demo.LabOptions{Frames: 100_000}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got readings
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", nil, speed, packInput(simulated)...)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		reader, err := l.StartReader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got.follow(t, reader)
		time.Sleep(300 * time.Millisecond)
		if err := gateway.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := reader.Wait(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond)
		if gateway, err = l.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := l.StartReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got.follow(t, reader)
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	status := settled(t, l)
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := reader.Wait(); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	sealed := report(t, edge)
	seen := make(map[[2]uint64]bool)
	for _, s := range got.all {
		seen[[2]uint64{uint64(s.Stream), s.Counter}] = true
	}
	if uint64(len(seen)) != sealed.Sealed || uint64(len(got.all)) != sealed.Sealed {
		t.Errorf("%d sealed, %d read, %d of them different", sealed.Sealed, len(got.all), len(seen))
	}
	for _, s := range status.Streams {
		if s.Lost != 0 || s.Deleted != 0 {
			t.Errorf("stream %d: lost %d, deleted %d", s.Stream, s.Lost, s.Deleted)
		}
	}
}
