// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Sizes in bytes.
const (
	PRKSize   = 48 // secret of an epoch: one SHA-384 output
	KeySize   = 32 // AES-256
	IVSize    = 12 // secret part of the nonce
	StartSize = 16 // random value of a node's start
	MACSize   = 16 // truncated HMAC-SHA-384
)

const redacted = "[redacted]"

// ErrSecret reports an attempt to marshal a secret as text. Whoever must store
// one slices the array and seals the bytes.
var ErrSecret = errors.New("secret is not marshalled")

// PRK is the secret of one epoch of one node.
type PRK [PRKSize]byte

// StartKey authenticates the start records of one epoch.
type StartKey [PRKSize]byte

// ControlKey authenticates the control datagrams of one epoch.
type ControlKey [PRKSize]byte

// TrafficKey is AES-256 key and IV of one (epoch, source, start).
type TrafficKey struct {
	Key [KeySize]byte
	IV  [IVSize]byte
}

// Wipe overwrites the secret with zeros.
func (k *PRK) Wipe() { clear(k[:]) }

// Wipe overwrites the secret with zeros.
func (k *StartKey) Wipe() { clear(k[:]) }

// Wipe overwrites the secret with zeros.
func (k *ControlKey) Wipe() { clear(k[:]) }

// Wipe overwrites the secret with zeros.
func (k *TrafficKey) Wipe() { clear(k.Key[:]); clear(k.IV[:]) }

// String returns "[redacted]".
func (PRK) String() string { return redacted }

// String returns "[redacted]".
func (StartKey) String() string { return redacted }

// String returns "[redacted]".
func (ControlKey) String() string { return redacted }

// String returns "[redacted]".
func (TrafficKey) String() string { return redacted }

// GoString returns "[redacted]".
func (PRK) GoString() string { return redacted }

// GoString returns "[redacted]".
func (StartKey) GoString() string { return redacted }

// GoString returns "[redacted]".
func (ControlKey) GoString() string { return redacted }

// GoString returns "[redacted]".
func (TrafficKey) GoString() string { return redacted }

// Format writes "[redacted]" for every verb: String alone would leave %x and %d
// open.
func (PRK) Format(s fmt.State, _ rune) { redact(s) }

// Format writes "[redacted]" for every verb.
func (StartKey) Format(s fmt.State, _ rune) { redact(s) }

// Format writes "[redacted]" for every verb.
func (ControlKey) Format(s fmt.State, _ rune) { redact(s) }

// Format writes "[redacted]" for every verb.
func (TrafficKey) Format(s fmt.State, _ rune) { redact(s) }

// LogValue returns "[redacted]".
func (PRK) LogValue() slog.Value { return slog.StringValue(redacted) }

// LogValue returns "[redacted]".
func (StartKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// LogValue returns "[redacted]".
func (ControlKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// LogValue returns "[redacted]".
func (TrafficKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText refuses with ErrSecret. It fails loudly where a redacted text
// would make a state file that lost its key.
func (PRK) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalText refuses with ErrSecret.
func (StartKey) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalText refuses with ErrSecret.
func (ControlKey) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalText refuses with ErrSecret.
func (TrafficKey) MarshalText() ([]byte, error) { return nil, ErrSecret }

// redact writes the text that stands for a secret. fmt gives a Formatter no way to report an
// error, so that of the writer is dropped.
func redact(w io.Writer) { _, _ = io.WriteString(w, redacted) }
