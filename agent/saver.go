// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"

	"github.com/cellward/cellward/agent/epoch"
)

// saver writes states in the background, newest last, so that the data path waits for a disk only where it must, and never for a
// TPM. All writes of a running agent go through it, so an older state never overwrites a newer one. What the hardware is to retire
// is the business of a goroutine of its own (see retire.go): a TPM may take seconds for each command. A third one erases from memory
// what secrets have left that came or went (see erase.go).
type saver struct {
	store *Store
	// report is told how each write went.
	report func(error)

	mu   sync.Mutex
	cond *sync.Cond
	next *saving // waits; overtaken by a newer one, since each state is whole
	seq  uint64  // of what was put last
	done uint64  // of what is durable
	bad  uint64  // of what failed last
	end  bool
	wg   sync.WaitGroup
	// erasing ends behind the others, which have it begin.
	erasing sync.WaitGroup

	hardware retirer
	eraser   eraser
	// changing is held from the look at what has changed in the store to the request of its erasure.
	changing sync.Mutex
}

// saving is a state on its way; ceilings are those that it holds, by stream slot.
type saving struct {
	encoded  *epoch.Encoded
	ceilings []uint64
	durable  func(ceilings []uint64)
	seq      uint64
}

// newSaver starts its goroutines. report is told how each write went, retired how each attempt of the hardware did, and erased that
// memory is free of secrets that have ended, and of what was left on the way of new ones.
func newSaver(store *Store, report, retired func(error), erased func()) *saver {
	s := &saver{store: store, report: report}
	s.cond = sync.NewCond(&s.mu)
	s.eraser.init(erased)
	s.hardware.init(store, retired, s.eraseChanged)
	s.wg.Go(s.run)
	s.wg.Go(s.hardware.run)
	s.erasing.Go(s.eraser.run)
	return s
}

func (s *saver) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for s.next == nil && !s.end {
			s.cond.Wait()
		}
		job := s.next
		if job == nil {
			return
		}
		s.next = nil
		s.mu.Unlock()
		err := s.store.save(job.encoded)
		job.encoded.Wipe()
		if err == nil {
			job.durable(job.ceilings)
			// What the hardware leaves is erased in one go with the rest.
			if s.store.stale() {
				s.hardware.ask(false)
			} else {
				s.eraseChanged()
			}
		}
		s.report(err)
		s.mu.Lock()
		if err != nil {
			s.bad = job.seq
		} else {
			s.done = job.seq
		}
		s.cond.Broadcast()
	}
}

// eraseChanged has memory erased if a secret has come or gone in the store. While the hardware refuses to retire it, that is once. When it
// returns the erasure has been asked for, also if it was the other goroutine that found the change: whoever waits for a state or for
// the hardware, and then for the eraser, waits for that erasure.
func (s *saver) eraseChanged() {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.store.secretsChanged() {
		s.eraser.ask()
	}
}

// put hands over a state and returns its number for wait. durable is called, by another goroutine, once it is durable.
func (s *saver) put(e *epoch.Encoded, ceilings []uint64, durable func([]uint64)) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		s.next.encoded.Wipe()
	}
	s.seq++
	s.next = &saving{e, ceilings, durable, s.seq}
	s.cond.Broadcast()
	return s.seq
}

// wait returns whether the state of a number, or a newer one, is durable, once that is known.
func (s *saver) wait(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.done < seq && s.bad < seq {
		s.cond.Wait()
	}
	return s.done >= seq
}

// idle waits until nothing is being written and returns whether all that was put is durable.
func (s *saver) idle() bool {
	s.mu.Lock()
	seq := s.seq
	s.mu.Unlock()
	return s.wait(seq)
}

// close waits until what was put last is durable, or has failed, and until the hardware has ended what it was at. What is still to
// be retired is left to Store.Advance.
func (s *saver) close() {
	s.mu.Lock()
	s.end = true
	s.cond.Broadcast()
	s.mu.Unlock()
	s.hardware.close()
	s.wg.Wait()
	s.eraser.close()
	s.erasing.Wait()
}
