// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
)

const second = int64(1e9)

func directory(tb testing.TB) *event.Directory {
	tb.Helper()
	set, err := policy.Load("../policy/testdata/good/security_policy_bms_data.yaml", "../policy/testdata/good/pack-a.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return event.NewDirectory(set)
}

// sourceOf returns the position of a source and the slot of one of its streams.
func sourceOf(tb testing.TB, d *event.Directory, name string) (source, slot int) {
	tb.Helper()
	source = slices.IndexFunc(d.Set().Binding.Sources, func(s policy.Source) bool { return s.Identifier == name })
	slot = slices.IndexFunc(d.Set().Streams, func(s policy.ResolvedStream) bool { return s.Source == name })
	if source < 0 || slot < 0 {
		tb.Fatalf("no source %s", name)
	}
	return source, slot
}

func fact(k kind.Kind, s event.Subject, n uint64, at int64) []event.Fact {
	return []event.Fact{{Kind: k, Subject: s, Count: n, At: at}}
}

func kindsOf(all []Transition) (names []kind.Kind) {
	for _, t := range all {
		names = append(names, t.Kind)
	}
	return names
}

func want(tb testing.TB, got []Transition, kinds ...kind.Kind) {
	tb.Helper()
	if !slices.Equal(kindsOf(got), kinds) {
		tb.Fatalf("transitions %v, want %v", kindsOf(got), kinds)
	}
}

func TestRaiseAndClear(t *testing.T) {
	d := directory(t)
	m := New(d)
	i, slot := sourceOf(t, d, "pack_current")
	other, _ := sourceOf(t, d, "estimated_soc")
	at := event.Stream(slot)
	want(t, m.Take(fact(kind.BadTag, at, 1000, 100*second)), kind.FaultSuspect)
	want(t, m.Take(fact(kind.BadTag, at, 1000, 100*second+1)))
	want(t, m.Take(fact(kind.BadTag, at, 1, 101*second)))
	raised := m.Take(fact(kind.BadTag, at, 1, 103*second))
	want(t, raised, kind.FaultRaised)
	if m.Source(i) != Raised || m.State() != Raised || m.Source(other) != OK {
		t.Errorf("states %v, %v, %v", m.Source(i), m.State(), m.Source(other))
	}
	r := raised[0].Record()
	stream := d.Set().Streams[slot]
	if f := r.Fault; f.Sources[0] != "pack_current" || f.Advice != "inspect communication integrity and controller hardware" ||
		f.Cause != kind.CauseForgeable || f.From != "suspect" || f.To != "fault" ||
		!reflect.DeepEqual(f.Evidence, []event.Evidence{{Kind: kind.BadTag, Count: 2002, Interfaces: []string{stream.Interface.Name}, CANIDs: []policy.CANID{stream.CANID}}}) {
		t.Errorf("%+v", f)
	}
	// A second attack of the same cause under the first is said aloud, once; one of another cause is a fault of its own.
	want(t, m.Take(fact(kind.Replay, at, 1, 103*second)), kind.FaultWidened)
	want(t, m.Take(fact(kind.Replay, at, 1, 104*second)))
	want(t, m.Take(fact(kind.Silence, at, 1, 104*second)), kind.FaultSuspect)
	want(t, m.Take(fact(kind.Silence, at, 1, 105*second)), kind.FaultRaised)
	if v := m.Views(); len(v) != 2 || v[0].State != "fault" || v[1].Cause != kind.CauseAuthenticated || v[0].Advice != Advice {
		t.Errorf("%+v", v)
	}
	if b, err := json.Marshal(m.Views()); err != nil || !strings.Contains(string(b), `"ids":["`) {
		t.Errorf("%s, %v", b, err)
	}
	// It goes when the last bad interval has left the window, and not before.
	want(t, m.Advance(113*second))
	want(t, m.Advance(114*second), kind.FaultCleared)
	want(t, m.Advance(115*second), kind.FaultCleared)
	if m.State() != OK || len(m.Views()) != 0 {
		t.Errorf("%+v", m.Views())
	}
	// Suspicion that goes away is no event.
	want(t, m.Take(fact(kind.BadTag, at, 1, 200*second)), kind.FaultSuspect)
	want(t, m.Advance(210*second), kind.None)
}

func TestLatch(t *testing.T) {
	d := directory(t)
	m := New(d)
	i, slot := sourceOf(t, d, "cell_voltage_array")
	at := event.Stream(slot)
	want(t, m.Take(fact(kind.Downgrade, at, 1, second)), kind.FaultRaised, kind.FaultLatched)
	want(t, m.Advance(1e6*second))
	if m.Source(i) != Latched {
		t.Error(m.Source(i))
	}
	for _, reason := range []string{"", "  ", "a\nb", "\u202egnp", string(make([]byte, 3)), strings.Repeat("x", 201), "\xff"} {
		if _, err := m.Clear("", reason, 1e6*second); !errors.Is(err, ErrReason) {
			t.Errorf("%q: %v", reason, err)
		}
	}
	if _, err := m.Clear("nobody", "why not", 1e6*second); !errors.Is(err, ErrSource) {
		t.Error(err)
	}
	if _, err := m.Clear("estimated_soc", "why not", 1e6*second); !errors.Is(err, ErrClear) || m.Source(i) != Latched {
		t.Error(err)
	}
	got, err := m.Clear("cell_voltage_array", "harness replaced", 1e6*second)
	if err != nil || len(got) != 1 || got[0].Kind != kind.FaultCleared || got[0].Reason != "harness replaced" || got[0].From != Latched {
		t.Errorf("%+v, %v", got, err)
	}
	// Raised a third time within an hour it stays. What an operator has cleared does not count.
	now := 2e6 * second
	for n := range 4 {
		for range 3 {
			now += second
			got = m.Take(fact(kind.BadTag, at, 1, now))
		}
		if kinds := kindsOf(got); kinds[0] != kind.FaultRaised || slices.Contains(kinds, kind.FaultLatched) != (n == 3) {
			t.Fatalf("round %d: %v", n, kinds)
		}
		now += 20 * second
		m.Advance(now)
		if n == 0 { // this one is forgotten
			now += 3601 * second
		}
	}
	if m.Source(i) != Latched {
		t.Error(m.Source(i))
	}
}

// TestUnaffected: what accuses nobody, what is about nothing known, and traffic on unprotected identifiers change nothing.
func TestUnaffected(t *testing.T) {
	d := directory(t)
	m := New(d)
	for _, k := range kind.All() {
		if k.Cause() == kind.CauseNone {
			for at := range int64(100) {
				want(t, m.Take(fact(k, event.Subject{}, 1<<40, at*second)))
			}
		}
	}
	for _, s := range []event.Subject{event.Stream(4000), event.Bus(60), event.Node(99), event.Source(99), {Scope: 77}, {Index: 1}} {
		for at := range int64(100) {
			want(t, m.Take(fact(kind.BadTag, s, 1<<40, at*second)))
			want(t, m.Take(fact(kind.Downgrade, s, 1<<40, at*second)))
		}
	}
	want(t, m.Take(fact(200, event.Stream(0), 1, second)))
	if m.State() != OK || m.Dirty() {
		t.Error(m.State())
	}
}

// TestScopes: what happens to a bus speaks against the sources on it and no others.
func TestScopes(t *testing.T) {
	d := directory(t)
	for _, f := range d.Set().Interfaces {
		m := New(d)
		for at := range int64(10) {
			m.Take(fact(kind.PlaintextOnProtected, event.Bus(f.Index), 1, at*second))
		}
		for i, s := range d.Set().Binding.Sources {
			on := slices.ContainsFunc(d.Set().Streams, func(t policy.ResolvedStream) bool { return t.Source == s.Identifier && t.Interface.Index == f.Index })
			if raised := m.Source(i) >= Raised; raised != on {
				t.Errorf("%s: fault %v of %s, which is on it: %v", f.Name, raised, s.Identifier, on)
			}
		}
	}
	m := New(d)
	want(t, m.Take(fact(kind.StateRefused, event.Subject{}, 1, second)), slices.Repeat([]kind.Kind{kind.FaultRaised}, len(d.Set().Binding.Sources))...)
}

func TestSensitivity(t *testing.T) {
	d := directory(t)
	first := func(source string, k kind.Kind) (n int) {
		m := New(d)
		i, slot := sourceOf(t, d, source)
		for ; m.Source(i) < Raised; n++ {
			m.Take(fact(k, event.Stream(slot), 3, int64(n)*second))
		}
		return n
	}
	for _, c := range []struct {
		source string
		kind   kind.Kind
		want   int
	}{
		{"pack_current", kind.BadTag, 3}, {"pack_current", kind.Deletion, 2}, {"pack_current", kind.BadPlaintext, 1},
		{"estimated_soc", kind.BadTag, 5}, {"estimated_soc", kind.Deletion, 4}, {"estimated_soc", kind.BadPlaintext, 1},
	} {
		if got := first(c.source, c.kind); got != c.want {
			t.Errorf("%s, %v: fault after %d bad intervals, want %d", c.source, c.kind, got, c.want)
		}
	}
	// Fewer than the kind's count in an interval are nothing, however long.
	m := New(d)
	_, slot := sourceOf(t, d, "pack_current")
	for n := range int64(1000) {
		want(t, m.Take(fact(kind.Deletion, event.Stream(slot), 2, n*second)))
	}
}

// oracle is the rule for one source and one cause, written in another way.
type oracle struct {
	rule    policy.Threshold
	state   State
	bad     map[int64]bool
	raises  int
	raisedT int64
}

func (o *oracle) step(interval int64, bad, latch bool) {
	if bad {
		o.bad[interval] = true
	}
	n := 0
	for j := interval; j > interval-int64(o.rule.Of); j-- {
		if o.bad[j] {
			n++
		}
	}
	switch {
	case o.state == Latched:
	case o.state < Raised && (n >= o.rule.Raise || latch):
		if interval*second-o.raisedT > latchWindow {
			o.raises = 0
		}
		o.raises, o.raisedT, o.state = o.raises+1, interval*second, Raised
		if latch || o.rule.LatchAfter > 0 && o.raises >= o.rule.LatchAfter {
			o.state = Latched
		}
	case o.state == Raised && latch:
		o.state = Latched
	case o.state == Raised && n > o.rule.Clear:
	case n == 0:
		o.state = OK
	default:
		o.state = Suspect
	}
}

// TestProperties drives a machine at random and compares it with the oracle of every source and cause; on the way it is stored and
// taken up again, which must change nothing.
func TestProperties(t *testing.T) {
	d := directory(t)
	sources := d.Set().Binding.Sources
	kinds := []kind.Kind{kind.BadTag, kind.Replay, kind.Silence, kind.Delayed, kind.Downgrade, kind.LinkDown, kind.KeyAgreed}
	rapid.Check(t, func(rt *rapid.T) {
		m := New(d)
		oracles := make(map[string]*oracle)
		last := make(map[string]State)
		for _, s := range sources {
			p, _ := d.Set().Policy.Source(s.Identifier)
			for c := kind.CauseForgeable; c < kind.NumCauses; c++ {
				oracles[s.Identifier+c.String()] = &oracle{rule: policy.DefaultThreshold(p.Sensitivity, c), bad: make(map[int64]bool)}
			}
		}
		follow := func(ts []Transition) {
			for _, x := range ts {
				key := x.Name + x.Cause.String()
				if x.From != last[key] {
					rt.Fatalf("transition from %v, the state was %v", x.From, last[key])
				}
				if x.From == Latched && x.To != Latched && x.Reason == "" {
					rt.Fatalf("latched and cleared without an operator")
				}
				if x.To >= Raised && len(x.Evidence) == 0 {
					rt.Fatalf("fault without evidence")
				}
				last[key] = x.To
			}
		}
		interval := int64(10)
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			interval += rapid.SampledFrom([]int64{0, 0, 1, 1, 1, 2, 5, 30, 100, 4000}).Draw(rt, "pass")
			follow(m.Advance(interval * second))
			for _, o := range oracles {
				o.step(interval, false, false)
			}
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				again := New(d)
				if unknown, err := again.Decode(m.Encode(), interval*second); err != nil || unknown != nil {
					rt.Fatal(unknown, err)
				}
				for _, o := range oracles { // the time of the last raise is not stored: it counts as now
					if o.raises > 0 {
						o.raisedT = interval * second
					}
				}
				if string(again.Encode()) != string(m.Encode()) {
					rt.Fatalf("stored as %s, then as %s", m.Encode(), again.Encode())
				}
				m = again
			case 1:
				i := rapid.IntRange(0, len(sources)-1).Draw(rt, "clear")
				ts, err := m.Clear(sources[i].Identifier, "looked at it", interval*second)
				follow(ts)
				stood := false
				for c := kind.CauseForgeable; c < kind.NumCauses; c++ {
					o := oracles[sources[i].Identifier+c.String()]
					stood = stood || o.state >= Raised
					o.state, o.raises = OK, 0
					clear(o.bad)
				}
				if (err == nil) != stood {
					rt.Fatalf("%v, a fault stood: %v", err, stood)
				}
			default:
				k := rapid.SampledFrom(kinds).Draw(rt, "kind")
				i := rapid.IntRange(0, len(sources)-1).Draw(rt, "source")
				follow(m.Take(fact(k, event.Source(i), uint64(rapid.IntRange(1, 5).Draw(rt, "count")), interval*second)))
				if o := oracles[sources[i].Identifier+k.Cause().String()]; o != nil {
					if latch := k == kind.Downgrade; latch {
						for j := range int64(o.rule.Raise) {
							o.bad[interval-j] = true
						}
						o.step(interval, true, true)
					} else {
						o.step(interval, true, false)
					}
				}
			}
			for i, s := range sources {
				worst := OK
				for c := kind.CauseForgeable; c < kind.NumCauses; c++ {
					key := s.Identifier + c.String()
					got := m.sources[i].tracks[c-firstCause].state
					if got != oracles[key].state || last[key] != got {
						rt.Fatalf("%s: %v, oracle %v, told %v", key, got, oracles[key].state, last[key])
					}
					worst = max(worst, got)
				}
				if m.Source(i) != worst {
					rt.Fatalf("%s: %v, want %v", s.Identifier, m.Source(i), worst)
				}
			}
		}
	})
}

// TestAbsentSource takes a source out of the binding and back in again: its fault stands as it did, unless it was cleared meanwhile.
func TestAbsentSource(t *testing.T) {
	d := directory(t)
	m := New(d)
	_, slot := sourceOf(t, d, "pack_current")
	m.Take(fact(kind.Downgrade, event.Stream(slot), 1, second))
	state := string(m.Encode())
	gone := New(d)
	if absent, err := gone.Decode([]byte(strings.Replace(state, "pack_current", "gone", 1)), 0); err != nil || fmt.Sprint(absent) != "[gone]" {
		t.Fatal(absent, err)
	}
	if gone.State() != OK || len(gone.Views()) != 0 {
		t.Errorf("%v, %v", gone.State(), gone.Views())
	}
	back := New(d)
	if absent, err := back.Decode([]byte(strings.Replace(string(gone.Encode()), "gone", "pack_current", 1)), 0); err != nil || absent != nil {
		t.Fatal(absent, err)
	}
	if string(back.Encode()) != state {
		t.Errorf("%s, was %s", back.Encode(), state)
	}
	if _, err := gone.Clear("nothing", "why", second); !errors.Is(err, ErrSource) {
		t.Error(err)
	}
	all, err := gone.Clear("gone", "source was replaced", second)
	if err != nil || !gone.Dirty() {
		t.Fatal(err)
	}
	want(t, all, kind.FaultCleared)
	if r := all[0].Record(); r.Fault.From != Latched.String() || r.Fault.Sources[0] != "gone" || r.Subject != (event.Subject{}) {
		t.Errorf("%+v", r)
	}
	if strings.Contains(string(gone.Encode()), "gone") {
		t.Error("cleared, and still there")
	}
}

func TestDecodeRefused(t *testing.T) {
	d := directory(t)
	m := New(d)
	_, slot := sourceOf(t, d, "pack_current")
	m.Take(fact(kind.Downgrade, event.Stream(slot), 1, second))
	good := string(m.Encode())
	if m.Dirty() {
		t.Error("dirty behind Encode")
	}
	for name, b := range map[string]string{
		"empty": "", "no object": "[]", "version": strings.Replace(good, `"version":1`, `"version":2`, 1), "more": good + "{}",
		"field": strings.Replace(good, `"version"`, `"x":0,"version"`, 1), "cause": strings.Replace(good, `"authenticated"`, `"none"`, 1),
		"state":    strings.Replace(good, `"latched"`, `"stuck"`, 1),
		"evidence": strings.Replace(good, `"downgrade"`, `"bad_tag"`, 1), "raises": strings.Replace(good, `"raises":1`, `"raises":-1`, 1),
		"twice": strings.Replace(good, `"faults":[`, `"faults":[`+good[strings.Index(good, `[`)+1:strings.LastIndex(good, `]`)]+`,`, 1),
	} {
		fresh := New(d)
		if _, err := fresh.Decode([]byte(b), 0); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
		if fresh.State() != OK {
			t.Errorf("%s: half accepted", name)
		}
	}
	fresh := New(d)
	if unknown, err := fresh.Decode([]byte(strings.Replace(good, "pack_current", "gone", 1)), 0); err != nil || fmt.Sprint(unknown) != "[gone]" || fresh.State() != OK {
		t.Errorf("%v, %v", unknown, err)
	}
	if _, err := fresh.Decode([]byte(good), 5*second); err != nil || fresh.State() != Latched {
		t.Errorf("%v, %v", fresh.State(), err)
	}
	want(t, fresh.Advance(1e6*second))
}

func FuzzDecode(f *testing.F) {
	d := directory(f)
	m := New(d)
	for at := range int64(5) {
		m.Take(fact(kind.BadTag, event.Stream(1), 1, at*second))
		m.Take(fact(kind.Downgrade, event.Stream(3), 1, at*second))
	}
	f.Add(m.Encode())
	f.Add([]byte(`{"version":1,"faults":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New(d)
		if _, err := m.Decode(b, second); err != nil {
			if m.State() != OK {
				t.Error("half accepted")
			}
			return
		}
		again := New(d)
		if _, err := again.Decode(m.Encode(), second); err != nil || again.State() != m.State() {
			t.Errorf("%v, %v and %v", err, again.State(), m.State())
		}
		m.Advance(1000 * second)
	})
}

func BenchmarkTake(b *testing.B) {
	d := directory(b)
	m := New(d)
	facts := fact(kind.BadTag, event.Stream(1), 1, 0)
	for n := range b.N {
		facts[0].At = int64(n) * second / 1000
		m.Take(facts)
	}
}
