// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/ring"
)

const (
	// redial is the pause before the ring is asked for again.
	redial = 300 * time.Millisecond
	// patience bounds a server that accepts and says nothing: an agent that hangs must not make the screen hang.
	patience = 2 * time.Second
	// gather is how long samples gather before they are taken: waking up for each would cost more than all the rest.
	gather    = 20 * time.Millisecond
	batchSize = 1024
)

// Source reads a gateway. It follows the ring from Open to Close, and finds an agent that comes later or comes back. Its methods are
// safe for concurrent use.
type Source struct {
	at     agent.Where
	socket string
	clock  *ring.Clock
	end    context.CancelFunc
	wg     sync.WaitGroup
	asked  chan struct{} // closed once the ring has been asked for

	mu      sync.Mutex
	state   Ring
	streams []followed
}

// followed is a stream of the present ring.
type followed struct {
	entry    *ring.Stream
	decoder  *ring.Decoder
	samples  uint64
	counter  uint64
	flags    ring.Flags
	received int64 // 0: none
	values   []float64
	known    []bool
	pages    map[string]bool
}

// Open begins to follow the ring at socket; empty: where at says.
func Open(at agent.Where, socket string) (*Source, error) {
	if socket == "" {
		var err error
		if socket, err = at.RingSocket(); err != nil {
			return nil, err
		}
	}
	ctx, end := context.WithCancel(context.Background())
	s := &Source{at: at, socket: socket, clock: ring.NewClock(), end: end, asked: make(chan struct{})}
	s.wg.Go(func() { s.follow(ctx) })
	return s, nil
}

// Close ends it.
func (s *Source) Close() error {
	s.end()
	s.wg.Wait()
	return nil
}

// Read returns what is there now.
func (s *Source) Read(ctx context.Context) Snapshot {
	var snap Snapshot
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o, err := agent.ReadOverview(ctx, s.at)
	if err != nil {
		snap.Error = err.Error()
	}
	snap.Overview, snap.Time, snap.Ring = o, time.Now(), s.ring()
	return snap
}

func (s *Source) ring() Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, now := s.state, s.clock.Now()
	r.Streams = make([]Stream, len(s.streams))
	for i := range s.streams {
		f := &s.streams[i]
		st := Stream{ID: f.entry.ID, Samples: f.samples, Counter: f.counter, Flags: f.flags.Names(), AgeMS: -1, Signals: make([]Signal, len(f.values))}
		f.flags = 0
		if f.received != 0 {
			st.AgeMS = max(0, now-f.received) / 1e6
		}
		for n := range f.values {
			sig := &f.entry.Signals[n]
			st.Signals[n] = Signal{Name: sig.Name, Unit: sig.Unit, Page: f.pages[sig.Name]}
			// JSON has no word for what is not finite.
			if v := f.values[n]; f.known[n] && !math.IsNaN(v) && !math.IsInf(v, 0) {
				st.Signals[n].Value = &v
			}
		}
		r.Streams[i] = st
	}
	return r
}

// lost notes that there is no ring now: values of one that has gone are not shown as if they were new.
func (s *Source) lost(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams, s.state = nil, Ring{Missed: s.state.Missed}
	if err != nil {
		s.state.Error = err.Error()
	}
}

// follow reads one ring after the other until ctx ends.
func (s *Source) follow(ctx context.Context) {
	asked := sync.OnceFunc(func() { close(s.asked) })
	defer asked()
	for ctx.Err() == nil {
		r, err := s.dial(ctx)
		if err == nil {
			asked()
			err = errors.Join(s.read(ctx, r), r.Close())
		}
		s.lost(err)
		asked()
		sleep(ctx, redial)
	}
}

// dial opens the ring and takes over its streams.
func (s *Source) dial(ctx context.Context) (*ring.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := ring.Dial(ctx, s.socket, ring.Options{From: ring.FromNow})
	if err != nil {
		return nil, err
	}
	if err := s.prepare(r); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// read follows one ring to its end.
func (s *Source) read(ctx context.Context, r *ring.Reader) error {
	batch := make([]ring.Sample, batchSize)
	var values []ring.Value
	for {
		n, err := r.Next(ctx, batch)
		stale := errors.Is(err, ring.ErrProducerStale)
		if err != nil && !stale {
			return err
		}
		st, err := r.Status()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.state.Fault, s.state.Missed, s.state.Error = st.Fault.String(), r.Missed(), ""
		if stale {
			s.state.Error = ring.ErrProducerStale.Error()
		}
		for i := range n {
			values = s.streams[batch[i].Stream].take(&batch[i], values[:0])
			s.streams[batch[i].Stream].samples++
		}
		s.mu.Unlock()
		if n < batchSize {
			sleep(ctx, gather)
		}
	}
}

// prepare takes over the streams of a ring, with their newest samples.
func (s *Source) prepare(r *ring.Reader) error {
	entries := r.Streams()
	streams := make([]followed, len(entries))
	var sample ring.Sample
	for i := range entries {
		e := &entries[i]
		d, err := ring.NewDecoder(e)
		if err != nil {
			return err
		}
		f := followed{entry: e, decoder: d, values: make([]float64, len(e.Signals)), known: make([]bool, len(e.Signals)), pages: make(map[string]bool)}
		for n := range e.Signals {
			if m := e.Signals[n].Multiplexor; m != "" {
				f.pages[m] = true
			}
		}
		// A value that cannot be had now comes with the next sample.
		if ok, err := r.Latest(uint32(i), &sample); err == nil && ok {
			f.take(&sample, nil)
			f.flags = 0
		}
		streams[i] = f
	}
	st, err := r.Status()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams, s.state = streams, Ring{Connected: true, Fault: st.Fault.String()}
	return nil
}

// take notes the newest values. values is room for them, which is returned.
func (f *followed) take(x *ring.Sample, values []ring.Value) []ring.Value {
	f.counter, f.received = x.Counter, x.ReceiveTime
	f.flags |= x.Flags
	values = f.decoder.Append(values, x.Body)
	for _, v := range values {
		f.values[v.Signal], f.known[v.Signal] = v.Physical, true
	}
	return values
}
