// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync"

	"github.com/cellward/cellward/crypto/secretmem"
)

// eraser clears memory, in the background, of what secrets have left that came or went. It is no business of whoever writes states:
// the data path may be waiting for those, and this takes some tenths of a second.
type eraser struct {
	// erased is told when it is done.
	erased func()

	mu    sync.Mutex
	cond  *sync.Cond
	due   bool
	begun uint64
	ended uint64
	end   bool
}

func (r *eraser) init(erased func()) {
	r.erased = erased
	r.cond = sync.NewCond(&r.mu)
}

func (r *eraser) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for !r.due && !r.end {
			r.cond.Wait()
		}
		if !r.due {
			return
		}
		r.due = false
		r.begun++
		r.mu.Unlock()
		secretmem.Collect()
		r.erased()
		r.mu.Lock()
		r.ended = r.begun
		r.cond.Broadcast()
	}
}

// ask wants memory to be cleared of what has ended by now.
func (r *eraser) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = true
	r.cond.Broadcast()
}

// wait returns when all that was asked for before is done. ctx ends the wait, not the work.
func (r *eraser) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cond.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.begun
	if r.due {
		last++
	}
	for r.ended < last && ctx.Err() == nil {
		r.cond.Wait()
	}
	if r.ended >= last {
		return nil
	}
	return context.Cause(ctx)
}

// close ends it behind what was asked for.
func (r *eraser) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = true
	r.cond.Broadcast()
}
