// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/event/sink"
	"github.com/cellward/cellward/crypto/spdu"
)

// gate is a destination that takes nothing until it is opened, and then counts.
type gate struct {
	open chan struct{}

	mu     sync.Mutex
	counts map[kind.Kind]uint64
}

func (g *gate) Write(r *event.Record) error {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[r.Kind] += r.Count
	return nil
}

func (g *gate) Close() error { return nil }

// TestBlockedDestination floods a gateway with 200,000 forged frames within 60 s of log time while its destination takes nothing. What the
// pipeline does meanwhile costs as much as without a destination, memory stays where it is, and afterwards every event has been
// delivered exactly once.
func TestBlockedDestination(t *testing.T) {
	const flood, length = 200_000, 60 * time.Second
	c := openCapture(t, "kona-bms-idle.asc")
	run := func(blocked bool) (perFrame time.Duration, s *siege, g *gate, q *sink.Queue, heap uint64) {
		s = newSiege(t, c)
		g = &gate{open: make(chan struct{}), counts: make(map[kind.Kind]uint64)}
		if blocked {
			q = sink.New(g, sink.Options{Name: "blocked", Size: 64})
			s.collector = event.NewCollector(event.CollectorOptions{
				Table: s.notes, Clock: logClock{s.rig}, Destinations: []event.Destination{q}, Facts: s.facts,
			})
		}
		all := s.seal(length, nil)
		samples := 0
		for i := range all {
			if all[i].kind == spdu.KindSample {
				samples++
			}
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		begun := time.Now()
		forged := 0
		for i := range all {
			s.take(&all[i])
			if all[i].kind != spdu.KindSample {
				continue
			}
			for forged < flood && forged*samples < flood*(i+1) {
				f := all[i]
				f.frame.Data[int(f.frame.Len)-1-forged%16] ^= 1
				setCounter(&f, f.counter+1+uint64(forged%900))
				s.take(&f)
				forged++
			}
		}
		perFrame = time.Since(begun) / time.Duration(len(all)+flood)
		if forged != flood {
			t.Fatalf("%d frames forged", forged)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		s.collector.Flush()
		return perFrame, s, g, q, after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
	}
	free, _, _, _, _ := run(false)
	held, s, g, q, heap := run(true)
	t.Logf("a frame costs %v without a destination and %v with one that is blocked; the heap grew by %d bytes", free, held, heap)
	const room = 4 << 20
	if heap > room {
		t.Errorf("the heap grew by %d bytes, more than %d", heap, room)
	}
	if st := q.Stats(); st.Delivered != 0 || st.Waiting != st.Offered || st.Offered < flood {
		t.Errorf("blocked: %+v", st)
	}
	close(g.open)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if st := q.Stats(); st.Waiting != 0 || st.Delivered != st.Offered {
		t.Errorf("afterwards: %+v", st)
	}
	if n := g.counts[kind.BadTag]; n != flood || s.count(kind.BadTag) != flood {
		t.Errorf("%d delivered, %d counted, %d forged", n, s.count(kind.BadTag), flood)
	}
}
