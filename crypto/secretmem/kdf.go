// SPDX-License-Identifier: Apache-2.0

package secretmem

import (
	"crypto/hmac"
	"crypto/sha512"
	"errors"
	"fmt"
)

// ErrLength reports that more was asked of Expand than HKDF gives: 255 digests.
var ErrLength = errors.New("too long for HKDF-Expand")

// HMAC writes HMAC-SHA-384 (RFC 2104) under a key over the messages, one behind the other, to out, and leaves nothing of the
// key or of the states of the hash.
func HMAC(out *[sha512.Size384]byte, key []byte, messages ...[]byte) {
	Do(func() {
		h := hmac.New(sha512.New384, key)
		for _, m := range messages {
			h.Write(m) // hash.Hash: never returns an error
		}
		// Sum needs no other memory than this: the digest of the inner hash lies there first.
		h.Sum(out[:0])
		Wipe(h)
	})
}

// Expand fills out by HKDF-Expand (RFC 5869, section 2.3) with SHA-384, and leaves nothing of prk and out elsewhere: the
// library's own function leaves its last block on the heap. More than 255 digests are refused with ErrLength, and out is
// untouched.
func Expand(out, prk, info []byte) error {
	if len(out) > 255*sha512.Size384 {
		return fmt.Errorf("%w: %d bytes", ErrLength, len(out))
	}
	Do(func() {
		t := new([sha512.Size384]byte)
		defer clear(t[:])
		var last []byte // T(0) is empty
		for i := 1; len(out) > 0; i++ {
			HMAC(t, prk, last, info, []byte{byte(i)})
			out = out[copy(out, t[:]):]
			last = t[:]
		}
	})
	return nil
}
