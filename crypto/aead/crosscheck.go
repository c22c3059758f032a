// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
)

// ErrCrossCheck reports an engine that does not agree with the engine "std". It must not be used.
var ErrCrossCheck = errors.New("engine disagrees with std")

const (
	crossKeys    = 7   // shared by neighbours in every lane
	crossBatches = 16  // of each
	crossBatch   = 61  // PDUs: full groups and a remainder
	crossFlips   = 3   // one PDU in so many is forged
	crossLong    = 300 // ciphertexts of the long batches go up to this and, once, to MaxText
)

// CrossCheck seals and opens about a thousand random PDUs with e and with the engine "std" and compares every byte and
// every verdict; a third of them is forged by one bit. Known answers are the same at every start, these are not: a
// fault that a certain operand brings out is found by some machine in time. It takes a few milliseconds and uses the
// engine, so no other goroutine may use it meanwhile. The error wraps ErrCrossCheck and names the seed by which
// crossCheck repeats it.
func CrossCheck(e Engine) error {
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return fmt.Errorf("choose random pdus: %w", err)
	}
	if err := crossCheck(e, seed); err != nil {
		return fmt.Errorf("%w: %s, seed %x: %w", ErrCrossCheck, e.Name(), seed, err)
	}
	return nil
}

func crossCheck(e Engine, seed [32]byte) error {
	random := rand.NewChaCha8(seed)
	choose := rand.New(random)
	std := NewStd()
	var own, ref [crossKeys]*Key
	for i := range own {
		var key [KeySize]byte
		var iv [IVSize]byte
		_, _ = random.Read(key[:])
		_, _ = random.Read(iv[:])
		var err error
		if own[i], err = e.NewKey(&key, &iv); err != nil {
			return err
		}
		defer own[i].Wipe()
		if ref[i], err = std.NewKey(&key, &iv); err != nil {
			return err
		}
		defer ref[i].Wipe()
	}
	ops, want := make([]Op, crossBatch), make([]Op, crossBatch)
	for batch := range crossBatches {
		limit := fastText + 1
		if batch%4 == 3 {
			limit = crossLong
		}
		for i := range ops {
			n := choose.IntN(limit)
			if batch == 3 && i == 0 {
				n = MaxText
			}
			k := choose.IntN(crossKeys)
			ops[i] = Op{Key: own[k], Record: make([]byte, Overhead+n), Dst: make([]byte, n)}
			_, _ = random.Read(ops[i].Record)
			want[i] = Op{Key: ref[k], Record: bytes.Clone(ops[i].Record), Dst: make([]byte, n)}
		}
		if err := e.Seal(ops); err != nil {
			return err
		}
		if err := std.Seal(want); err != nil {
			return err
		}
		for i := range ops {
			if !bytes.Equal(ops[i].Record, want[i].Record) {
				return fmt.Errorf("sealed pdu with %d bytes of ciphertext differs", len(ops[i].Dst))
			}
			if choose.IntN(crossFlips) == 0 {
				r := ops[i].Record
				bit := choose.IntN(8 * len(r))
				r[bit/8] ^= 1 << (bit % 8)
				want[i].Record[bit/8] ^= 1 << (bit % 8)
			}
		}
		if e.Open(ops) != std.Open(want) {
			return errors.New("number of accepted pdus differs")
		}
		for i := range ops {
			if ops[i].OK != want[i].OK || ops[i].N != want[i].N || !bytes.Equal(ops[i].Dst, want[i].Dst) {
				return fmt.Errorf("opened pdu with %d bytes of ciphertext differs", len(ops[i].Dst))
			}
		}
	}
	return nil
}
