// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// held is how long a delayed sample is held: above the 2 s from which on it counts as delayed.
const held = 2500 * time.Millisecond

// tampering takes frames off the bus or holds them back. A wire calls it under its lock.
type tampering struct {
	deletes, delays *Attack // nil: not selected
	total           uint64  // samples that the edge will send
	bodies          map[target][][]byte
	seen            uint64
	target          target // whose samples are delayed; those of others are deleted
	known           bool
	busiest         target
	first           map[target]uint64 // counter of the first sample
	samples         uint64            // deleted
	// when says when each was done.
	when map[string][]time.Time
	wg   sync.WaitGroup
}

// passing is a sample on the wire.
type passing struct {
	at     target
	number uint64 // of all samples, from 1 on
	left   uint64 // samples of its identifier that follow
	mux    bool   // of the busiest identifier, and its body begins like that of the first
}

// newTampering makes what the selected attacks need, nil if none of them takes frames. bodies are what the edge will send, by identifier.
func newTampering(selected []string, bodies map[target][][]byte) *tampering {
	x := &tampering{bodies: bodies, first: make(map[target]uint64), when: make(map[string][]time.Time)}
	if a, ok := ofFamily(selected, Deletion); ok {
		x.deletes = &a
	}
	if a, ok := ofFamily(selected, Delay); ok {
		x.delays = &a
	}
	if x.deletes == nil && x.delays == nil {
		return nil
	}
	for at, all := range bodies {
		x.total += uint64(len(all))
		// Of two that are equally busy always the same, however the map is walked.
		if n, most := len(all), len(bodies[x.busiest]); n > most || n == most && (at.bus < x.busiest.bus || at.bus == x.busiest.bus && at.id < x.busiest.id) {
			x.busiest = at
		}
	}
	return x
}

// dark says that nothing comes through: from a third of all samples to a half.
func (x *tampering) dark() bool { return x.seen > x.total/3 && x.seen <= x.total/2 }

// describe says what is known of a sample.
func (x *tampering) describe(at target, counter uint64) passing {
	first, ok := x.first[at]
	if !ok {
		first = counter
		x.first[at] = counter
	}
	s := passing{at: at, number: x.seen}
	all, i := x.bodies[at], counter-first
	if i >= uint64(len(all)) {
		return s
	}
	s.left = uint64(len(all)) - 1 - i
	s.mux = at == x.busiest && len(all[0]) > 0 && len(all[i]) > 0 && all[i][0] == all[0][0]
	return s
}

func (x *tampering) note(attack string) { x.when[attack] = append(x.when[attack], time.Now()) }

// take says that a frame does not go on now. Single samples are left alone in the last third, so that the edge is still there to name
// what is missing.
func (x *tampering) take(w *Wire, f *frame) bool {
	h, err := spdu.ParseHeader(f.payload())
	if f.size != loader.CANFDMTU || err != nil || h.Kind != spdu.KindSample {
		if x.deletes == nil || !x.deletes.all || !x.dark() {
			return false
		}
		if err == nil && h.Kind == spdu.KindHeartbeat { // it has a counter, too
			x.note(x.deletes.Name)
		}
		return true
	}
	x.seen++
	at := target{f.bus, f.ID}
	if !x.known {
		x.target, x.known = at, true
	}
	s := x.describe(at, h.Counter)
	delaying := x.delays != nil && at == x.target && x.seen > x.total/4 && x.seen <= x.total*2/3
	switch {
	case x.deletes != nil && !delaying && x.deletes.deletes(x, &s):
		x.note(x.deletes.Name)
		x.samples++
		return true
	case delaying:
		g := *f
		x.wg.Go(func() {
			time.Sleep(held)
			w.mu.Lock()
			defer w.mu.Unlock()
			x.note(Delay)
			if err := w.put(&g); err != nil {
				w.fail(f.bus, err)
			}
		})
		return true
	}
	return false
}

// EventResult is what was done of an attack and what of it the agent's events tell.
type EventResult struct {
	Injected uint64 `json:"injected"`
	Noticed  uint64 `json:"noticed"`
	// DetectMSP99 is how long it took until it was counted, in ms; 99 % took no longer.
	DetectMSP99 float64 `json:"detect_ms_p99"`
}

// observer watches how many events the agent has counted.
type observer struct {
	mu    sync.Mutex
	steps map[string][]step
}

type step struct {
	at time.Time
	n  uint64
}

// noticedOf sums up the events that tell of an attack. A sample that came after it was reported as missing was not deleted.
func noticedOf(attack string, s *agent.Status) (n uint64) {
	switch familyOf(attack) {
	case Deletion:
		n = s.Events.Counts["deletion"] + s.Events.Counts["tail_loss"]
		for _, t := range s.Streams {
			n -= min(t.Corrected, n)
		}
	case Delay:
		// A sample with the source time of one that was not held back has a clock that stands still, as far as anybody can tell.
		n = s.Events.Counts["delayed"] + s.Events.Counts["clock_freeze"]
	default:
		for v := range loader.NumVerdicts {
			if verdict := loader.Verdict(v); agent.Refusing(verdict) {
				n += s.Events.Counts[event.OfVerdict(verdict).String()]
			}
		}
	}
	return n
}

// look takes note of a status.
func (o *observer) look(selected []string, s *agent.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range selected {
		n, all := noticedOf(a, s), o.steps[a]
		if len(all) == 0 || all[len(all)-1].n < n {
			o.steps[a] = append(all, step{time.Now(), n})
		}
	}
}

// observe looks until ctx ends.
func (l *Lab) observe(ctx context.Context, o *observer, selected []string) {
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
			if s, err := l.Status(ctx); err == nil {
				o.look(selected, &s)
			}
		}
	}
}

// result compares what was done, and when, with what was noticed.
func (o *observer) result(attack string, when []time.Time, s *agent.Status) EventResult {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := EventResult{Injected: uint64(len(when)), Noticed: noticedOf(attack, s)}
	var took []float64
	steps := o.steps[attack]
	for i, t := range when {
		for len(steps) > 0 && steps[0].n < uint64(i+1) {
			steps = steps[1:]
		}
		if len(steps) > 0 {
			took = append(took, float64(steps[0].at.Sub(t).Microseconds())/1e3)
		}
	}
	if slices.Sort(took); len(took) > 0 {
		r.DetectMSP99 = took[len(took)*99/100]
	}
	return r
}
