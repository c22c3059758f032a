// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package aead

import (
	"encoding/binary"
	"math/bits"
	"testing"
)

// TestRegistersAreCleared: after each function of a kernel no register holds a part of a key, a keystream or a
// plaintext.
func TestRegistersAreCleared(t *testing.T) {
	for _, k := range append(kernels(), otherKernels()...) {
		t.Run("engine="+k.name, func(t *testing.T) {
			e := &SideBySide{kernel: k, mem: new(KeyMemory)}
			key := newKey(t, e, 1)
			short := make([]Op, 16)
			for i := range short {
				record, _ := sealed(t, e, key, 3*i, uint64(i+1))
				short[i] = Op{Key: key, Record: record, Dst: make([]byte, 3*i)}
			}
			long, _ := sealed(t, e, key, 700, 9)
			dst := make([]byte, 700)
			fresh, err := newSlotKey(e.mem)
			if err != nil {
				t.Fatal(err)
			}
			rawKey, rawIV := secret(3)
			for name, f := range map[string]func(){
				"expand":  func() { k.expand(fresh.slot, &rawKey, &rawIV) },
				"open":    func() { k.open(&short[0], len(short)/k.lanes, &e.aside) },
				"seal":    func() { k.seal(&short[0], len(short)/k.lanes) },
				"compare": func() { k.tag(key.slot, &long[0], 700, false) },
				"tag":     func() { k.tag(key.slot, &long[0], 700, true) },
				"crypt":   func() { k.crypt(key.slot, &long[0], 700, &dst[0]) },
			} {
				for i, register := range registersAfter(t, k.name, f) {
					for j := 0; j < len(register); j += 8 {
						if !public(binary.LittleEndian.Uint64(register[j:])) {
							t.Errorf("%s: register %d holds %x", name, i, register)
							break
						}
					}
				}
			}
		})
	}
}

// public says that a word is no secret: zero, or one of the kernels' constants. The chance that a secret word has at
// most two bits set is 1 in 2^53.
func public(word uint64) bool {
	switch word {
	case 0x08090a0b0c0d0e0f, 0x0001020304050607, 0x0b0a808003020100, 0x808080800f0e0d0c, 0xc2 << 56:
		return true
	}
	return bits.OnesCount64(word) <= 2
}
