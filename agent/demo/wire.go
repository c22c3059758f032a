// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellward/cellward/loader"
)

// errorFrameEvery is how many forwarded frames pass between two CAN error frames.
const errorFrameEvery = 256

// Wire carries frames from the edge's interfaces to the gateway's, in order, and lets an attacker add his own behind each.
type Wire struct {
	buses     []*Bus
	mu        sync.Mutex // one frame at a time goes over the wire, whatever its bus
	attacker  *attacker  // nil: nobody
	tampering *tampering
	inserted  []time.Time // when the attacker put frames there
	record    func(bus int, f *loader.CANFrame)
	errors    uint64 // error frames sent, under mu
	carried   atomic.Uint64
	stop      atomic.Bool
	wg        sync.WaitGroup
	failMu    sync.Mutex
	failed    error
}

// StartWire carries what the edge sends to the gateway until Finish. record, if not nil, sees every frame before it is carried;
// it is called by one goroutine at a time.
func (l *Lab) StartWire(record func(bus int, f *loader.CANFrame)) *Wire {
	return startWire(l.Buses, nil, nil, record)
}

// StartAttackedWire is StartWire with an attacker who adds frames on protected identifiers, every one of which is to be refused. Injected says
// how many.
func (l *Lab) StartAttackedWire(seed uint64) *Wire {
	return startWire(l.Buses, newAttacker(seed, nil, 1), nil, nil)
}

// Injected returns how many frames the attacker has added, by kind. It is called after Finish.
func (w *Wire) Injected() map[string]uint64 { return w.attacker.injected }

func startWire(buses []*Bus, a *attacker, x *tampering, record func(int, *loader.CANFrame)) *Wire {
	w := &Wire{buses: buses, attacker: a, tampering: x, record: record}
	for i := range buses {
		w.wg.Go(func() {
			if err := w.forward(i); err != nil {
				w.fail(i, err)
			}
		})
	}
	return w
}

func (w *Wire) fail(bus int, err error) {
	w.failMu.Lock()
	defer w.failMu.Unlock()
	w.failed = errors.Join(w.failed, fmt.Errorf("carry frames of %s: %w", w.buses[bus].Name, err))
}

// pollEvery is how long a read waits before it looks whether the wire is to end.
const pollEvery = 50 * time.Millisecond

func (w *Wire) forward(i int) error {
	f := frame{bus: i}
	for {
		size, err := w.buses[i].edge.read(&f.CANFrame, time.Now().Add(pollEvery))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if w.stop.Load() {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		f.size = size
		if err := w.carry(&f); err != nil {
			return err
		}
	}
}

// carry puts one frame on the gateway's side, and behind it what the attacker makes of it.
func (w *Wire) carry(f *frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.record != nil {
		w.record(f.bus, &f.CANFrame)
	}
	if w.tampering != nil && w.tampering.take(w, f) {
		return nil
	}
	if err := w.put(f); err != nil {
		return err
	}
	n := w.carried.Add(1)
	if w.attacker == nil {
		return nil
	}
	for _, forged := range w.attacker.onSealed(f) {
		w.inserted = append(w.inserted, time.Now())
		if err := w.put(&forged); err != nil {
			return err
		}
	}
	if n%errorFrameEvery == 0 {
		e := errorFrame(f.bus)
		w.errors++
		return w.put(&e)
	}
	return nil
}

func (w *Wire) put(f *frame) error { return w.buses[f.bus].gateway.write(&f.CANFrame, f.size) }

// Finish waits until everything that was sent has been carried, and ends the wire.
func (w *Wire) Finish() error {
	// An edge that has ended has handed all its frames to its interfaces; what is left lies in their queues, and a wire that
	// reads nothing for a whole poll has emptied them.
	w.stop.Store(true)
	w.wg.Wait()
	if w.tampering != nil {
		w.tampering.wg.Wait()
	}
	w.failMu.Lock()
	defer w.failMu.Unlock()
	return w.failed
}

// injections returns when what was done of the selected attacks, in order. The wire has ended.
func (w *Wire) injections(selected []string) map[string][]time.Time {
	all := make(map[string][]time.Time)
	for _, a := range selected {
		switch {
		case familyOf(a) == Insertion && w.attacker != nil:
			all[a] = w.inserted
		case w.tampering != nil:
			all[a] = w.tampering.when[a]
		}
	}
	return all
}
