// SPDX-License-Identifier: Apache-2.0

package kind

// Severity says how bad an event is. The numbers are those of severity_id in OCSF.
type Severity uint8

// The severities, ascending.
const (
	Informational Severity = iota + 1
	Low
	Medium
	High
	Critical
)

var severityNames = [...]string{"unknown", "informational", "low", "medium", "high", "critical"}

// String returns informational, low, medium, high or critical.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return severityNames[0]
}

// ParseSeverity reads the name of a severity.
func ParseSeverity(text string) (Severity, bool) {
	for s := Informational; s <= Critical; s++ {
		if s.String() == text {
			return s, true
		}
	}
	return 0, false
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Lowered returns the severity lowered by steps. An event that is more than informational stays so: where a source matters
// less its attacker is still there.
func (s Severity) Lowered(steps int) Severity {
	if s <= Low || steps <= 0 {
		return s
	}
	return max(Low, Severity(max(int(s)-steps, 0)))
}
