// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
)

func record(k kind.Kind, slot int, n uint64) *event.Record {
	at := event.Instant{Boot: 5e9, Wall: 1_795_000_000_000_000_000}
	return &event.Record{Kind: k, Severity: k.Severity(), Subject: event.Stream(slot), Stream: uint32(slot) + 1, Interface: "can0", Count: n, First: at, Last: at}
}

// writer is a destination that fails or blocks as it is told.
type writer struct {
	mu      sync.Mutex
	records []event.Record
	fail    error
	block   chan struct{} // not nil: a Write waits for it to be closed
	closed  bool
}

func (w *writer) Write(r *event.Record) error {
	w.mu.Lock()
	block, fail := w.block, w.fail
	w.mu.Unlock()
	if block != nil {
		<-block
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if fail == nil {
		w.records = append(w.records, *r)
	}
	return fail
}

func (w *writer) Close() error { w.closed = true; return nil }

func (w *writer) set(fail error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = fail
}

func (w *writer) count(k kind.Kind) (n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.records {
		if w.records[i].Kind == k {
			n += w.records[i].Count
		}
	}
	return n
}

var errDown = errors.New("destination is down")

func soon(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// until waits for something that another goroutine or process does.
func until(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within a minute", what)
		}
	}
}
