// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/ring"
)

// TestStale: a silent producer is reported, again and again, and the reader goes on afterwards.
func TestStale(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		p := newProducer(t, ring.Config{Streams: plainStreams(stampStreams), BodyMax: stampBody, HeartbeatPeriod: time.Millisecond})
		path := socketPath(t)
		serve(t, p, path)
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 0", path)
		for range 3 {
			c.want("stale", "next 1 -1")
		}
		if err := newWriter(p).publish(1); err != nil {
			t.Fatal(err)
		}
		if got := c.ask("next 1 -1"); got[0] != "samples" {
			t.Fatal(got)
		}
		c.want("stale", "next 1 -1")
		c.want("ok", "open %s oldest 0 -1", path)
		c.ask("next 1 -1")
		c.want("timeout", "next 1 30") // this one does not care
	})
}

// TestHeartbeatAge: the age that readers go by is that of CLOCK_BOOTTIME, and the promised period counts.
func TestHeartbeatAge(t *testing.T) {
	p := newProducer(t, ring.Config{Streams: plainStreams(1), HeartbeatPeriod: time.Hour})
	path := socketPath(t)
	serve(t, p, path)
	each(t, func(t *testing.T, s subject) {
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 0", path)
		c.want("timeout", "next 1 1") // three hours are not over
		c.want("ok", "open %s oldest 0 1", path)
		c.want("stale", "next 1 -1") // one millisecond is
	})
}

// TestStatus: what the header says, the fault word in all its states, and the orderly end.
func TestStatus(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		p := newProducer(t, ring.Config{Streams: plainStreams(stampStreams), Slots: 64, BodyMax: stampBody, HeartbeatPeriod: 7 * time.Second})
		path := socketPath(t)
		server := serve(t, p, path)
		r, err := ring.Dial(context.Background(), path, ring.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		st, err := r.Status()
		if err != nil {
			t.Fatal(err)
		}
		published, closed, gone := 0, 0, 0
		status := func(fault string, changes int) string {
			return fmt.Sprintf("status generation=%x version=1.2 pid=%d created=%d slots=64 body_max=%d published=%d period=%d fault=%s changes=%d closed=%d gone=%d",
				p.Generation(), os.Getpid(), st.Created, stampBody, published, int64(7*time.Second), fault, changes, closed, gone)
		}
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		c.want(status("ok", 0), "status")
		for i, state := range []ring.FaultState{ring.FaultSuspect, ring.FaultRaised, ring.FaultLatched, ring.FaultNone, 9} {
			p.SetFault(state)
			c.want(status(state.String(), i+1), "status")
		}
		if err := newWriter(p).publish(5); err != nil {
			t.Fatal(err)
		}
		published = 5
		c.want(status("unknown", 5), "status")
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if got := c.ask("next 10 -1"); len(got) != 6 {
			t.Fatalf("what was left after the end: %q", got)
		}
		c.want("gone orderly", "next 1 -1")
		c.want("gone orderly", "next 1 0")
		closed, gone = 1, 1
		c.want(status("unknown", 5), "status")
	})
}

// TestFaultRecord: every reader has the record that the producer has written last, cut to what fits.
func TestFaultRecord(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		p := newProducer(t, ring.Config{Streams: plainStreams(stampStreams), Slots: 64, BodyMax: stampBody})
		path := socketPath(t)
		serve(t, p, path)
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		c.want("fault causes=0 sources=0 kinds=0 time=0", "fault")
		p.SetFaultRecord(ring.FaultRecord{
			Time: 1 << 40, Causes: ring.FaultForgeable | ring.FaultLocal, Sources: 2, SourceIDs: [ring.FaultSources]uint32{7, 1<<32 - 2}, Kinds: 3,
			Kind: [ring.FaultKinds]uint16{12, 65535, 1}, Count: [ring.FaultKinds]uint64{1<<64 - 1, 3, 2},
		})
		c.want("fault causes=5 sources=2 source=7 source=4294967294 kinds=3 12=18446744073709551615 65535=3 1=2 time=1099511627776", "fault")
		p.SetFaultRecord(ring.FaultRecord{
			Time: -1, Causes: ring.FaultAuthenticated, Sources: 9, SourceIDs: [ring.FaultSources]uint32{1, 2, 3, 4}, Kinds: 70,
			Kind: [ring.FaultKinds]uint16{1, 2, 3, 4, 5, 6}, Count: [ring.FaultKinds]uint64{6, 5, 4, 3, 2, 1},
		})
		c.want("fault causes=2 sources=9 source=1 source=2 source=3 source=4 kinds=70 1=6 2=5 3=4 4=3 5=2 6=1 time=-1", "fault")
		p.SetFaultRecord(ring.FaultRecord{})
		c.want("fault causes=0 sources=0 kinds=0 time=0", "fault")
	})
}

// TestKilledProducer: a kill at any moment leaves whole samples up to the tail, which every reader gets before it hears
// of the end.
func TestKilledProducer(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		path := socketPath(t)
		for range 2 {
			producer := startRole(t, roleProducer, path)
			r, err := ring.Dial(context.Background(), path, ring.Options{})
			if err != nil {
				t.Fatal(err)
			}
			f := s.follow(t, path, "oldest", 64, 0)
			c := s.shell(t)
			c.want("ok", "open %s oldest 0 -1", path)
			producer.say("")
			for {
				st, err := r.Status()
				if err != nil {
					t.Fatal(err)
				}
				if st.Published > 3000 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			producer.kill()
			st, err := r.Status() // nothing can be published any more
			if err != nil {
				t.Fatal(err)
			}
			checkAccount(t, s.name, f.account(), st.Published)
			for {
				got := c.ask("next 1000 -1")
				if got[0] != "samples" {
					if got[0] != "gone unclean" {
						t.Error(got)
					}
					break
				}
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestRestart: with reconnection a reader goes on with the next producer's history, from its oldest sample, and says
// that it is another one.
func TestRestart(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		path := socketPath(t)
		c := s.shell(t)
		c.want("refused system", "open %s oldest 1 -1", path) // reconnection is for those that were connected
		first := newProducer(t, ring.Config{Streams: plainStreams(stampStreams), Slots: 64, BodyMax: stampBody})
		server := serve(t, first, path)
		w := newWriter(first)
		if err := w.publish(100); err != nil {
			t.Fatal(err)
		}
		c.want("ok", "open %s oldest 1 -1", path)
		if got := c.ask("next 10 -1"); !strings.HasPrefix(got[1], "sample 36 ") {
			t.Fatal(got)
		}
		// The same ring by another server: the position still means something.
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		server = serve(t, first, path)
		if got := c.ask("next 53 -1"); len(got) != 54 || !strings.HasPrefix(got[1], "sample 46 ") {
			t.Fatal(got)
		}
		if got := c.ask("next 53 -1"); len(got) != 2 || !strings.HasPrefix(got[1], "sample 99 ") {
			t.Fatal(got)
		}
		reconnected := fmt.Sprintf("count 100 0 1 %x", first.Generation())
		for range 100 { // the server accepts after a moment
			c.want("timeout", "next 1 20")
			if c.ask("count")[0] == reconnected {
				break
			}
		}
		c.want(reconnected, "count")
		c.say("next 1 -1")
		if err := w.publish(1); err != nil {
			t.Fatal(err)
		}
		if got := c.answer(); !strings.HasPrefix(got[1], "sample 100 ") {
			t.Fatal(got)
		}

		// The end, with a sample that is still to be read; then nobody, for a while.
		if err := w.publish(1); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if got := c.ask("next 10 -1"); len(got) != 2 || !strings.HasPrefix(got[1], "sample 101 ") {
			t.Fatal(got)
		}
		c.want("timeout", "next 10 50")
		c.want("timeout", "next 10 0")

		// Another ring, of another shape, while the reader waits for one.
		c.say("next 200 -1")
		streams := plainStreams(5)
		streams[4].Name = "the new one"
		second := newProducer(t, ring.Config{Streams: streams, Slots: 128, BodyMax: 500})
		if err := second.Publish([]ring.Sample{{Stream: 4, Counter: 77, Body: make([]byte, 500)}}); err != nil {
			t.Fatal(err)
		}
		serve(t, second, path)
		got := c.answer()
		if got[0] != "restarted" {
			t.Fatal(got)
		}
		if got = got[1:]; len(got) == 0 { // readers that come back to say so
			got = c.ask("next 200 -1")
		}
		if len(got) != 2 || !strings.HasPrefix(got[1], "sample 0 4 0 77 ") {
			t.Fatal(got)
		}
		c.want(fmt.Sprintf("count 1 0 2 %x", second.Generation()), "count")
		if got := c.ask("streams"); len(got) != 5 || !strings.Contains(got[4], "the new one") {
			t.Fatal(got)
		}
		if got := c.ask("latest 4"); !strings.HasPrefix(got[0], "sample 0 4 0 77 ") {
			t.Fatal(got)
		}
	})
}
