// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"crypto/elliptic"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/chain"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/event/sink"
	"github.com/cellward/cellward/crypto/identity"
)

// clock is a clock that moves when it is told to.
type clock struct{ now event.Instant }

func (c *clock) Now() event.Instant { return c.now }

// blocked is a destination that takes nothing until its gate opens.
type blocked struct {
	gate chan struct{}
	mu   sync.Mutex
	sums map[event.Key]uint64
}

func (b *blocked) Write(r *event.Record) error {
	<-b.gate
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sums[r.Key()] += r.Count
	return nil
}

func (b *blocked) Close() error { return nil }

// TestFlow puts the parts together: 200,000 forged frames in 60 s on one stream, a few deletions on another and one downgrade on a
// third, with a destination that is blocked all the while. The faults are raised in time, the log verifies, and all counts
// are exact, in the log at once and at the destination when it takes something again.
func TestFlow(t *testing.T) {
	key, err := identity.GenerateKey(elliptic.P384())
	if err != nil {
		t.Fatal(err)
	}
	pub, err := identity.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	d := directory(t)
	c := &clock{event.Instant{Boot: 1000 * second, Wall: 1_795_000_000 * second}}
	dir := t.TempDir()
	log, err := chain.Open(chain.Options{Dir: dir, Signer: chain.Identity{Key: key}, Clock: c, Generation: 3})
	if err != nil {
		t.Fatal(err)
	}
	out := &blocked{gate: make(chan struct{}), sums: make(map[event.Key]uint64)}
	queue := sink.New(out, sink.Options{Size: 8})
	table, m := event.NewTable(d), New(d)
	var col *event.Collector
	raised := make(map[string]int64)
	follow := func(ts []Transition) {
		for _, x := range ts {
			if x.Kind == kind.FaultRaised {
				raised[x.Name+" "+x.Cause.String()] = x.At - 1000*second
			}
			if x.Kind != kind.None {
				col.Report(x.Record())
			}
		}
	}
	col = event.NewCollector(event.CollectorOptions{
		Table: table, Clock: c, Log: log, Destinations: []event.Destination{queue},
		Facts: func(all []event.Fact) { follow(m.Take(all)) },
	})
	_, flooded := sourceOf(t, d, "cell_voltage_array")
	_, thinned := sourceOf(t, d, "temperature_sensors")
	_, old := sourceOf(t, d, "estimated_soc")
	want := make(map[event.Key]uint64)
	note := func(k kind.Kind, slot int, n uint64) {
		table.Note(&event.Note{Kind: k, Subject: event.Stream(slot), Time: c.now.Boot, Count: n})
		want[event.Key{Kind: k, Subject: event.Stream(slot)}] += n
	}
	for tick := range 600 {
		for range 334 {
			note(kind.BadTag, flooded, 1)
		}
		switch tick {
		case 300, 310:
			note(kind.Deletion, thinned, 4)
		case 400:
			note(kind.Downgrade, old, 1)
		}
		col.Turn()
		follow(m.Advance(c.now.Boot))
		c.now.Boot += second / 10
		c.now.Wall += second / 10
	}
	col.Flush()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	// 3 bad intervals of forged frames, 2 of deletions, one downgrade; nothing else.
	if len(raised) != 3 || raised["cell_voltage_array forgeable"] != 2*second || raised["temperature_sensors authenticated"] != 31*second ||
		raised["estimated_soc authenticated"] != 40*second || m.State() != Latched {
		t.Errorf("raised %v, state %v", raised, m.State())
	}
	head, _ := log.Head()
	sources, err := chain.Load([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	report := chain.Verify(sources, chain.VerifyOptions{Verifier: chain.PublicKey{Key: pub}, Known: &head, Generation: 3})
	if !report.Good() || !report.Closed || report.Events > 40 {
		t.Errorf("%+v", report)
	}
	logged := make(map[event.Key]uint64)
	if err := chain.Records(sources, func(r *event.Record) error { logged[r.Key()] += r.Count; return nil }, func(f chain.Finding) { t.Error(f) }); err != nil {
		t.Fatal(err)
	}
	close(out.gate)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := queue.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for k, n := range want {
		if logged[k] != n || out.sums[k] != n {
			t.Errorf("%v: noted %d, logged %d, delivered %d", k.Kind, n, logged[k], out.sums[k])
		}
	}
	if n := want[event.Key{Kind: kind.BadTag, Subject: event.Stream(flooded)}]; n != 200400 {
		t.Errorf("%d forged frames", n)
	}
	if k := (event.Key{Kind: kind.FaultLatched, Subject: event.Source(m.dir.Sources(event.Stream(old))[0])}); logged[k] != 1 || out.sums[k] != 1 {
		t.Errorf("latched: logged %d, delivered %d", logged[k], out.sums[k])
	}
}
