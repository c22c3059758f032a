// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/cellward/cellward/agent/event/kind"
)

// Limits and defaults of an escalation.
const (
	DefaultEscalationInterval = time.Second
	MaxEscalationInterval     = time.Hour
	MaxEscalationWindow       = 64 // intervals
	MaxEscalationCount        = 1 << 32
	MaxLatchAfter             = 1000
)

// Escalation says when evidence becomes the BMS Security Fault. The zero value is the defaults; what a binding names takes their
// place one by one.
type Escalation struct {
	Interval   time.Duration // 0: DefaultEscalationInterval
	Thresholds []Threshold   // at most one for each sensitivity and cause
	Kinds      []KindRule    // at most one for each kind
}

// Threshold says for sources of one sensitivity how much evidence of one cause is a fault: Raise bad intervals among the last
// Of raise it, and at most Clear bad ones among them clear it.
type Threshold struct {
	Sensitivity Sensitivity
	Cause       kind.Cause
	Raise, Of   int
	Clear       int // below Raise
	// LatchAfter is how many times the fault may be raised, each within an hour of the one before, until it stays until an
	// operator clears it; 0: never.
	LatchAfter int
}

// KindRule says what events of one kind weigh.
type KindRule struct {
	Kind kind.Kind
	// Count is how many events in one interval make it bad; 0: events of the kind never do.
	Count uint64
	// Immediate: the first one raises the fault.
	Immediate bool
	// Latch: the first one raises the fault, and it stays until an operator clears it.
	Latch bool
}

// DefaultThreshold returns the threshold for a sensitivity and a cause.
func DefaultThreshold(s Sensitivity, c kind.Cause) Threshold {
	t := Threshold{Sensitivity: s, Cause: c}
	switch s {
	case Low:
		t.Raise, t.Of = 20, 60
	case Medium:
		t.Raise, t.Of = 10, 30
	case High:
		t.Raise, t.Of, t.LatchAfter = 5, 20, 5
	default: // unknown counts as the highest
		t.Raise, t.Of, t.LatchAfter = 3, 10, 3
	}
	if c == kind.CauseAuthenticated { // nobody without a key can bring it about, so less of it says as much
		switch s {
		case Low:
			t.Raise = 15
		case Medium:
			t.Raise = 8
		case High:
			t.Raise = 4
		default:
			t.Raise = 2
		}
	}
	return t
}

// DefaultKindRule returns the rule for a kind. Events that accuse nobody never count, and of the gateway's own only those do
// that bear on whether its data can be trusted.
func DefaultKindRule(k kind.Kind) KindRule {
	r := KindRule{Kind: k}
	switch k {
	case kind.Downgrade, kind.NodeRollbackProved, kind.OfferConflict:
		// No error of a network or a node looks like this.
		r.Count, r.Immediate, r.Latch = 1, true, true
	case kind.BadPlaintext, kind.EpochExpired, kind.EpochRefused, kind.StateRefused, kind.ClosedWithoutState, kind.HookLost:
		r.Count, r.Immediate = 1, true
	case kind.Deletion, kind.Rate:
		// One frame that a bus has lost is no attack.
		r.Count = 3
	case kind.AgentUnknownEpoch, kind.AgentUnknownStream, kind.HandshakeFailed:
		// What is under way while keys and documents change.
		r.Count = 5
	case kind.NotDurable, kind.StateWriteFailed, kind.TPMUnavailable, kind.BusOff, kind.LinkDown:
		r.Count = 1
	default:
		if c := k.Cause(); c == kind.CauseForgeable || c == kind.CauseAuthenticated {
			r.Count = 1
		}
	}
	return r
}

// IntervalOrDefault returns the interval.
func (e *Escalation) IntervalOrDefault() time.Duration {
	if e.Interval == 0 {
		return DefaultEscalationInterval
	}
	return e.Interval
}

// Threshold returns the threshold for a sensitivity and a cause.
func (e *Escalation) Threshold(s Sensitivity, c kind.Cause) Threshold {
	for _, t := range e.Thresholds {
		if t.Sensitivity == s && t.Cause == c {
			return t
		}
	}
	return DefaultThreshold(s, c)
}

// Rule returns the rule for a kind.
func (e *Escalation) Rule(k kind.Kind) KindRule {
	for _, r := range e.Kinds {
		if r.Kind == k {
			return r
		}
	}
	return DefaultKindRule(k)
}

func causeNames() []string {
	return []string{kind.CauseForgeable.String(), kind.CauseAuthenticated.String(), kind.CauseLocal.String()}
}

// kindNames are the kinds that may have a rule: those that accuse somebody.
func kindNames() (names []string) {
	for _, k := range kind.All() {
		if k.Cause() != kind.CauseNone {
			names = append(names, k.String())
		}
	}
	return names
}

// decodeEscalation reads spec.escalation.
func decodeEscalation(v value) (e Escalation) {
	o, ok := v.object("interval", "thresholds", "kinds")
	if !ok {
		return e
	}
	if v, ok := o.optional("interval"); ok {
		e.Interval, _ = v.duration(MaxEscalationInterval)
	}
	if v, ok := o.optional("thresholds"); ok {
		seen := unique[[2]string]{}
		for _, item := range v.list(int(Critical) * len(causeNames())) {
			e.Thresholds = append(e.Thresholds, decodeThreshold(item, seen))
		}
	}
	if v, ok := o.optional("kinds"); ok {
		seen := unique[string]{}
		for _, item := range v.list(len(kindNames())) {
			e.Kinds = append(e.Kinds, decodeKindRule(item, seen))
		}
	}
	return e
}

func decodeThreshold(item value, seen unique[[2]string]) (t Threshold) {
	o, ok := item.object("sensitivity", "cause", "raise", "of", "clear", "latchAfter")
	if !ok {
		return t
	}
	if v, ok := o.required("sensitivity"); ok {
		t.Sensitivity, _ = v.sensitivity()
	}
	if v, ok := o.required("cause"); ok {
		if name, ok := v.oneOf(causeNames()...); ok {
			t.Cause, _ = kind.ParseCause(name)
			if t.Sensitivity != 0 {
				seen.add([2]string{t.Sensitivity.String(), name}, item, fmt.Sprintf("a threshold for %s and %s", t.Sensitivity, name))
			}
		}
	}
	t.LatchAfter = DefaultThreshold(t.Sensitivity, t.Cause).LatchAfter
	raise, haveRaise := o.required("raise")
	of, haveOf := o.required("of")
	if haveRaise {
		t.Raise, haveRaise = raise.count(1, MaxEscalationWindow)
	}
	if haveOf {
		t.Of, haveOf = of.count(1, MaxEscalationWindow)
	}
	if haveRaise && haveOf && t.Raise > t.Of {
		raise.errorf("%d bad intervals of %d cannot be", t.Raise, t.Of)
	}
	if v, ok := o.optional("clear"); ok {
		if t.Clear, ok = v.count(0, MaxEscalationWindow-1); ok && haveRaise && t.Clear >= t.Raise {
			v.errorf("a fault that %d bad intervals raise cannot be cleared by %d", t.Raise, t.Clear)
		}
	}
	if v, ok := o.optional("latchAfter"); ok {
		t.LatchAfter, _ = v.count(0, MaxLatchAfter)
	}
	return t
}

func (v value) count(low, high uint64) (int, bool) {
	n, ok := v.integer(low, high)
	return int(n), ok
}

func decodeKindRule(item value, seen unique[string]) (r KindRule) {
	o, ok := item.object("kind", "count", "immediate", "latch")
	if !ok {
		return r
	}
	if v, ok := o.required("kind"); ok {
		const what = "the name of an event kind that accuses somebody (docs/events.md)"
		if name, ok := v.text(what); ok && slices.Contains(kindNames(), name) {
			k, _ := kind.Parse(name)
			r = DefaultKindRule(k)
			seen.add(name, v, quoted("kind", name))
		} else if ok {
			v.want(what)
		}
	}
	if v, ok := o.optional("count"); ok {
		r.Count, _ = v.integer(0, MaxEscalationCount)
	}
	if v, ok := o.optional("immediate"); ok {
		r.Immediate, _ = v.boolean()
	}
	if v, ok := o.optional("latch"); ok {
		r.Latch, _ = v.boolean()
	}
	return r
}
