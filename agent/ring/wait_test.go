// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// next starts Next in a goroutine of its own and returns where its result will come.
func next(ctx context.Context, r *Reader) <-chan error {
	result := make(chan error, 1)
	go func() {
		batch := make([]Sample, 1)
		_, err := r.Next(ctx, batch)
		result <- err
	}()
	return result
}

// TestWaitEnds: whatever can end a wait does. Each cause comes at a random phase of the wait, many times, so a lost
// wake-up hangs the test; the heartbeat is never stale, so nothing else would end it.
func TestWaitEnds(t *testing.T) {
	const rounds = 200
	t.Run("publish", func(t *testing.T) {
		p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
		r := attach(t, p, Options{StaleAfter: -1})
		for range rounds {
			result := next(context.Background(), r)
			if err := p.Publish([]Sample{{Body: []byte{1}}}); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("cancel", func(t *testing.T) {
		p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
		r := attach(t, p, Options{StaleAfter: -1})
		for range rounds {
			ctx, cancel := context.WithCancel(context.Background())
			result := next(ctx, r)
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		// And it goes on afterwards.
		if err := p.Publish([]Sample{{Body: []byte{1}}}); err != nil {
			t.Fatal(err)
		}
		if err := <-next(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		r := attach(t, newProducer(t, Config{}), Options{StaleAfter: -1})
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := <-next(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
	t.Run("close of the reader", func(t *testing.T) {
		p := newProducer(t, Config{})
		for range rounds {
			r := attach(t, p, Options{StaleAfter: -1})
			result := next(context.Background(), r)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		}
	})
	t.Run("close of the server", func(t *testing.T) {
		path := socketPath(t)
		for range rounds / 10 {
			p := newProducer(t, Config{})
			s := serve(t, p, ServerConfig{Socket: path})
			r := dialTest(t, path, Options{StaleAfter: -1})
			result := next(context.Background(), r)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, ErrProducerGone) {
				t.Fatal(err)
			}
			_ = r.Close()
		}
	})
}

// endsWhenLookedAt is a context that ends right after Next was told that it has not: all that its end sets off is done before Next goes on.
type endsWhenLookedAt struct {
	context.Context
	cancel  func()
	r       *Reader
	watched bool
}

func (c *endsWhenLookedAt) Err() error {
	err := c.Context.Err()
	before := atomic.LoadUint32(&c.r.kicks)
	for c.cancel(); c.watched && err == nil && atomic.LoadUint32(&c.r.kicks) == before; {
		runtime.Gosched()
	}
	return err
}

// TestEndAfterLook: a context may end between the look at it and the wait. Next must not sleep through that, whether the context is watched
// already, as it is after any wait of an earlier call, or several such contexts come one after the other, whose channels are the same.
func TestEndAfterLook(t *testing.T) {
	for _, watched := range []bool{true, false} {
		r := attach(t, newProducer(t, Config{}), Options{StaleAfter: -1})
		for range 3 {
			inner, cancel := context.WithCancel(context.Background())
			ctx := &endsWhenLookedAt{Context: inner, cancel: cancel, r: r, watched: watched}
			if watched {
				r.watchContext(ctx)
			}
			if _, err := r.Next(ctx, make([]Sample, 1)); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	}
}

func TestNoRoom(t *testing.T) {
	r := attach(t, newProducer(t, Config{}), Options{})
	if _, err := r.Next(context.Background(), nil); err == nil {
		t.Error("Next accepts a batch without room")
	}
}

// TestStale: a silent producer is reported, again and again, and the reader goes on afterwards.
func TestStale(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), HeartbeatPeriod: time.Millisecond})
	r := attach(t, p, Options{})
	batch := make([]Sample, 1)
	for range 3 {
		if _, err := r.Next(context.Background(), batch); !errors.Is(err, ErrProducerStale) {
			t.Fatal(err)
		}
	}
	if err := p.Publish([]Sample{{Counter: 8, Body: []byte{1}}}); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Next(context.Background(), batch); n != 1 || err != nil || batch[0].Counter != 8 {
		t.Fatal(n, err)
	}
}

// TestBeat: Beat and Publish both move the heartbeat.
func TestBeat(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), HeartbeatPeriod: time.Millisecond})
	old := p.header.Heartbeat
	for p.clock.Now()-old <= int64(time.Millisecond) {
	}
	p.Beat()
	beaten := p.header.Heartbeat
	if beaten <= old {
		t.Errorf("Beat: heartbeat %d after %d", beaten, old)
	}
	for p.clock.Now()-beaten <= int64(time.Millisecond) {
	}
	if err := p.Publish([]Sample{{}}); err != nil {
		t.Fatal(err)
	}
	if p.header.Heartbeat <= beaten {
		t.Errorf("Publish: heartbeat %d after %d", p.header.Heartbeat, beaten)
	}
}

func TestSpin(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1)})
	r := attach(t, p, Options{Spin: time.Millisecond, StaleAfter: -1})
	for range 20 {
		result := next(context.Background(), r)
		if err := p.Publish([]Sample{{Body: []byte{1}}}); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
	}
}
