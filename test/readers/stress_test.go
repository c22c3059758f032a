// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"flag"
	"syscall"
	"testing"
	"time"
)

// How long TestStress runs: go test ./test/readers -run TestStress -v -timeout 10m -stress 5m
var stressDuration = flag.Duration("stress", 3*time.Second, "duration of TestStress")

// TestStress: one reader in each language, in processes of their own, follow a producer that publishes as fast as it can.
// No sample is torn (checksum in the body), and every position is delivered or counted as missed. Two more readers go
// through what a reader can do to a producer: one is stopped for a third of the time, one is killed. Neither is felt:
// every batch is published, and the stopped one knows exactly what it missed.
func TestStress(t *testing.T) {
	c := cSubject(t)
	w, server, path := stampedRing(t, 1<<15)
	type reader struct {
		name    string
		process *process
	}
	readers := []reader{{"C", c.follow(t, path, "now", 64, 0)}}
	for _, s := range []subject{cppSubject(t), pythonSubject(t, "Python")} {
		if s.skip != "" {
			t.Logf("without %s: %s", s.name, s.skip)
			continue
		}
		readers = append(readers, reader{s.name, s.follow(t, path, "now", 64, 0)})
	}
	readers = append(readers, reader{"Go", startRole(t, roleFollow, path)})
	stopped := c.follow(t, path, "now", 64, 0)
	killed := c.follow(t, path, "now", 64, 0)

	// Three spans of time, each until the clock says so; what is published in each is for the log only.
	var published [3]uint64
	span := func(i int) {
		begin := w.next
		for end := time.Now().Add(*stressDuration / 3); time.Now().Before(end); {
			if err := w.publish(4096); err != nil {
				t.Fatal(err)
			}
		}
		published[i] = w.next - begin
	}
	span(0)
	if err := stopped.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	killed.kill()
	span(1)
	if got := w.producer.Published(); got != w.next || published[1] == 0 {
		t.Errorf("published %d of %d samples while a reader was stopped", got, w.next)
	}
	if err := stopped.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	span(2)
	if got := server.Stats(); got.Clients != len(readers)+1 {
		t.Errorf("%d clients are connected, want %d: the server did not see the killed one go", got.Clients, len(readers)+1)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range append(readers, reader{"stopped", stopped}) {
		a := r.process.account()
		checkAccount(t, r.name, a, w.next)
		if r.name == "stopped" && a.Missed < published[1]/2 {
			t.Errorf("the reader that was stopped missed only %d samples", a.Missed)
		}
		t.Logf("%-8s read %11d, missed %11d of %d", r.name, a.Read, a.Missed, a.Next)
	}
	seconds := stressDuration.Seconds() / 3
	t.Logf("published %.2f, %.2f, %.2f million samples a second: all readers, one stopped and one killed, after that",
		float64(published[0])/seconds/1e6, float64(published[1])/seconds/1e6, float64(published[2])/seconds/1e6)
}
