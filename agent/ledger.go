// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/chain"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/event/sink"
)

// Bounds of the ledger.
const (
	ledgerSize   = 4096 // records that wait before they are summed up
	ledgerSettle = 250 * time.Millisecond
	ledgerRetry  = time.Second
	ledgerGrace  = 10 * time.Second // for a process before this one to close the log
)

// ledger writes the event log in a goroutine of its own: a disk that is slow, and a TPM that takes seconds to sign a head, hold up
// nothing but the log. What comes before the log is open, and while it takes nothing, waits.
type ledger struct {
	// report is told what the log has to say about itself, saved of each head that was signed.
	report func(event.Record)
	saved  func(chain.Head) error

	mu      sync.Mutex
	pending []event.Record
	backlog event.Backlog
	stats   sink.Stats

	// reopen is tried until it gives a log, where another process has it still.
	reopen func() (*chain.Log, error)

	log  *chain.Log
	quit chan struct{}
	done chan struct{}
	// broken says that the last write has failed.
	broken bool
	head   uint64
}

func newLedger(report func(event.Record), saved func(chain.Head) error) *ledger {
	return &ledger{report: report, saved: saved, stats: sink.Stats{Name: "log"}, quit: make(chan struct{}), done: make(chan struct{})}
}

// Offer implements event.Destination.
func (l *ledger) Offer(r *event.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Offered += r.Count
	if len(l.pending) < ledgerSize && l.backlog.Len() == 0 {
		l.pending = append(l.pending, *r)
		return
	}
	l.stats.Summed += r.Count
	l.backlog.Add(r)
}

// open begins to write to a log, which is the ledger's from then on.
func (l *ledger) open(log *chain.Log) {
	l.log = log
	go l.run()
}

// begin is open once try gives a log. As long as another process has it, what comes waits.
func (l *ledger) begin(try func() (*chain.Log, error)) {
	l.reopen = try
	go l.run()
}

func (l *ledger) run() {
	defer close(l.done)
	tick := time.NewTicker(ledgerSettle)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-tick.C:
		}
		if !l.write(false) {
			select {
			case <-l.quit:
				return
			case <-time.After(ledgerRetry):
			}
		}
	}
}

// write hands the log what waits and returns whether it has taken it.
func (l *ledger) write(final bool) bool {
	var err error
	if l.log == nil {
		if l.log, err = l.reopen(); errors.Is(err, chain.ErrLocked) {
			return true // not a failure, and looked at again soon
		}
	}
	if err == nil {
		err = l.append(final)
	}
	if err != nil && !l.broken {
		l.report(event.Record{Kind: kind.LogWriteFailed, Detail: err.Error()})
	}
	l.broken = err != nil
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.stats.Failures++
		l.stats.LastError = err.Error()
	}
	return err == nil
}

// append has the log take what waits.
func (l *ledger) append(final bool) error {
	err := l.drain()
	for _, r := range l.log.Notices() {
		l.report(r)
	}
	err = errors.Join(err, l.log.Settle(final))
	if h, ok := l.log.Head(); err == nil && ok && h.Seq != l.head {
		if err = l.saved(h); err == nil {
			l.head = h.Seq
		}
	}
	return err
}

func (l *ledger) drain() error {
	for {
		l.mu.Lock()
		var r event.Record
		first := len(l.pending) > 0
		switch {
		case first:
			r = l.pending[0]
		case l.backlog.Len() > 0:
			r = *l.backlog.Next()
			l.backlog.Done()
		default:
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		err := l.log.Append(&r)
		l.mu.Lock()
		switch {
		case err != nil && !first:
			l.backlog.Add(&r)
		case err != nil:
		default:
			l.stats.Delivered += r.Count
			l.stats.Records++
			if first {
				if l.pending = l.pending[1:]; len(l.pending) == 0 {
					l.pending = nil // give the array back
				}
			}
		}
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// Stats returns the counts of the log as a destination.
func (l *ledger) Stats() sink.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Waiting = s.Offered - s.Delivered
	return s
}

// close writes what waits, signs a last head and closes the log.
func (l *ledger) close() error {
	if l.log == nil && l.reopen == nil {
		return nil
	}
	close(l.quit)
	<-l.done
	for end := time.Now().Add(ledgerGrace); ; time.Sleep(ledgerSettle) {
		l.write(true)
		if l.log != nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("close event log: %w", chain.ErrLocked)
		}
	}
	// The note of the head is written while nobody else can have the log: whoever opens it next goes by the note.
	err := l.log.Seal()
	if h, ok := l.log.Head(); ok && err == nil {
		err = l.saved(h)
	}
	return errors.Join(err, l.log.Close())
}
