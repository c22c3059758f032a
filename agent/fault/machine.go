// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
)

// State is the state of a fault. The numbers are those of the ring's fault word.
type State = ring.FaultState

// The states, ascending.
const (
	OK      = ring.FaultNone
	Suspect = ring.FaultSuspect // some evidence, not enough
	Raised  = ring.FaultRaised  // cleared by rule, or by an operator
	Latched = ring.FaultLatched // cleared by an operator only
)

// Advice is what maintenance is told.
const Advice = "inspect communication integrity and controller hardware"

// latchWindow is the time within which a fault must be raised again to count towards Threshold.LatchAfter.
const latchWindow = int64(time.Hour)

const (
	// maxSubjects bounds how many places are named for one kind of evidence.
	maxSubjects = 8
	// maxReason bounds the reason of an operator in bytes.
	maxReason = 200
)

// Errors of Clear.
var (
	ErrReason = errors.New("a fault is cleared with a reason: 1 to 200 bytes of printable text")
	ErrSource = errors.New("no such data source")
	ErrClear  = errors.New("no fault stands")
)

// Transition is a change of one fault, or further evidence for one that stands (From and To are the same then).
type Transition struct {
	Kind     kind.Kind // fault_...; kind.None for suspicion that went away
	Source   int       // position in the binding's list; -1: it does not have the source
	Name     string    // of the source
	Cause    kind.Cause
	From, To State
	At       int64 // CLOCK_BOOTTIME in ns
	Reason   string
	Evidence []event.Evidence
}

// Record returns the transition as an event, to be reported. The time on the wall clock is left to whoever reports it.
func (t *Transition) Record() event.Record {
	subject := event.Subject{} // the gateway
	if t.Source >= 0 {
		subject = event.Source(t.Source)
	}
	return event.Record{
		Kind: t.Kind, Subject: subject, Count: 1, First: event.Instant{Boot: t.At}, Last: event.Instant{Boot: t.At},
		Fault: &event.Fault{
			From: t.From.String(), To: t.To.String(), Cause: t.Cause, Sources: []string{t.Name}, Advice: Advice, Reason: t.Reason,
			Evidence: t.Evidence,
		},
	}
}

// causes are those that a source has a fault of its own for.
const firstCause, numCauses = kind.CauseForgeable, kind.NumCauses - int(kind.CauseForgeable)

// track is the fault of one source for one cause.
type track struct {
	rule    policy.Threshold
	state   State
	history uint64 // bit n: the interval n before the present one was bad
	raises  int    // within latchWindow of each other
	raised  int64  // the last time
	// evidence is what was seen since the state was ok.
	evidence map[kind.Kind]*evidence
}

// evidence is what was seen of one kind.
type evidence struct {
	count    uint64
	counted  bool // it has made an interval bad
	subjects []event.Subject
}

// source is one data source.
type source struct {
	name   string
	tracks [numCauses]track
	// interval counts events in the present interval.
	interval [kind.NumKinds]uint64
}

// Machine is the faults of all sources. One goroutine at a time may use it.
type Machine struct {
	dir     *event.Directory
	rules   [kind.NumKinds]policy.KindRule
	length  int64 // of an interval in ns
	now     int64
	index   int64 // of the present interval
	sources []source
	// absent are raised and latched faults of sources that the binding does not have.
	absent []storedFault
	out    []Transition
	dirty  bool
}

// New makes the machine of an installation: the sources and the escalation of its binding, the sensitivities of its policy.
func New(d *event.Directory) *Machine {
	set := d.Set()
	e := &set.Binding.Escalation
	m := &Machine{dir: d, length: int64(e.IntervalOrDefault()), sources: make([]source, len(set.Binding.Sources))}
	for k := range m.rules {
		m.rules[k] = e.Rule(kind.Kind(k))
	}
	for i, s := range set.Binding.Sources {
		m.sources[i].name = s.Identifier
		protected, _ := set.Policy.Source(s.Identifier)
		for c := range m.sources[i].tracks {
			m.sources[i].tracks[c].rule = e.Threshold(protected.Sensitivity, firstCause+kind.Cause(c))
		}
	}
	return m
}

// Take takes facts and returns what they have changed. A fact about a bus, a node or the gateway speaks for the faults of all sources
// that it concerns. Facts of kinds that accuse nobody, and about what the directory does not know, change nothing; a frame on
// an unprotected identifier is no fact at all.
func (m *Machine) Take(facts []event.Fact) []Transition {
	m.out = nil
	for _, f := range facts {
		rule := m.rules[min(f.Kind, kind.NumKinds-1)]
		if !f.Kind.Valid() || f.Kind.Cause() == kind.CauseNone || f.Count == 0 || rule.Count == 0 {
			continue
		}
		m.pass(f.At)
		for _, i := range m.dir.Sources(f.Subject) {
			m.take(i, f, rule)
		}
	}
	return m.out
}

// Advance lets time pass. now is CLOCK_BOOTTIME in ns; one that goes back counts as the latest seen.
func (m *Machine) Advance(now int64) []Transition {
	m.out = nil
	m.pass(now)
	return m.out
}

// pass begins a new interval when it is time.
func (m *Machine) pass(now int64) {
	m.now = max(m.now, now)
	index := m.now / m.length
	steps := index - m.index
	if steps <= 0 {
		return
	}
	m.index = index
	for i := range m.sources {
		s := &m.sources[i]
		clear(s.interval[:])
		for c := range s.tracks {
			t := &s.tracks[c]
			if t.state == OK {
				t.history, t.evidence = 0, nil // too little in its interval is nothing
				continue
			}
			t.history <<= uint64(min(steps, 64)) // a shift by 64 leaves nothing
			m.judge(i, c, false)
		}
	}
}

func (m *Machine) take(i int, f event.Fact, rule policy.KindRule) {
	s := &m.sources[i]
	c := int(f.Kind.Cause() - firstCause)
	t := &s.tracks[c]
	if t.evidence == nil {
		t.evidence = make(map[kind.Kind]*evidence)
	}
	e := t.evidence[f.Kind]
	if e == nil {
		e = new(evidence)
		t.evidence[f.Kind] = e
	}
	e.count += min(f.Count, ^uint64(0)-e.count)
	if len(e.subjects) < maxSubjects && !slices.Contains(e.subjects, f.Subject) {
		e.subjects = append(e.subjects, f.Subject)
	}
	s.interval[f.Kind] += min(f.Count, ^uint64(0)-s.interval[f.Kind])
	if s.interval[f.Kind] < rule.Count && !rule.Immediate && !rule.Latch {
		return
	}
	stood := t.state >= Raised
	t.history |= 1
	if rule.Immediate || rule.Latch {
		// As if it had gone on for as long as the rule wants, so that it is cleared no earlier than one that did.
		t.history |= 1<<uint(t.rule.Raise) - 1
	}
	fresh := !e.counted
	e.counted = true
	m.judge(i, c, rule.Latch)
	if stood && fresh && t.state >= Raised {
		// A second attack under a fault that stands is said aloud, once for each kind.
		m.change(i, c, kind.FaultWidened, t.state, "")
	}
}

// judge moves a fault to the state that its history wants.
func (m *Machine) judge(i, c int, latch bool) {
	t := &m.sources[i].tracks[c]
	bad := bits.OnesCount64(t.history & (^uint64(0) >> uint(64-t.rule.Of)))
	switch {
	case t.state == Latched:
	case latch:
		m.raise(i, c, true)
	case t.state == Raised:
		if bad > t.rule.Clear {
			return
		}
		to := OK
		if bad > 0 {
			to = Suspect
		}
		m.change(i, c, kind.FaultCleared, to, "")
	case bad >= t.rule.Raise:
		m.raise(i, c, false)
	case t.state == OK && bad > 0:
		m.change(i, c, kind.FaultSuspect, Suspect, "")
	case t.state == Suspect && bad == 0:
		m.change(i, c, kind.None, OK, "")
	}
}

// raise raises a fault, and latches it when it must be, or when it was raised too often.
func (m *Machine) raise(i, c int, latch bool) {
	t := &m.sources[i].tracks[c]
	if t.state < Raised {
		if t.raises > 0 && m.now-t.raised > latchWindow {
			t.raises = 0
		}
		t.raises++
		t.raised = m.now
		m.change(i, c, kind.FaultRaised, Raised, "")
	}
	if latch || t.rule.LatchAfter > 0 && t.raises >= t.rule.LatchAfter {
		m.change(i, c, kind.FaultLatched, Latched, "")
	}
}

// change moves a fault and notes the transition.
func (m *Machine) change(i, c int, k kind.Kind, to State, reason string) {
	s := &m.sources[i]
	t := &s.tracks[c]
	m.out = append(m.out, Transition{
		Kind: k, Source: i, Name: s.name, Cause: firstCause + kind.Cause(c), From: t.state, To: to, At: m.now, Reason: reason,
		Evidence: m.evidence(t),
	})
	t.state = to
	m.dirty = true
	if to == OK {
		t.evidence = nil
	}
}

// evidence lists what speaks for a fault, in the order of kinds.
func (m *Machine) evidence(t *track) []event.Evidence {
	var all []event.Evidence
	for _, k := range kind.All() {
		e := t.evidence[k]
		if e == nil {
			continue
		}
		one := event.Evidence{Kind: k, Count: e.count}
		for _, s := range e.subjects {
			var r event.Record
			m.dir.Locate(s, &r)
			if r.Interface != "" && !slices.Contains(one.Interfaces, r.Interface) {
				one.Interfaces = append(one.Interfaces, r.Interface)
			}
			if r.HasCANID && !slices.Contains(one.CANIDs, r.CANID) {
				one.CANIDs = append(one.CANIDs, r.CANID)
			}
		}
		all = append(all, one)
	}
	return all
}

// Clear clears the faults of a source, latched ones too, or of all sources for "", also such that the binding does not have. Suspicion goes as well. The reason is part of the
// record. Evidence that goes on raises the fault anew.
func (m *Machine) Clear(name, reason string, now int64) ([]Transition, error) {
	if !goodReason(reason) {
		return nil, ErrReason
	}
	m.out = nil
	m.pass(now)
	passed := m.out
	found, cleared := name == "", false
	for i := range m.sources {
		if name != "" && m.sources[i].name != name {
			continue
		}
		found = true
		for c := range m.sources[i].tracks {
			t := &m.sources[i].tracks[c]
			t.raises = 0
			if t.state == OK {
				continue
			}
			cleared = cleared || t.state >= Raised
			t.history = 0
			k := kind.FaultCleared
			if t.state == Suspect {
				k = kind.None
			}
			m.change(i, c, k, OK, reason)
		}
		clear(m.sources[i].interval[:])
	}
	m.absent = slices.DeleteFunc(m.absent, func(f storedFault) bool {
		if name != "" && f.Source != name {
			return false
		}
		t, c, err := f.track(now)
		if err != nil {
			return false // it was looked at when it came
		}
		found, cleared, m.dirty = true, true, true
		m.out = append(m.out, Transition{Kind: kind.FaultCleared, Source: -1, Name: f.Source, Cause: c, From: t.state, To: OK, At: m.now, Reason: reason})
		return true
	})
	switch {
	case !found:
		return passed, fmt.Errorf("%w: %q", ErrSource, name)
	case !cleared:
		return m.out, ErrClear
	}
	return m.out, nil
}

func goodReason(s string) bool {
	if s == "" || len(s) > maxReason || !utf8.ValidString(s) {
		return false
	}
	visible := false
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
		visible = visible || r != ' '
	}
	return visible
}

// State returns the worst state of all faults: what the ring's fault word says.
func (m *Machine) State() State {
	worst := OK
	for i := range m.sources {
		worst = max(worst, m.Source(i))
	}
	return worst
}

// Source returns the worst state of a source's faults. At Raised and above its samples are flagged.
func (m *Machine) Source(i int) State {
	worst := OK
	for c := range m.sources[i].tracks {
		worst = max(worst, m.sources[i].tracks[c].state)
	}
	return worst
}

// View is one fault, or suspicion.
type View struct {
	Name     string         `json:"source"`
	Cause    kind.Cause     `json:"cause"`
	State    string         `json:"state"`
	Advice   string         `json:"advice,omitempty"`
	Evidence []EvidenceView `json:"evidence"`
}

// EvidenceView is what speaks for a fault: how often one kind of event was seen since the state was ok, and where.
type EvidenceView struct {
	Kind       kind.Kind `json:"kind"`
	Count      uint64    `json:"count"`
	Interfaces []string  `json:"interfaces"`
	CANIDs     []string  `json:"ids"` // in hexadecimal, 3 or 8 digits
}

func viewEvidence(all []event.Evidence) []EvidenceView {
	views := []EvidenceView{}
	for _, e := range all {
		v := EvidenceView{e.Kind, e.Count, append([]string{}, e.Interfaces...), []string{}}
		for _, id := range e.CANIDs {
			v.CANIDs = append(v.CANIDs, id.String())
		}
		views = append(views, v)
	}
	return views
}

// Views returns all that is not ok, in the order of sources.
func (m *Machine) Views() []View {
	all := []View{}
	for i := range m.sources {
		for c := range m.sources[i].tracks {
			if t := &m.sources[i].tracks[c]; t.state != OK {
				v := View{Name: m.sources[i].name, Cause: firstCause + kind.Cause(c), State: t.state.String(), Evidence: viewEvidence(m.evidence(t))}
				if t.state >= Raised {
					v.Advice = Advice
				}
				all = append(all, v)
			}
		}
	}
	return all
}
