// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
)

// following waits until a reader has told a server that it follows.
func following(t *testing.T, s *ring.Server) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.Stats().Following != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v: the reader does not follow", s.Stats())
		}
	}
}

// goOn has a new ring take over from one, as one agent does from another.
func goOn(t *testing.T, p *ring.Producer, s *ring.Server, path string) (*ring.Producer, *ring.Server) {
	t.Helper()
	following(t, s)
	listener, err := s.HandOver()
	if err != nil {
		t.Fatal(err)
	}
	followers, err := s.Followers(100)
	if err != nil {
		t.Fatal(err)
	}
	next := newProducer(t, ring.Config{Streams: plainStreams(1), Slots: 64})
	server, err := ring.Serve(next, ring.ServerConfig{Socket: path, Listener: listener, Followers: followers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	p.Finish()
	if err := errors.Join(s.Release(), p.Close()); err != nil {
		t.Fatal(err)
	}
	return next, server
}

func publishFrom(t *testing.T, p *ring.Producer, first, n int) {
	t.Helper()
	batch := make([]ring.Sample, n)
	for i := range batch {
		batch[i].Counter = uint64(first + i)
	}
	if err := p.Publish(batch); err != nil {
		t.Fatal(err)
	}
}

// wantFrom compares an answer with n samples of a ring from its position 0 on.
func wantFrom(t *testing.T, got []string, first, n int) {
	t.Helper()
	if len(got) != n+1 {
		t.Fatalf("%q, want %d samples", got, n)
	}
	for i, line := range got[1:] {
		if want := fmt.Sprintf("sample %d 0 0 %d ", i, first+i); !strings.HasPrefix(line, want) {
			t.Fatalf("%q, want %q", line, want)
		}
	}
}

// afterRestart takes off an answer that another ring has begun.
func afterRestart(t *testing.T, c *process, got []string, ask string) []string {
	t.Helper()
	if got[0] != "restarted" {
		t.Fatalf("%q, want restarted", got)
	}
	if got = got[1:]; len(got) == 0 { // readers that come back to say so
		got = c.ask(ask)
	}
	return got
}

// TestFollow: a reader that reconnects has every sample of every ring with which its producer goes on, however late it comes: also of
// those whose producers it has never met, and of the last one, which ends before anybody could connect.
func TestFollow(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		path := socketPath(t)
		p := newProducer(t, ring.Config{Streams: plainStreams(1), Slots: 64})
		server := serve(t, p, path)
		c := s.shell(t)
		c.want("ok", "open %s oldest 1 -1", path)
		const each, rings = 3, 4
		publishFrom(t, p, 0, each)
		for i := 1; i < rings; i++ {
			p, server = goOn(t, p, server, path)
			publishFrom(t, p, i*each, each)
		}
		if err := errors.Join(server.Close(), p.Close()); err != nil { // nobody listens any more
			t.Fatal(err)
		}
		const ask = "next 10 -1"
		wantFrom(t, c.ask(ask), 0, each)
		for i := 1; i < rings; i++ {
			wantFrom(t, afterRestart(t, c, c.ask(ask), ask), i*each, each)
		}
		c.want("timeout", "next 10 50")
		c.want(fmt.Sprintf("count %d 0 0 %x", each, p.Generation()), "count")
	})
}

// TestFollowWaiting: a reader that waits is woken by the samples of the next ring, once and again.
func TestFollowWaiting(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		path := socketPath(t)
		p := newProducer(t, ring.Config{Streams: plainStreams(1), Slots: 64})
		server := serve(t, p, path)
		c := s.shell(t)
		c.want("ok", "open %s oldest 1 -1", path)
		for i := range 3 {
			const ask = "next 1 -1"
			c.say(ask)
			time.Sleep(20 * time.Millisecond) // so that it waits, as a rule
			p, server = goOn(t, p, server, path)
			publishFrom(t, p, i, 1)
			wantFrom(t, afterRestart(t, c, c.answer(), ask), i, 1)
		}
		c.want(fmt.Sprintf("count 1 0 0 %x", p.Generation()), "count")
	})
}
