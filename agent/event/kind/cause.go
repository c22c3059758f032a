// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
)

// ErrName says that a text names no kind, or no cause.
var ErrName = errors.New("no such name")

// Cause says what an event proves, and so which fault it speaks for.
type Cause uint8

// The causes. They are kept apart because they call for different work: the first for finding a sender on the bus, the second
// for distrusting a node or the wire to it, the third for looking at the gateway.
const (
	// CauseNone: a change of state that accuses nobody.
	CauseNone Cause = iota
	// CauseForgeable: anyone who can send on the bus, or has a recording of it, can bring this about without a key.
	CauseForgeable
	// CauseAuthenticated: proved by traffic whose tag has verified, or by its absence. No frame that does not verify can
	// bring it about.
	CauseAuthenticated
	// CauseLocal: the gateway itself, its storage, its TPM or its controllers.
	CauseLocal
)

// NumCauses is the number of causes, CauseNone included.
const NumCauses = 4

var causeNames = [NumCauses]string{"none", "forgeable", "authenticated", "local"}

// String returns none, forgeable, authenticated or local.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "unknown"
}

// ParseCause reads the name of a cause.
func ParseCause(s string) (Cause, bool) {
	for i := range causeNames {
		if causeNames[i] == s {
			return Cause(i), true
		}
	}
	return 0, false
}

// MarshalText implements [encoding.TextMarshaler].
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Cause) UnmarshalText(text []byte) error {
	v, ok := ParseCause(string(text))
	if !ok {
		return fmt.Errorf("%w: cause %q", ErrName, text)
	}
	*c = v
	return nil
}
