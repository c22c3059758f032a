// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"sync"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/crypto/secretmem"
)

// saver writes states in the background, newest last, so that the data path waits for a disk or a TPM only where it must. All
// writes of a running agent go through it, so an older state never overwrites a newer one.
type saver struct {
	store *Store
	// report is told how each write went.
	report func(error)
	// erased is told that memory is free of secrets that have ended, and of what was left on the way of new ones.
	erased func()

	mu   sync.Mutex
	cond *sync.Cond
	next *saving // waits; overtaken by a newer one, since each state is whole
	seq  uint64  // of what was put last
	done uint64  // of what is durable
	bad  uint64  // of what failed last
	end  bool
	wg   sync.WaitGroup
}

// saving is a state on its way; ceilings are those that it holds, by stream slot.
type saving struct {
	encoded  *epoch.Encoded
	ceilings []uint64
	durable  func(ceilings []uint64)
	seq      uint64
}

func newSaver(store *Store, report func(error), erased func()) *saver {
	s := &saver{store: store, report: report, erased: erased}
	s.cond = sync.NewCond(&s.mu)
	s.wg.Go(s.run)
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
		err := s.store.save(job.encoded, false)
		job.encoded.Wipe()
		// A TPM that does not answer keeps nothing from being durable.
		durable := err == nil || errors.Is(err, ErrRetire)
		if durable {
			job.durable(job.ceilings)
		}
		s.report(err)
		if s.store.secretsChanged() {
			secretmem.Collect()
			s.erased()
		}
		s.mu.Lock()
		if !durable {
			s.bad = job.seq
		} else {
			s.done = job.seq
		}
		s.cond.Broadcast()
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

// close waits until what was put last is durable, or has failed.
func (s *saver) close() {
	s.mu.Lock()
	s.end = true
	s.cond.Broadcast()
	s.mu.Unlock()
	s.wg.Wait()
}
