// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event/kind"
)

func TestEscalation(t *testing.T) {
	b, err := LoadBinding("testdata/good/binding-escalation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	e := &b.Escalation
	if e.IntervalOrDefault() != 2*time.Second {
		t.Error(e.Interval)
	}
	for _, c := range []struct {
		s     Sensitivity
		cause kind.Cause
		want  Threshold
	}{
		{Critical, kind.CauseForgeable, Threshold{Critical, kind.CauseForgeable, 5, 8, 1, 0}},
		{Critical, kind.CauseAuthenticated, DefaultThreshold(Critical, kind.CauseAuthenticated)},
		// What is left out is the default of the sensitivity.
		{High, kind.CauseAuthenticated, Threshold{High, kind.CauseAuthenticated, 2, 64, 0, 5}},
	} {
		if got := e.Threshold(c.s, c.cause); got != c.want {
			t.Errorf("%v, %v: %+v, want %+v", c.s, c.cause, got, c.want)
		}
	}
	for k, want := range map[kind.Kind]KindRule{
		kind.BadTag: {kind.BadTag, 10, false, false}, kind.Silence: {kind.Silence, 1, true, true}, kind.Shed: {kind.Shed, 0, false, false},
		kind.Downgrade: {kind.Downgrade, 1, true, true}, kind.KeyAgreed: {kind.KeyAgreed, 0, false, false},
	} {
		if got := e.Rule(k); got != want {
			t.Errorf("%v: %+v, want %+v", k, got, want)
		}
	}
	text, err := Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseBinding("again", text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Escalation, b.Escalation) {
		t.Errorf("%+v, want %+v", again.Escalation, b.Escalation)
	}
}

// TestEscalationDefaults checks what the defaults promise: more sensitive sources need less evidence, evidence that nobody can
// forge weighs more, and nothing is cleared by what would raise it.
func TestEscalationDefaults(t *testing.T) {
	for _, name := range causeNames() {
		c, _ := kind.ParseCause(name)
		for s := Low; s <= Critical; s++ {
			d := DefaultThreshold(s, c)
			if d.Raise < 1 || d.Raise > d.Of || d.Of > MaxEscalationWindow || d.Clear >= d.Raise {
				t.Errorf("%+v", d)
			}
			if s > Low && d.Raise >= DefaultThreshold(s-1, c).Raise {
				t.Errorf("%v and %v: the same evidence", s, s-1)
			}
			if c == kind.CauseAuthenticated && d.Raise >= DefaultThreshold(s, kind.CauseForgeable).Raise {
				t.Errorf("%v: authenticated evidence weighs no more", s)
			}
		}
	}
	for _, k := range kind.All() {
		r := DefaultKindRule(k)
		if k.Cause() == kind.CauseNone && r != (KindRule{Kind: k}) {
			t.Errorf("%v accuses nobody and counts", k)
		}
		if (r.Immediate || r.Latch) && (r.Count != 1 || k.Cause() == kind.CauseForgeable) {
			t.Errorf("%+v: one event that anyone can forge raises the fault", r)
		}
		if c := k.Cause(); (c == kind.CauseForgeable || c == kind.CauseAuthenticated) && r.Count == 0 {
			t.Errorf("%v never counts", k)
		}
	}
}

func TestSchemaKinds(t *testing.T) {
	data, err := Schema(KindBinding)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs struct {
			Escalation struct {
				Properties struct {
					Kinds struct {
						MaxItems int
						Items    struct {
							Properties struct {
								Kind struct{ Enum []string }
							}
						}
					}
				}
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	k := schema.Defs.Escalation.Properties.Kinds
	if !slices.Equal(k.Items.Properties.Kind.Enum, kindNames()) || k.MaxItems != len(kindNames()) {
		t.Errorf("schema has %d kinds, the code %d", len(k.Items.Properties.Kind.Enum), len(kindNames()))
	}
}
