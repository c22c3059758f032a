// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package aead

import (
	"bytes"
	"encoding/binary"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"

	"github.com/cellward/cellward/crypto/aead/internal/registers"
)

// words is a set of secrets, cut into words at every byte.
type words map[uint64]string

func (w words) add(name string, secret []byte) {
	turned := bytes.Clone(secret)
	slices.Reverse(turned)
	for _, b := range [][]byte{secret, turned} {
		for i := 0; i+8 <= len(b); i++ {
			// A word that reaches into padding could be anything.
			if bytes.Count(b[i:i+8], []byte{0}) < 3 {
				w[binary.LittleEndian.Uint64(b[i:])] = name
			}
		}
	}
}

// in returns the name of a secret of which memory holds a word.
func (w words) in(memory []byte) string {
	for i := 0; i+8 <= len(memory); i++ {
		if name, ok := w[binary.LittleEndian.Uint64(memory[i:])]; ok {
			return name
		}
	}
	return ""
}

func (w words) addSlot(s *keySlot) {
	w.add("expanded key", unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s)))
}

// addRecord adds the plaintext and the keystream of a record.
func (w words) addRecord(record, plain []byte) {
	stream := make([]byte, len(plain))
	for i := range stream {
		stream[i] = plain[i] ^ record[AADSize+i]
	}
	w.add("plaintext", plain)
	w.add("keystream", stream)
}

// TestStackIsClean: no function of a kernel leaves a part of a key, a keystream or a plaintext on the stack, whether PDUs
// are accepted or refused.
func TestStackIsClean(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it may move the stack
	for _, k := range append(kernels(), otherKernels()...) {
		t.Run("engine="+k.name, func(t *testing.T) {
			e := &SideBySide{kernel: k, mem: new(KeyMemory)}
			key := newKey(t, e, 1)
			secrets := make(words)
			secrets.addSlot(key.slot)
			short, sealing := make([]Op, 16), make([]Op, 16)
			for i := range short {
				record, plain := sealed(t, e, key, 3*i+3, uint64(i+1))
				secrets.addRecord(record, plain)
				if i%3 == 0 {
					record[len(record)-1] ^= 1
				}
				short[i] = Op{Key: key, Record: record, Dst: make([]byte, 3*i+3)}
				sealing[i] = Op{Key: key, Record: bytes.Clone(record)}
				copy(sealing[i].Record[AADSize:], plain)
			}
			long, plain := sealed(t, e, key, 700, 99)
			secrets.addRecord(long, plain)
			forged := bytes.Clone(long)
			forged[700] ^= 1
			dst := make([]byte, 700)
			longs := []Op{{Key: key, Record: long, Dst: dst}, {Key: key, Record: forged, Dst: dst}}
			fresh, err := newSlotKey(e.mem)
			if err != nil {
				t.Fatal(err)
			}
			rawKey, rawIV := secret(3)
			secrets.add("key", rawKey[:])
			k.expand(fresh.slot, &rawKey, &rawIV)
			secrets.addSlot(fresh.slot)
			var stack [registers.StackSize]byte
			for name, f := range map[string]func(){
				"expand":  func() { k.expand(fresh.slot, &rawKey, &rawIV) },
				"open":    func() { k.open(&short[0], len(short)/k.lanes, &e.aside) },
				"seal":    func() { k.seal(&sealing[0], len(sealing)/k.lanes) },
				"compare": func() { k.tag(key.slot, &long[0], 700, false) },
				"tag":     func() { k.tag(key.slot, &long[0], 700, true) },
				"crypt":   func() { k.crypt(key.slot, &long[0], 700, &dst[0]) },
				"long":    func() { e.Open(longs) },
			} {
				registers.PaintStack()
				f()
				registers.DumpStack(&stack)
				painted := 0
				for i := 0; i < len(stack); i += 8 {
					if binary.LittleEndian.Uint64(stack[i:]) == registers.Paint {
						painted++
					}
				}
				if painted == 0 || painted == len(stack)/8 {
					t.Fatalf("%s: %d words of %d still hold the paint: this is not the stack that it ran on", name, painted, len(stack)/8)
				}
				if found := secrets.in(stack[:]); found != "" {
					t.Errorf("%s: a part of a %s is left on the stack", name, found)
				}
			}
			// What would have been found: the search itself must not be blind.
			copy(stack[1001:], plain[100:109])
			if secrets.in(stack[:]) == "" {
				t.Error("a planted plaintext was not found")
			}
		})
	}
}

// TestAsideHoldsNothing: of a PDU that is refused nothing is left in the place aside, where zeros are stored, or which is
// cleared, and nothing is stored there for one that is accepted, except zeros.
func TestAsideHoldsNothing(t *testing.T) {
	all := kernels()
	asideFrom := len(all) // those from here on know no masks
	for i, k := range append(all, append(otherKernels(), twin)...) {
		word := 0
		if i < asideFrom {
			word = maskedWords(k.name)
		}
		t.Run("engine="+k.name, func(t *testing.T) {
			e := &SideBySide{kernel: k, mem: new(KeyMemory)}
			key := newKey(t, e, 1)
			for _, n := range []int{1, 3, 4, 7, 8, 12, 15, 16, 24, 31, 40, 48, 49, 256, 700, MaxText} {
				for _, right := range []bool{true, false} {
					ops := make([]Op, maxLanes)
					for i := range ops {
						record, _ := sealed(t, e, key, n, uint64(i+1))
						ops[i] = Op{Key: key, Record: record, Dst: make([]byte, n)}
						if !right {
							record[n/2] ^= 4
						}
					}
					for i := range e.aside {
						e.aside[i] = 0xA5
					}
					if got := e.Open(ops); (got == len(ops)) != right {
						t.Fatalf("%d bytes: %d accepted", n, got)
					}
					zeros := 0
					for i, b := range e.aside {
						if b == 0 {
							zeros++
						} else if b != 0xA5 {
							t.Fatalf("%d bytes, right %v: %#x is left at %d", n, right, b, i)
						}
					}
					// Masked stores and accepted PDUs of the kernels leave the paint as it is.
					masked := word > 0 && n%word == 0
					touched := !right && !masked
					if n > fastText {
						touched = k.cryptMasked == nil
					}
					if (zeros > 0) != touched {
						t.Errorf("%d bytes, right %v: %d bytes were stored aside", n, right, zeros)
					}
				}
			}
		})
	}
}
