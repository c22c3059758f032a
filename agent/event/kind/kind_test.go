// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"regexp"
	"testing"
)

func TestTable(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	names, ids := map[string]Kind{}, map[string]Kind{}
	for _, k := range All() {
		if !name.MatchString(k.String()) || k.Title() == "" || k.Severity() < Informational || k.Severity() > Critical {
			t.Errorf("%d: %q, %q, %v", k, k, k.Title(), k.Severity())
		}
		if other, twice := names[k.String()]; twice {
			t.Errorf("%d and %d are both %s", k, other, k)
		}
		names[k.String()] = k
		if other, twice := ids[k.MessageID()]; twice || len(k.MessageID()) != 32 {
			t.Errorf("%v and %v: MESSAGE_ID %s", k, other, k.MessageID())
		}
		ids[k.MessageID()] = k
		if parsed, ok := Parse(k.String()); !ok || parsed != k {
			t.Errorf("%v is parsed as %v, %v", k, parsed, ok)
		}
		// What accuses somebody is more than information and has a code that a workshop can read; what does not has neither.
		if accuses := k.Cause() != CauseNone; accuses && (k.DTC() == 0 || k.Severity() == Informational) {
			t.Errorf("%v: DTC %v, severity %v", k, k.DTC(), k.Severity())
		}
		if d, ok := ParseDTC(k.DTC().String()); !ok || d != k.DTC() {
			t.Errorf("%v: DTC %v is parsed as %v, %v", k, k.DTC(), d, ok)
		}
	}
	if Kind(255).Valid() || None.Valid() || Kind(255).String() != "none" {
		t.Error("a number that is no kind is one")
	}
	for _, s := range []string{"", "none", "Bad_tag", "bad_tag "} {
		if k, ok := Parse(s); ok {
			t.Errorf("%q is parsed as %v", s, k)
		}
	}
}

// TestStable pins names to numbers: both are in frames and records that outlive a version.
func TestStable(t *testing.T) {
	for k, name := range map[Kind]string{
		1: "own_echo", 12: "bad_tag", 27: "downgrade", 29: "deletion", 37: "node_rollback_proved", 46: "epoch_refused",
		52: "hook_lost", 65: "tpm_unavailable", 67: "fault_raised", 78: "misdirected",
	} {
		if k.String() != name {
			t.Errorf("kind %d is %v, want %s", k, k, name)
		}
	}
	if got := BadTag.MessageID(); got != "9447117e001a86b497d1d976b69b5d6b" {
		t.Error(got)
	}
}

func TestDTC(t *testing.T) {
	for d, want := range map[DTC]string{0: "", 0xDCB183: "U1CB1-83", 0x0A1F00: "P0A1F-00", 0x9AFE64: "B1AFE-64"} {
		if d.String() != want {
			t.Errorf("%06X: %s, want %s", uint32(d), d, want)
		}
	}
	for _, s := range []string{"U1CB1", "U1CB1-8", "U1CB1-833", "X1CB1-83", "U1cb1-83", "UFFFF-00"} {
		if d, ok := ParseDTC(s); ok {
			t.Errorf("%q is parsed as %v", s, d)
		}
	}
	if BadTag.DTC().Code() != 0xDCB1 || BadTag.DTC().FailureType() != 0x83 {
		t.Error(BadTag.DTC())
	}
}

func TestSeverity(t *testing.T) {
	for _, c := range []struct {
		s     Severity
		steps int
		want  Severity
	}{
		{Critical, 0, Critical}, {Critical, 1, High}, {Critical, 3, Low}, {Critical, 9, Low}, {Medium, 2, Low}, {Low, 3, Low},
		{Informational, 3, Informational}, {High, -1, High},
	} {
		if got := c.s.Lowered(c.steps); got != c.want {
			t.Errorf("%v lowered by %d: %v, want %v", c.s, c.steps, got, c.want)
		}
	}
	for s := Informational; s <= Critical; s++ {
		if p, ok := ParseSeverity(s.String()); !ok || p != s {
			t.Errorf("%v is parsed as %v", s, p)
		}
	}
	for c := CauseNone; c < NumCauses; c++ {
		if p, ok := ParseCause(c.String()); !ok || p != c {
			t.Errorf("%v is parsed as %v", c, p)
		}
	}
}
