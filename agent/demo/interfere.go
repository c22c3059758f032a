// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// What an attacker does.
const (
	// Insertion adds frames on protected identifiers: altered, repeated, spliced, made up.
	Insertion = "insertion"
	// Deletion takes samples off the bus.
	Deletion = "deletion"
	// Delay holds the samples of one identifier back for a while.
	Delay = "delay"
)

// ErrAttack says that a selection names no attack.
var ErrAttack = errors.New("no such attack")

// ParseAttacks reads a list of attacks, separated by commas.
func ParseAttacks(list string) (all []string, err error) {
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains([]string{Insertion, Deletion, Delay}, name) {
			return nil, fmt.Errorf("%w: %q; want %s, %s or %s", ErrAttack, name, Insertion, Deletion, Delay)
		}
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all, nil
}

// deleteEvery is how many samples pass between two deleted ones, held how long a delayed one is held: above the 2 s from which on
// a sample counts as delayed.
const (
	deleteEvery = 25
	held        = 2500 * time.Millisecond
)

// tampering takes frames off the bus or holds them back. A wire calls it under its lock.
type tampering struct {
	deletes, delays bool
	total           uint64 // samples that the edge will send
	seen            uint64
	target          target // whose samples are delayed; those of others are deleted
	known           bool
	// when says when each was done.
	when map[string][]time.Time
	wg   sync.WaitGroup
}

func newTampering(selected []string, total uint64) *tampering {
	return &tampering{deletes: slices.Contains(selected, Deletion), delays: slices.Contains(selected, Delay), total: total, when: make(map[string][]time.Time)}
}

// take says that a frame does not go on now. In the last third nothing is done, so that the edge is still there to name what is
// missing.
func (x *tampering) take(w *Wire, f *frame) bool {
	h, err := spdu.ParseHeader(f.payload())
	if f.size != loader.CANFDMTU || err != nil || h.Kind != spdu.KindSample {
		return false
	}
	x.seen++
	at := target{f.bus, f.ID}
	if !x.known {
		x.target, x.known = at, true
	}
	switch {
	case x.seen > x.total*2/3:
		return false
	case x.delays && at == x.target && x.seen > x.total/4:
		g := *f
		x.wg.Go(func() {
			time.Sleep(held)
			w.mu.Lock()
			defer w.mu.Unlock()
			x.when[Delay] = append(x.when[Delay], time.Now())
			if err := w.put(&g); err != nil {
				w.fail(f.bus, err)
			}
		})
		return true
	case x.deletes && (!x.delays || at != x.target) && x.seen%deleteEvery == 0:
		x.when[Deletion] = append(x.when[Deletion], time.Now())
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
	switch attack {
	case Deletion:
		n = s.Events.Counts["deletion"] + s.Events.Counts["tail_loss"]
		for _, t := range s.Streams {
			n -= min(t.Corrected, n)
		}
	case Delay:
		n = s.Events.Counts["delayed"]
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
