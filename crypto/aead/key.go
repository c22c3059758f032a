// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"crypto/cipher"
	"fmt"
	"reflect"
)

const redacted = "[redacted]"

// Key is one AES-256-GCM key with the IV of its nonces, expanded for one engine.
// It is safe for concurrent use by any number of engines until Wipe. It prints
// as "[redacted]".
type Key struct {
	iv [IVSize]byte

	// What the engine "std" works with. Both hold the round keys: the GCM made
	// from a block has a copy of its own.
	block cipher.Block
	gcm   cipher.AEAD
}

// Wipe overwrites the IV, the round keys and the powers of H. No batch that uses
// the key may be in progress. A wiped key refuses every operation; wiping twice
// does no harm.
func (k *Key) Wipe() {
	clear(k.iv[:])
	zero(k.gcm)
	zero(k.block)
	k.gcm, k.block = nil, nil
}

// zero overwrites the value that an interface points at. The library offers no
// way to wipe a cipher, and dropping the last reference leaves its round keys on
// the heap until that memory is used again. Its types are flat structs, so
// setting them to zero reaches all of it.
func zero(v any) {
	p := reflect.ValueOf(v)
	if p.Kind() == reflect.Pointer && !p.IsNil() {
		p.Elem().SetZero()
	}
}

// String returns "[redacted]".
func (*Key) String() string { return redacted }

// GoString returns "[redacted]".
func (*Key) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (*Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }
