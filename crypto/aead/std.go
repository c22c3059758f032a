// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"github.com/cellward/cellward/crypto/spdu"
)

// Std is the engine "std": crypto/aes and crypto/cipher, one PDU after another.
// It runs everywhere and is what every other engine is compared with. The zero
// value is ready for use; see Engine for concurrency.
type Std struct {
	nonce   [IVSize]byte
	scratch [MaxText]byte
}

var _ Engine = (*Std)(nil)

// NewStd returns an engine "std" with scratch memory of its own.
func NewStd() *Std { return new(Std) }

// Name returns "std".
func (*Std) Name() string { return "std" }

// Copies returns true: the library's GCM writes plaintext before it has compared
// the tag, so it is given private memory.
func (*Std) Copies() bool { return true }

// NewKey implements Engine. It fails where the library does not offer GCM with
// nonces of the caller (GODEBUG=fips140=only).
func (*Std) NewKey(key *[KeySize]byte, iv *[IVSize]byte) (*Key, error) {
	block, gcm, err := newGCM(key[:])
	if err != nil {
		return nil, fmt.Errorf("prepare key for engine std: %w", err)
	}
	return &Key{iv: *iv, block: block, gcm: gcm}, nil
}

// newGCM makes the primitive of the engine.
func newGCM(key []byte) (cipher.Block, cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err
	}
	return block, gcm, nil
}

// Open implements Engine.
func (e *Std) Open(ops []Op) (accepted int) {
	longest := 0
	for i := range ops {
		op := &ops[i]
		op.N, op.OK = 0, false
		if !wellFormed(op.Record) || op.Key == nil || op.Key.gcm == nil {
			continue
		}
		n := len(op.Record) - Overhead
		if cap(op.Dst) < n {
			continue
		}
		longest = max(longest, n)
		aad := op.Record[:AADSize]
		spdu.RecordNonce(&e.nonce, &op.Key.iv, aad)
		text, err := op.Key.gcm.Open(e.scratch[:0], e.nonce[:], op.Record[AADSize:], aad)
		if err != nil {
			continue
		}
		copy(op.Dst[:n], text)
		op.N, op.OK = n, true
		accepted++
	}
	// Samples are confidential, and the scratch outlives the batch.
	clear(e.scratch[:longest])
	return accepted
}

// Seal implements Engine.
func (e *Std) Seal(ops []Op) error {
	for i := range ops {
		op := &ops[i]
		if !wellFormed(op.Record) || op.Key == nil || op.Key.gcm == nil {
			return fmt.Errorf("seal operation %d of %d: %w", i, len(ops), ErrOp)
		}
	}
	for i := range ops {
		op := &ops[i]
		aad := op.Record[:AADSize]
		spdu.RecordNonce(&e.nonce, &op.Key.iv, aad)
		n := len(op.Record)
		// The capacity is cut, so that the library cannot write behind the
		// record whatever it appends.
		op.Key.gcm.Seal(op.Record[AADSize:AADSize:n], e.nonce[:], op.Record[AADSize:n-TagSize], aad)
	}
	return nil
}
