// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/hex"
	"fmt"
)

// KidSize is the length of a Kid in bytes.
const KidSize = 8

// Kid identifies a public key: the first 8 bytes of SHA-256 over its DER
// SubjectPublicKeyInfo (RFC 5280, 4.1). It only selects among keys that are
// pinned whole; it proves nothing.
type Kid [KidSize]byte

// String returns 16 lower-case hexadecimal digits.
func (k Kid) String() string { return hex.EncodeToString(k[:]) }

// ParseKid reads what Kid.String wrote.
func ParseKid(s string) (Kid, error) {
	var k Kid
	if len(s) != 2*KidSize {
		return Kid{}, fmt.Errorf("parse kid: %d characters, want %d hexadecimal digits", len(s), 2*KidSize)
	}
	if _, err := hex.Decode(k[:], []byte(s)); err != nil {
		return Kid{}, fmt.Errorf("parse kid: %w", err)
	}
	return k, nil
}
