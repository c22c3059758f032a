// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/notify"
	"github.com/cellward/cellward/agent/ring"
)

// memoryGenerations keeps generations in memory.
type memoryGenerations struct{ memoryVault }

func (g *memoryGenerations) Retire() error { return nil }

// TestWatchdogIsFedByTheLoop wants one WATCHDOG=1 for each round of housekeeping that the loop gets through, and none while it is held
// up: the lock is what a batch that never ends would hold.
func TestWatchdogIsFedByTheLoop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000000")
	log := slog.New(slog.DiscardHandler)
	n, err := notify.New(log)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	r := newRig(t)
	r.boot(true)
	p, err := ring.NewProducer(ring.Config{Streams: []ring.Stream{{ID: 2, Name: "cells", Interface: "can0", Source: "cells"}}, Slots: 64, BodyMax: 36})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	store := NewStore(&memoryGenerations{}, &memoryGenerations{})
	a := &Agent{opts: Options{Set: r.set, Store: store, Notify: n}, log: log, core: r.core, state: r.state, ring: p}
	saves := newSaver(store, a.saveReport, a.retireReport, a.eraseReport)
	defer saves.close()

	heard := func(wait time.Duration) bool {
		t.Helper()
		b := make([]byte, 64)
		if err := manager.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		k, err := manager.Read(b)
		if err == nil && string(b[:k]) != "WATCHDOG=1" {
			t.Fatalf("the manager heard %q", b[:k])
		}
		return err == nil
	}
	for range 3 {
		a.tick(saves)
		if !heard(10 * time.Second) {
			t.Fatal("the loop goes round, and the manager does not hear of it")
		}
	}
	a.mu.Lock()
	done := make(chan struct{})
	go func() {
		a.tick(saves)
		close(done)
	}()
	if heard(200 * time.Millisecond) {
		t.Error("the loop is held up, and the manager hears that all is well")
	}
	a.mu.Unlock()
	<-done
	if !heard(10 * time.Second) {
		t.Error("the loop goes on, and the manager does not hear of it")
	}
}
