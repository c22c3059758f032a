// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/spdu"
)

// ErrSelfTest reports an engine that does not give the known answers. It must
// not be used.
var ErrSelfTest = errors.New("engine fails its self test")

// SelfTest runs the known-answer tests on an engine before it is trusted: one
// vector of the NIST CAVP (gcmEncryptExtIV256, the block with 128 bits of
// plaintext and of AAD), then a batch of mixed keys and lengths whose sealed
// records have a known SHA-256, opened again whole and with one bit of each
// record flipped. It takes about a millisecond and uses the engine, so no other
// goroutine may use it meanwhile. The error wraps ErrSelfTest and names what
// differs.
func SelfTest(e Engine) error {
	if err := selfTestVector(e); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSelfTest, e.Name(), err)
	}
	if err := selfTestBatch(e); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSelfTest, e.Name(), err)
	}
	return nil
}

func selfTestVector(e Engine) error {
	var (
		key = [KeySize]byte{
			0x92, 0xe1, 0x1d, 0xcd, 0xaa, 0x86, 0x6f, 0x5c, 0xe7, 0x90, 0xfd, 0x24, 0x50, 0x1f, 0x92, 0x50,
			0x9a, 0xac, 0xf4, 0xcb, 0x8b, 0x13, 0x39, 0xd5, 0x0c, 0x9c, 0x12, 0x40, 0x93, 0x5d, 0xd0, 0x8b,
		}
		nonce = [IVSize]byte{0xac, 0x93, 0xa1, 0xa6, 0x14, 0x52, 0x99, 0xbd, 0xe9, 0x02, 0xf2, 0x1a}
		plain = []byte{0x2d, 0x71, 0xbc, 0xfa, 0x91, 0x4e, 0x4a, 0xc0, 0x45, 0xb2, 0xaa, 0x60, 0x95, 0x5f, 0xad, 0x24}
		aad   = []byte{0x1e, 0x08, 0x89, 0x01, 0x6f, 0x67, 0x60, 0x1c, 0x8e, 0xbe, 0xa4, 0x94, 0x3b, 0xc2, 0x3a, 0xd6}
		want  = []byte{
			0x89, 0x95, 0xae, 0x2e, 0x6d, 0xf3, 0xdb, 0xf9, 0x6f, 0xac, 0x7b, 0x71, 0x37, 0xba, 0xe6, 0x7f,
			0xec, 0xa5, 0xaa, 0x77, 0xd5, 0x1d, 0x4a, 0x0a, 0x14, 0xd9, 0xc5, 0x1e, 0x1d, 0xa4, 0x74, 0xab,
		}
	)
	// The engine XORs stream id and counter of the AAD into the IV; the IV that
	// gives the vector's nonce is the nonce with the same XOR.
	var iv [IVSize]byte
	spdu.RecordNonce(&iv, &nonce, aad)
	k, err := e.NewKey(&key, &iv)
	if err != nil {
		return err
	}
	defer k.Wipe()

	ops := []Op{{Key: k, Record: append(append(append([]byte{}, aad...), plain...), make([]byte, TagSize)...)}}
	if err := e.Seal(ops); err != nil {
		return err
	}
	if !bytes.Equal(ops[0].Record[:AADSize], aad) || !bytes.Equal(ops[0].Record[AADSize:], want) {
		return errors.New("sealed vector differs from NIST CAVP")
	}
	ops[0].Dst = make([]byte, len(plain))
	if e.Open(ops) != 1 || !ops[0].OK || ops[0].N != len(plain) || !bytes.Equal(ops[0].Dst, plain) {
		return errors.New("opened vector differs from NIST CAVP")
	}
	return nil
}

// selfTestSum is the SHA-256 of all sealed records of selfTestBatch, one behind
// the other, computed with OpenSSL's AES-256-GCM.
const selfTestSum = "a1081b0bfcf9d5c2312f540e26e75a1e391316e2ad90975b53b7203bb10b8409"

// selfTestLengths are the ciphertext lengths of the batch: every length around
// one to four blocks, each CAN FD length, and some of the multi-block path.
func selfTestLengths() []int {
	var n []int
	for i := range 68 {
		n = append(n, i)
	}
	return append(n, 127, 128, 129, 255, 256, 257, 1000, MaxText-1, MaxText)
}

const selfTestKeys = 5 // no divisor of a vector width, so that keys mix in every lane

func selfTestBatch(e Engine) error {
	keys := make([]*Key, selfTestKeys)
	for i := range keys {
		var key [KeySize]byte
		var iv [IVSize]byte
		fill(key[:], uint32(2*i+1))
		fill(iv[:], uint32(2*i+2))
		k, err := e.NewKey(&key, &iv)
		if err != nil {
			return err
		}
		defer k.Wipe()
		keys[i] = k
	}
	lengths := selfTestLengths()
	ops := make([]Op, len(lengths))
	plain := make([][]byte, len(lengths))
	for i, n := range lengths {
		record := make([]byte, Overhead+n)
		fill(record[:AADSize+n], uint32(100+i))
		plain[i] = bytes.Clone(record[AADSize : AADSize+n])
		ops[i] = Op{Key: keys[i%len(keys)], Record: record}
	}
	if err := e.Seal(ops); err != nil {
		return err
	}
	h := sha256.New()
	for i := range ops {
		h.Write(ops[i].Record)
	}
	if fmt.Sprintf("%x", h.Sum(nil)) != selfTestSum {
		return errors.New("sealed batch differs from the known answer")
	}

	// One byte more than the plaintext shows a store beyond its end.
	const canary = 0xA5
	reset := func() {
		for i := range ops {
			ops[i].Dst = bytes.Repeat([]byte{canary}, lengths[i]+1)
			ops[i].N, ops[i].OK = -1, i%2 == 0
		}
	}
	reset()
	if e.Open(ops) != len(ops) {
		return errors.New("a right tag is refused")
	}
	for i, n := range lengths {
		if !ops[i].OK || ops[i].N != n || !bytes.Equal(ops[i].Dst[:n], plain[i]) || ops[i].Dst[n] != canary {
			return fmt.Errorf("opened record with %d bytes of ciphertext differs", n)
		}
	}

	// Flip one bit of each: AAD, ciphertext and tag take turns.
	flip := func(i int) {
		r := ops[i].Record
		bit := (i * 61) % (8 * len(r))
		switch i % 3 {
		case 0: // first to last byte of the tag
			bit = 8*(len(r)-TagSize) + (i*5)%(8*TagSize)
		case 1:
			bit = (i * 5) % (8 * AADSize)
		}
		r[bit/8] ^= 1 << (bit % 8)
	}
	for i := range ops {
		flip(i)
	}
	reset()
	if e.Open(ops) != 0 {
		return errors.New("a forged record is accepted")
	}
	for i, n := range lengths {
		if ops[i].OK || ops[i].N != 0 {
			return fmt.Errorf("forged record with %d bytes of ciphertext is not reported", n)
		}
		for _, b := range ops[i].Dst {
			if b != canary {
				return fmt.Errorf("forged record with %d bytes of ciphertext leaves plaintext", n)
			}
		}
	}

	// Every third forged: neighbours in a vector must not disturb each other.
	for i := range ops {
		if i%3 != 0 {
			flip(i)
		}
	}
	reset()
	e.Open(ops)
	for i, n := range lengths {
		good := i%3 != 0
		if ops[i].OK != good || good && !bytes.Equal(ops[i].Dst[:n], plain[i]) {
			return fmt.Errorf("mixed batch: record with %d bytes of ciphertext is judged wrong", n)
		}
	}
	return nil
}

// fill writes a fixed pseudo-random pattern, the same on every machine.
func fill(b []byte, seed uint32) {
	x := uint64(seed)*0x9E3779B97F4A7C15 + 1
	var w [8]byte
	for len(b) > 0 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(w[:], x)
		b = b[copy(b, w[:]):]
	}
}
