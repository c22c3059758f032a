// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"time"
)

// PollerOptions configures a [Poller]. The zero value is usable.
type PollerOptions struct {
	// Spin is for how long Wait looks at the rings again and again before it sleeps. It saves the wakeup
	// (about 20 us until the reader runs, and time in the hook) and costs a CPU. 0 sleeps at once.
	Spin time.Duration
}

// Poller waits for many rings at once and serves them in turn, so that a flood on one interface cannot keep
// the records of another waiting for more than a batch. Wake is for any goroutine, the rest for one.
type Poller struct {
	rings []*Ring
	turn  int
	spin  time.Duration
	w     *waiter
}

// NewPoller makes a poller over rings, which must stay open as long as it.
func NewPoller(opts PollerOptions, rings ...*Ring) (*Poller, error) {
	fds := make([]int, len(rings))
	for i, r := range rings {
		fds[i] = r.fd
	}
	w, err := newWaiter(fds...)
	if err != nil {
		return nil, fmt.Errorf("make ring poller: %w", err)
	}
	return &Poller{rings: rings, spin: opts.Spin, w: w}, nil
}

// Peek returns a batch from the next ring in turn that has records, and the ring that must be released after
// the batch was dealt with. The ring is nil if none has any.
func (p *Poller) Peek(batch []Record) (*Ring, int, error) {
	for range p.rings {
		r := p.rings[p.turn]
		if p.turn++; p.turn == len(p.rings) {
			p.turn = 0
		}
		n, err := r.Peek(batch)
		if n > 0 || err != nil {
			return r, n, err
		}
	}
	return nil, 0, nil
}

// Wait returns nil as soon as a ring has records, os.ErrDeadlineExceeded, or ErrWoken. A zero deadline never
// passes. All rings must be released: the kernel wakes a reader that has released everything and no other,
// so a reader that holds a batch back could sleep beside a full ring, and gets ErrUnreleased instead.
//
// It returns nil without a system call if there are records already, so a busy reader makes none.
func (p *Poller) Wait(deadline time.Time) error {
	for _, r := range p.rings {
		if r.Unreleased() {
			return ErrUnreleased
		}
	}
	if p.ready() {
		return nil
	}
	if p.spin > 0 {
		for begin := time.Now(); time.Since(begin) < p.spin; {
			for range 64 {
				if p.ready() {
					return nil
				}
			}
		}
	}
	return p.w.wait(deadline)
}

func (p *Poller) ready() bool {
	for _, r := range p.rings {
		if r.Ready() {
			return true
		}
	}
	return false
}

// Wake makes a Wait return ErrWoken, the running one or the next that has to sleep.
func (p *Poller) Wake() { p.w.wake() }

// Close frees the poller, not the rings. Nobody may be in Wait.
func (p *Poller) Close() error { return p.w.close() }
