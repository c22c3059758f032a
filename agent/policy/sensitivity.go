// SPDX-License-Identifier: Apache-2.0

package policy

import "fmt"

// Sensitivity says how much harm manipulated data of a source does. The zero value is none, which no document can say.
type Sensitivity uint8

// The sensitivities, ascending.
const (
	Low Sensitivity = iota + 1
	Medium
	High
	Critical
)

func sensitivityNames() []string { return []string{"LOW", "MEDIUM", "HIGH", "CRITICAL"} }

// String returns the name as it stands in documents, "" for none.
func (s Sensitivity) String() string {
	if s == 0 {
		return ""
	}
	if names := sensitivityNames(); int(s) <= len(names) {
		return names[s-1]
	}
	return fmt.Sprintf("sensitivity(%d)", uint8(s))
}

// MarshalText implements [encoding.TextMarshaler].
func (s Sensitivity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// sensitivity reads a sensitivity.
func (v value) sensitivity() (Sensitivity, bool) {
	name, ok := v.oneOf(sensitivityNames()...)
	if !ok {
		return 0, false
	}
	return ParseSensitivity(name)
}

// ParseSensitivity reads the name of a sensitivity.
func ParseSensitivity(name string) (Sensitivity, bool) {
	for s := Low; s <= Critical; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}
