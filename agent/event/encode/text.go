// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
)

// Text appends a record as one line for people.
func Text(dst []byte, r *event.Record) []byte {
	dst = r.Last.Time().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = fmt.Appendf(dst, " %-13s %-22s ", r.Severity, r.Kind)
	return append(dst, message(r)...)
}

// message says in one line what happened and where. It holds no control characters.
func message(r *event.Record) string {
	var b strings.Builder
	b.WriteString(r.Kind.Title())
	word := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", name, value)
		}
	}
	number := func(name string, value uint64) {
		if value != 0 {
			word(name, strconv.FormatUint(value, 10))
		}
	}
	b.WriteByte(':')
	number("count", r.Count)
	word("interface", r.Interface)
	word("id", canID(r))
	number("stream", uint64(r.Stream))
	word("source", r.Source)
	word("node", r.Node)
	number("epoch", uint64(r.Epoch))
	number("counter", r.Counter)
	if r.LastCounter != r.Counter {
		number("last_counter", r.LastCounter)
	}
	word("dtc", r.Kind.DTC().String())
	if f := r.Fault; f != nil {
		fmt.Fprintf(&b, " %s: %s -> %s, cause=%s, do not trust: %s", event.FaultName, f.From, f.To, f.Cause, strings.Join(f.Sources, ", "))
		if f.Advice != "" {
			b.WriteString("; " + f.Advice)
		}
		if f.Reason != "" {
			b.WriteString("; cleared because: " + f.Reason)
		}
		for i, e := range f.Evidence {
			sep := ", "
			if i == 0 {
				sep = "; evidence: "
			}
			fmt.Fprintf(&b, "%s%s x %d", sep, e.Kind, e.Count)
		}
	}
	word("detail", r.Detail)
	word("frame", frame(r.Frame))
	return clean(b.String())
}

// clean replaces what could change the look or the structure of a line: control characters, format characters (which write
// backwards or hide), Unicode's line separators and what is not UTF-8.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp) || c == utf8.RuneError {
			return '?'
		}
		return c
	}, s)
}

// pair is a field with its name, in the encodings that are lists of such.
type pair struct{ name, value string }

// pairs lists what a record says. Fields that say nothing are left out.
func pairs(r *event.Record) []pair {
	var all []pair
	word := func(name, value string) {
		if value != "" {
			all = append(all, pair{name, clean(value)})
		}
	}
	number := func(name string, value uint64) {
		if value != 0 {
			all = append(all, pair{name, strconv.FormatUint(value, 10)})
		}
	}
	word("kind", r.Kind.String())
	word("severity", r.Severity.String())
	word("cause", r.Kind.Cause().String())
	word("autosar", r.Kind.Alias())
	word("dtc", r.Kind.DTC().String())
	word("scope", r.Subject.Scope.String())
	word("sensitivity", r.Sensitivity.String())
	word("interface", r.Interface)
	word("carrier", r.Carrier)
	word("id", canID(r))
	number("stream", uint64(r.Stream))
	word("source", r.Source)
	word("node", r.Node)
	number("epoch", uint64(r.Epoch))
	number("counter", r.Counter)
	number("last_counter", r.LastCounter)
	number("window_highest", r.Window.Highest)
	word("verdict", r.Verdict)
	number("count", r.Count)
	word("first_wall", wall(r.First))
	word("last_wall", wall(r.Last))
	word("first_boot_ns", strconv.FormatInt(r.First.Boot, 10))
	word("last_boot_ns", strconv.FormatInt(r.Last.Boot, 10))
	word("boot_id", fmt.Sprintf("%x", r.BootID))
	word("policy_hash", fmt.Sprintf("%x", r.PolicyHash))
	word("frame", frame(r.Frame))
	word("detail", r.Detail)
	if f := r.Fault; f != nil {
		word("fault_from", f.From)
		word("fault_to", f.To)
		word("fault_cause", f.Cause.String())
		word("fault_sources", strings.Join(f.Sources, ","))
		word("fault_advice", f.Advice)
		word("fault_reason", f.Reason)
		var evidence []string
		for _, e := range f.Evidence {
			evidence = append(evidence, fmt.Sprintf("%s=%d", e.Kind, e.Count))
		}
		word("fault_evidence", strings.Join(evidence, ","))
	}
	return all
}

// syslogSeverity returns the severity of RFC 5424, 6.2.1, which is also the journal's PRIORITY.
func syslogSeverity(s kind.Severity) int {
	switch s {
	case kind.Critical:
		return 2
	case kind.High:
		return 3
	case kind.Medium:
		return 4
	case kind.Low:
		return 5
	}
	return 6
}
