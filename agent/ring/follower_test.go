// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// following waits until so many of a server's readers have said that they follow.
func following(t *testing.T, s *Server, want int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.Stats().Following != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want %d to follow", s.Stats(), want)
		}
	}
}

// goOn has a new ring take over from a server, as one agent does from another.
func goOn(t *testing.T, p *Producer, s *Server) (*Producer, *Server) {
	t.Helper()
	listener, err := s.HandOver()
	if err != nil {
		t.Fatal(err)
	}
	followers, err := s.Followers(100)
	if err != nil {
		t.Fatal(err)
	}
	q := newProducer(t, Config{Streams: testStreams(1), Slots: 16})
	next := serve(t, q, ServerConfig{Socket: s.cfg.Socket, Listener: listener, Followers: followers})
	p.Finish()
	if err := errors.Join(s.Release(), p.Close()); err != nil {
		t.Fatal(err)
	}
	return q, next
}

// TestFollow: a reader that is behind has every sample of every ring in the end, also of those to which it never came while their
// producers lived, and of the last one, which is gone before anybody could connect.
func TestFollow(t *testing.T) {
	before := openFiles(t)
	t.Run("rings", func(t *testing.T) {
		path := socketPath(t)
		p := newProducer(t, Config{Streams: testStreams(1), Slots: 16})
		s := serve(t, p, ServerConfig{Socket: path})
		r := dialTest(t, path, Options{Reconnect: true})
		dialTest(t, path, Options{}) // does not follow
		following(t, s, 1)
		const rings, each = 5, 7
		for ring := range rings {
			if err := p.Publish(stampedBatch(nil, uint64(ring*each), each, 1, 36)); err != nil {
				t.Fatal(err)
			}
			if ring == rings-1 {
				break
			}
			p, s = goOn(t, p, s)
			if got := s.Stats(); got.Clients != 1 || got.Following != 1 || got.Served != 1 {
				t.Fatalf("ring %d begins with %+v", ring+1, got)
			}
		}
		if err := errors.Join(s.Close(), p.Close()); err != nil { // nobody listens any more
			t.Fatal(err)
		}
		batch := make([]Sample, 3)
		for want := uint64(0); want < rings*each; {
			n, err := r.Next(t.Context(), batch)
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch[:n] {
				if batch[i].Counter != 3*want || batch[i].Position != want%each {
					t.Fatalf("sample %d: counter %d at position %d", want, batch[i].Counter, batch[i].Position)
				}
				want++
			}
		}
		if r.Missed() != 0 || r.Reconnects() != 0 {
			t.Errorf("missed %d, %d reconnects", r.Missed(), r.Reconnects())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if n, err := r.Next(ctx, batch); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("behind the last ring: %d, %v", n, err)
		}
	})
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// TestFollowCountsMissed: a ring that has turned before its reader came is no ring from the middle.
func TestFollowCountsMissed(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 16})
	s := serve(t, p, ServerConfig{Socket: path})
	r := dialTest(t, path, Options{Reconnect: true})
	following(t, s, 1)
	q, _ := goOn(t, p, s)
	for i := range 5 {
		if err := q.Publish(stampedBatch(nil, uint64(i*8), 8, 1, 36)); err != nil {
			t.Fatal(err)
		}
	}
	batch := make([]Sample, 64)
	n, err := r.Next(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if uint64(n)+r.Missed() != 40 || batch[0].Position != r.Missed() || r.Missed() == 0 {
		t.Errorf("%d read from position %d on, %d missed of 40", n, batch[0].Position, r.Missed())
	}
}

// TestFollowWakes: a reader that waits at the end of a ring goes on in the next one.
func TestFollowWakes(t *testing.T) {
	path := socketPath(t)
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 16})
	s := serve(t, p, ServerConfig{Socket: path})
	r := dialTest(t, path, Options{Reconnect: true, StaleAfter: -1})
	following(t, s, 1)
	result := next(t.Context(), r)
	q, _ := goOn(t, p, s)
	if err := q.Publish(stampedBatch(nil, 0, 1, 1, 36)); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil || r.Generation() != q.Generation() {
		t.Errorf("generation %x, want %x: %v", r.Generation(), q.Generation(), err)
	}
}

// TestFollowRules: what else a reader sends ends its connection, and what else than a reader is handed over is let go.
func TestFollowRules(t *testing.T) {
	for name, messages := range map[string][]string{
		"another byte": {"x"}, "two bytes": {"FF"}, "twice": {"F", "F"},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			s := serve(t, newProducer(t, Config{Streams: testStreams(1), Slots: 4}), ServerConfig{Socket: path})
			conn, err := net.Dial(network, path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			b := make([]byte, 64)
			if n, err := conn.Read(b); n != helloSize || err != nil {
				t.Fatal(n, err)
			}
			for _, m := range messages {
				if _, err := conn.Write([]byte(m)); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := conn.Read(b); err == nil {
				t.Errorf("%d bytes came instead of the end", n)
			}
			if got := s.Stats(); got.Following != 0 || got.Clients != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
	s := serve(t, p, ServerConfig{Socket: socketPath(t), Followers: []*os.File{null}})
	if got := s.Stats(); got.Clients != 0 || p.listeners.Load() != 0 {
		t.Errorf("%+v, %d listeners", got, p.listeners.Load())
	}
}
