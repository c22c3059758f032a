// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"crypto/cipher"
	"fmt"
	"reflect"
	"runtime"
)

const redacted = "[redacted]"

// Key is one AES-256-GCM key with the IV of its nonces, expanded for one engine.
// It is safe for concurrent use by any number of engines until Wipe. It prints
// as "[redacted]".
type Key struct {
	// What the side-by-side engines work with: memory of mem, outside the Go
	// heap.
	slot    *keySlot
	mem     *KeyMemory
	dropped runtime.Cleanup

	// What the engine "std" works with. Both hold the round keys: the GCM made
	// from a block has a copy of its own.
	iv    [IVSize]byte
	block cipher.Block
	gcm   cipher.AEAD
}

// Wipe overwrites the IV, the round keys and the powers of H. No batch that uses
// the key may be in progress. A wiped key refuses every operation; wiping twice
// does no harm.
func (k *Key) Wipe() {
	if k.slot != nil {
		k.dropped.Stop()
		k.mem.give(k.slot)
		k.slot, k.mem, k.dropped = nil, nil, runtime.Cleanup{}
	}
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
