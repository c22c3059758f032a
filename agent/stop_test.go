// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
)

// tooLong is when a wait that nothing ends any more is given up, on the slowest machine.
const tooLong = time.Minute

// TestStopBesideAHold stops an agent whose work on keys and TPM are held for a successor, that nobody lets go of: the loop that a
// successor would be passed to has ended.
func TestStopBesideAHold(t *testing.T) {
	g := newGatewayRig(t)
	m := g.agent.keys.Load()
	release, err := m.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.saves.hardware.hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		g.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(tooLong):
		t.Error("the agent waits for whoever holds its keys, who waits for the agent")
		release(false)
		<-stopped
	}
	// Who holds hears of the end, and lets go of what has ended.
	m.saves.hardware.release()
	release(false)
	if _, err := m.hold(t.Context()); err != nil {
		t.Errorf("hold keys that nobody works on any more: %v", err)
	}
}

// TestNoRequestBehindAnEnd lets go of held keys for good while requests wait: none of them is worked on.
func TestNoRequestBehindAnEnd(t *testing.T) {
	for name, over := range map[string]bool{"handed over": true, "agent ends": false} {
		t.Run(name, func(t *testing.T) {
			g := newGatewayRig(t)
			m := g.agent.keys.Load()
			release, err := m.hold(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var requests sync.WaitGroup
			for range 8 {
				requests.Go(func() {
					_, err := do(t.Context(), g.agent, func(*keyManager) (int, error) {
						t.Error("a request was worked on")
						return 0, nil
					})
					if err == nil {
						t.Error("a request was not refused")
					}
				})
			}
			if over {
				release(true)
			} else {
				m.cancel()
			}
			requests.Wait()
			release(false)
		})
	}
}

// TestWokenAtTheStart wakes a loop from before its beginning to its end, as control socket and signals do.
func TestWokenAtTheStart(t *testing.T) {
	r := newRig(t)
	r.boot(true)
	p, err := ring.NewProducer(ring.Config{Streams: []ring.Stream{{ID: 2, Name: "cells", Interface: "can0", Source: "cells"}}, Slots: 64, BodyMax: 36})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	log := slog.New(slog.DiscardHandler)
	opts := Options{Set: r.set, Store: NewStore(&memoryGenerations{}, &memoryGenerations{}), Log: log}
	m, err := newMonitor(&opts)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{opts: opts, log: log, core: r.core, state: r.state, ring: p, monitor: m, began: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		for range 1000 {
			a.wake()
		}
		cancel()
	})
	if err := a.loop(ctx); err != nil {
		t.Error(err)
	}
	others.Wait()
	a.wake() // nobody is there any more
	if err := m.close(); err != nil {
		t.Error(err)
	}
}
