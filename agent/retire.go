// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"sync"
)

// errStopping says that the agent ends before something was done.
var errStopping = errors.New("agent is stopping")

// retirer has the hardware retire what is durably gone, in the background. An attempt that fails is made again when somebody asks.
type retirer struct {
	store  *Store
	report func(error)
	// changed is called behind each attempt: the hardware was at work on secrets, and keys of files may have ended.
	changed func()

	mu   sync.Mutex
	cond *sync.Cond
	// due says that an attempt is wanted, generation that it is to end the generation of the state as well; that stands until it
	// has been done.
	due        bool
	generation bool
	begun      uint64 // attempts
	ended      uint64
	err        error // of the last one
	end        bool
	held       bool // no attempt begins
}

func (r *retirer) init(store *Store, report func(error), changed func()) {
	r.store, r.report, r.changed = store, report, changed
	r.cond = sync.NewCond(&r.mu)
}

func (r *retirer) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for (!r.due || r.held) && !r.end {
			r.cond.Wait()
		}
		if r.end {
			return
		}
		generation := r.generation
		r.due, r.generation = false, false
		r.begun++
		r.mu.Unlock()
		err := r.store.retire(generation)
		r.report(err)
		r.changed()
		r.mu.Lock()
		if err != nil {
			r.generation = r.generation || generation
		}
		r.ended, r.err = r.begun, err
		r.cond.Broadcast()
	}
}

// ask wants an attempt and returns its number for wait.
func (r *retirer) ask(generation bool) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due, r.generation = true, r.generation || generation
	r.cond.Broadcast()
	return r.begun + 1
}

// again wants another attempt unless one is being made.
func (r *retirer) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun == r.ended {
		r.due = true
		r.cond.Broadcast()
	}
}

// wait returns how the attempt of a number, or a later one, went. ctx ends the wait, not the attempt.
func (r *retirer) wait(ctx context.Context, number uint64) error {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cond.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ended < number && !r.end && ctx.Err() == nil {
		r.cond.Wait()
	}
	switch {
	case r.ended >= number:
		return r.err
	case r.end:
		return errStopping
	default:
		return context.Cause(ctx)
	}
}

// hold keeps further attempts from beginning until release, and waits for the one that is being made. ctx ends the wait, with no hold.
func (r *retirer) hold(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cond.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = true
	for r.begun != r.ended && ctx.Err() == nil {
		r.cond.Wait()
	}
	if r.begun != r.ended {
		r.held = false
		return context.Cause(ctx)
	}
	return nil
}

func (r *retirer) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = false
	r.cond.Broadcast()
}

func (r *retirer) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = true
	r.cond.Broadcast()
}
