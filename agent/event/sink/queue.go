// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
)

// Defaults of Options, and bounds.
const (
	DefaultSize     = 1024
	DefaultRetryMin = 100 * time.Millisecond
	DefaultRetryMax = 5 * time.Second
	// reserve is how many records about the fault fit beyond the size: they are rare, and each says something else.
	reserve = 64
)

// ErrUndelivered says that a queue was closed before everything was delivered.
var ErrUndelivered = errors.New("events were not delivered")

// Writer is a destination. Write may take its time and may fail; the record is then offered again. One goroutine calls Write
// and Close.
type Writer interface {
	Write(*event.Record) error
	Close() error
}

// Interrupter is a Writer whose Write can wait without limit. Interrupt ends that from another goroutine.
type Interrupter interface {
	Interrupt() error
}

// Options of a queue. The zero value works.
type Options struct {
	Name string // of the destination, for people
	// Size is how many records wait at most before they are summed up. 0: DefaultSize.
	Size int
	// After a failure the time to the next try doubles from RetryMin to RetryMax. 0: the defaults.
	RetryMin, RetryMax time.Duration
}

// Stats are the counts of a queue. Offered is always the sum of Delivered and Waiting.
type Stats struct {
	Name      string `json:"name"`
	Offered   uint64 `json:"offered"`   // events
	Delivered uint64 `json:"delivered"` // events
	Waiting   uint64 `json:"waiting"`   // events
	Records   uint64 `json:"records"`   // written
	Summed    uint64 `json:"summed"`    // events that did not find room and were summed up
	Failures  uint64 `json:"failures"`  // failed writes
	LastError string `json:"last_error,omitempty"`
}

// Queue delivers records in a goroutine of its own. It is safe for concurrent use.
type Queue struct {
	w Writer
	o Options

	mu      sync.Mutex
	wake    chan struct{} // has an item when something changed
	records []event.Record
	backlog event.Backlog
	late    uint64 // events summed up since the last word about it
	busy    *event.Record
	stats   Stats

	closing chan struct{}
	once    sync.Once
	done    chan struct{}
	closed  error // of the Writer; valid after done
}

// New makes a queue and starts it. The queue owns w from then on.
func New(w Writer, o Options) *Queue {
	if o.Size <= 0 {
		o.Size = DefaultSize
	}
	if o.RetryMin <= 0 {
		o.RetryMin = DefaultRetryMin
	}
	if o.RetryMax <= 0 {
		o.RetryMax = DefaultRetryMax
	}
	q := &Queue{w: w, o: o, wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	q.stats.Name = o.Name
	go q.run()
	return q
}

// Offer takes a record over. It never waits for the destination.
func (q *Queue) Offer(r *event.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Offered += r.Count
	room := q.o.Size
	if r.Fault != nil {
		room += reserve
	}
	// While there is a backlog everything joins it: what came later is not to be delivered earlier.
	if len(q.records) < room && (q.backlog.Len() == 0 || r.Fault != nil) {
		q.records = append(q.records, *r)
	} else {
		q.backlog.Add(r)
		q.stats.Summed += r.Count
		q.late += r.Count
	}
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next takes the record that is to be written next; nil if there is none. A backlog is preceded by a word about it.
func (q *Queue) next() *event.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.records) > 0:
		r := q.records[0]
		if q.records = q.records[1:]; len(q.records) == 0 {
			q.records = nil // give the array back
		}
		q.busy = &r
	case q.backlog.Len() > 0 && q.late > 0:
		first := q.backlog.Next()
		r := event.Record{
			Kind: kind.DeliveryDelayed, Severity: kind.DeliveryDelayed.Severity(), Count: q.late, First: first.First, Last: first.Last,
			BootID: first.BootID, PolicyHash: first.PolicyHash, Detail: q.stats.LastError,
		}
		q.late = 0
		q.stats.Offered += r.Count
		q.busy = &r
	case q.backlog.Len() > 0:
		r := *q.backlog.Next()
		q.backlog.Done()
		q.busy = &r
	default:
		q.busy = nil
	}
	return q.busy
}

func (q *Queue) written(r *event.Record, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.stats.Failures++
		q.stats.LastError = err.Error()
		return
	}
	q.stats.Delivered += r.Count
	q.stats.Records++
	q.busy = nil
}

func (q *Queue) run() {
	defer close(q.done)
	defer func() { q.closed = q.w.Close() }()
	for {
		r := q.next()
		if r == nil {
			select {
			case <-q.wake:
				continue
			case <-q.closing:
				if q.next() == nil {
					return
				}
				r = q.taken()
			}
		}
		if !q.deliver(r) {
			return
		}
	}
}

func (q *Queue) taken() *event.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy
}

// deliver writes a record, as often as it takes. After Close a failure is final.
func (q *Queue) deliver(r *event.Record) bool {
	pause := q.o.RetryMin
	for {
		err := q.w.Write(r)
		q.written(r, err)
		if err == nil {
			return true
		}
		select {
		case <-q.closing:
			return false
		case <-time.After(pause):
			pause = min(2*pause, q.o.RetryMax)
		}
	}
}

// Stats returns the counts.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Waiting = q.backlog.Count()
	for i := range q.records {
		s.Waiting += q.records[i].Count
	}
	if q.busy != nil {
		s.Waiting += q.busy.Count
	}
	return s
}

// Close delivers what waits, without further tries, and closes the destination. When the context ends first it gives up, and
// the destination is closed when its last Write returns. What was not delivered is in the error, and in Stats.
func (q *Queue) Close(ctx context.Context) error {
	q.once.Do(func() { close(q.closing) })
	var err error
	select {
	case <-q.done:
		err = q.closed
	case <-ctx.Done():
		if i, ok := q.w.(Interrupter); ok {
			err = i.Interrupt()
		}
	}
	if s := q.Stats(); s.Waiting > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d events for %s: %s", ErrUndelivered, s.Waiting, s.Name, s.LastError))
	}
	return err
}
