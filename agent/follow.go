// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io"
	"sync"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
)

// EventsPath is the resource of the control socket that goes on as long as the client listens: a line of JSON for each record.
const EventsPath = "/v1/events"

// followQueue is how many records wait for one that follows. What does not fit is summed up and comes later.
const followQueue = 256

// maxFollowers bounds how many may follow: each has a queue of its own.
const maxFollowers = 32

// followers are those that follow the events of a running agent. It is safe for concurrent use.
type followers struct {
	mu    sync.Mutex
	all   map[*follower]struct{}
	ended bool
}

// follower is one of them.
type follower struct {
	mu      sync.Mutex
	records []event.Record
	backlog event.Backlog
	late    uint64
	wake    chan struct{}
	end     chan struct{}
}

func newFollowers() *followers { return &followers{all: make(map[*follower]struct{})} }

// Offer implements event.Destination.
func (f *followers) Offer(r *event.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for x := range f.all {
		x.offer(r)
	}
}

func (x *follower) offer(r *event.Record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.records) < followQueue && x.backlog.Len() == 0 {
		x.records = append(x.records, *r)
	} else {
		x.backlog.Add(r)
		x.late += r.Count
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *follower) next() (r event.Record, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case len(x.records) > 0:
		r = x.records[0]
		if x.records = x.records[1:]; len(x.records) == 0 {
			x.records = nil // give the array back
		}
	case x.late > 0:
		first := x.backlog.Next()
		r = event.Record{
			Kind: kind.DeliveryDelayed, Severity: kind.DeliveryDelayed.Severity(), Count: x.late, First: first.First, Last: first.Last,
			BootID: first.BootID, PolicyHash: first.PolicyHash,
		}
		x.late = 0
	case x.backlog.Len() > 0:
		r = *x.backlog.Next()
		x.backlog.Done()
	default:
		return r, false
	}
	return r, true
}

// serve writes a line for each record from now on until w fails or ctx ends.
func (f *followers) serve(ctx context.Context, w io.Writer) {
	x := &follower{wake: make(chan struct{}, 1), end: make(chan struct{})}
	f.mu.Lock()
	if f.ended || len(f.all) >= maxFollowers {
		f.mu.Unlock()
		return
	}
	f.all[x] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.all, x)
		f.mu.Unlock()
	}()
	var line []byte
	ended := false
	for {
		for r, ok := x.next(); ok; r, ok = x.next() {
			line = append(encode.JSON(line[:0], &r), '\n')
			if _, err := w.Write(line); err != nil {
				return
			}
		}
		if ended {
			return
		}
		select {
		case <-x.wake:
		case <-x.end:
			ended = true
		case <-ctx.Done():
			return
		}
	}
}

// close lets all of them go once they have what was offered.
func (f *followers) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	f.ended = true
	for x := range f.all {
		close(x.end)
	}
}
