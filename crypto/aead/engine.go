// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"errors"

	"github.com/cellward/cellward/crypto/spdu"
)

// Sizes in bytes.
const (
	KeySize  = 32             // AES-256
	IVSize   = spdu.NonceSize // secret part of the nonce
	TagSize  = spdu.TagSize
	AADSize  = spdu.AADSize
	Overhead = spdu.Overhead // AAD and tag of a record
	MaxText  = spdu.MaxText  // longest ciphertext: an SPDU of 2,048 bytes
)

// ErrOp reports an operation that is not well-formed: no usable key, or a record
// shorter than Overhead or longer than Overhead+MaxText.
var ErrOp = errors.New("operation is not well-formed")

// Op is one PDU of a batch.
type Op struct {
	// Key opens or seals this PDU. It must come from NewKey of an engine with
	// the same name. Many operations may share it.
	Key *Key

	// Record is AAD || ciphertext || tag, Overhead to Overhead+MaxText bytes.
	// Open only reads it, so it may lie in memory that is mapped read-only, as
	// a BPF ring buffer is. Seal replaces the plaintext between AAD and tag by
	// the ciphertext and sets the tag.
	Record []byte

	// Dst receives the plaintext, Dst[:N]. Its capacity must be at least the
	// length of the ciphertext. It may be memory that other processes read: an
	// engine stores to it only after the tag has compared equal, and never
	// beyond N. For a PDU that is refused not one byte of it changes. It must
	// not overlap any Record or any other Dst of the batch. Seal does not use
	// it.
	Dst []byte

	// N is the length of the plaintext, 0 for a PDU that was refused. Set by
	// Open.
	N int
	// OK is true if and only if the tag was right. Set by Open for each
	// operation, whatever it held before.
	OK bool
}

// Engine opens and seals batches. An Engine has scratch memory: one goroutine
// uses it at a time, and whoever wants to work in parallel makes one for each.
// Keys are only read, so engines of the same name may share them.
//
// No method allocates, apart from NewKey. None keeps a reference to an Op or
// its memory after it returned.
type Engine interface {
	// Name is the stable name of the engine: "std", "vaes512", ...
	Name() string

	// NewKey expands key and iv into the form this engine works with. It keeps
	// no reference to either, so the caller can wipe them.
	NewKey(key *[KeySize]byte, iv *[IVSize]byte) (*Key, error)

	// Open verifies and decrypts each operation by itself and returns how many
	// were accepted. An operation that is not well-formed is refused like a
	// bad tag; one refused operation has no effect on the others. Tags are
	// compared in constant time.
	Open(ops []Op) (accepted int)

	// Seal encrypts each record in place. It looks at the whole batch first: if
	// one operation is not well-formed the error says which (it wraps ErrOp)
	// and nothing was sealed. It is for the caller to see that no stream and
	// counter comes twice under one key.
	Seal(ops []Op) error

	// Copies reports whether plaintext passes through private memory of the
	// engine and is copied to Dst once verified (true), or is stored to Dst
	// directly from registers once verified (false). Either way Dst may be
	// shared memory; the difference is speed.
	Copies() bool
}

// wellFormed is what any engine demands of a record before it looks at the key.
func wellFormed(record []byte) bool {
	return len(record) >= Overhead && len(record) <= Overhead+MaxText
}
