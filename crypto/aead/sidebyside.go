// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"fmt"
	"runtime"
)

// kernel is the part of a side-by-side engine that is written for one kind of CPU.
type kernel struct {
	name string

	// expand fills a slot.
	expand func(slot *keySlot, key *[KeySize]byte, iv *[IVSize]byte)

	// lanes is how many operations open and seal take at once. They do so groups times: the operations ops[index[0]],
	// ops[index[1]] and so on, which are well-formed, have a key and have at most fastText bytes of ciphertext. All
	// loads of a group come before its first store, so an operation may come twice in a group.
	lanes int
	open  func(ops *Op, index *uint32, groups int) (accepted int)
	seal  func(ops *Op, index *uint32, groups int)

	// tag computes the tag of one record with n bytes of ciphertext. It writes it behind the ciphertext (write), or
	// compares it in constant time with what is there.
	tag func(slot *keySlot, record *byte, n int, write bool) (same bool)
	// crypt XORs the keystream onto n bytes behind the AAD. dst may be the same memory as these, or none of it.
	crypt func(slot *keySlot, record *byte, n int, dst *byte)
}

// SideBySide is an engine that works on several PDUs at once in vector registers. Ciphertexts of up to 48 bytes go
// through its kernel; longer ones one after another, their blocks side by side. See Select for how to get one and
// Engine for concurrency.
type SideBySide struct {
	kernel kernel
	mem    *KeyMemory
	// index holds the operations that wait for the kernel, as positions: pointers to them would not follow a stack
	// that moves.
	index [indexSize]uint32
}

// indexSize is a multiple of any number of lanes.
const indexSize = 128

var _ Engine = (*SideBySide)(nil)

// Name implements Engine.
func (e *SideBySide) Name() string { return e.kernel.name }

// Copies returns false: plaintext goes from registers to Dst once its tag has compared equal.
func (*SideBySide) Copies() bool { return false }

// NewKey implements Engine. The expanded key lies in the engine's KeyMemory; the error wraps ErrKeyMemory if there is
// none left.
func (e *SideBySide) NewKey(key *[KeySize]byte, iv *[IVSize]byte) (*Key, error) {
	k, err := newSlotKey(e.mem)
	if err != nil {
		return nil, fmt.Errorf("prepare key for engine %s: %w", e.kernel.name, err)
	}
	e.kernel.expand(k.slot, key, iv)
	return k, nil
}

// Open implements Engine.
func (e *SideBySide) Open(ops []Op) (accepted int) {
	waiting := 0
	for i := range ops {
		op := &ops[i]
		n := len(op.Record) - Overhead
		if uint(n) > MaxText || op.Key == nil || op.Key.slot == nil || cap(op.Dst) < n {
			op.N, op.OK = 0, false
			continue
		}
		if n > fastText {
			accepted += e.openLong(op, n)
			continue
		}
		e.index[waiting] = uint32(i)
		waiting++
		if waiting == len(e.index) {
			accepted += e.kernel.open(&ops[0], &e.index[0], waiting/e.kernel.lanes)
			waiting = 0
		}
	}
	if full := waiting / e.kernel.lanes; full > 0 {
		accepted += e.kernel.open(&ops[0], &e.index[0], full)
	}
	if rest := waiting % e.kernel.lanes; rest > 0 {
		last := e.fillUp(waiting, rest)
		e.kernel.open(&ops[0], &last[0], 1)
		for _, i := range last[:rest] {
			if ops[i].OK {
				accepted++
			}
		}
	}
	// The kernels hold no reference to a Key, and a key that nobody refers to is wiped.
	runtime.KeepAlive(ops)
	return accepted
}

// fillUp repeats the last of the waiting operations until a group is full.
func (e *SideBySide) fillUp(waiting, rest int) []uint32 {
	last := e.index[waiting-rest:][:e.kernel.lanes]
	for i := rest; i < len(last); i++ {
		last[i] = last[rest-1]
	}
	return last
}

// openLong verifies the whole record before it decrypts the first byte.
func (e *SideBySide) openLong(op *Op, n int) (accepted int) {
	op.N, op.OK = 0, false
	if !e.kernel.tag(op.Key.slot, &op.Record[0], n, false) {
		return 0
	}
	e.kernel.crypt(op.Key.slot, &op.Record[0], n, &op.Dst[:n][0])
	op.N, op.OK = n, true
	return 1
}

// Seal implements Engine.
func (e *SideBySide) Seal(ops []Op) error {
	for i := range ops {
		op := &ops[i]
		if !wellFormed(op.Record) || op.Key == nil || op.Key.slot == nil {
			return fmt.Errorf("seal operation %d of %d: %w", i, len(ops), ErrOp)
		}
	}
	waiting := 0
	for i := range ops {
		op := &ops[i]
		n := len(op.Record) - Overhead
		if n > fastText {
			e.kernel.crypt(op.Key.slot, &op.Record[0], n, &op.Record[AADSize])
			e.kernel.tag(op.Key.slot, &op.Record[0], n, true)
			continue
		}
		e.index[waiting] = uint32(i)
		waiting++
		if waiting == len(e.index) {
			e.kernel.seal(&ops[0], &e.index[0], waiting/e.kernel.lanes)
			waiting = 0
		}
	}
	if full := waiting / e.kernel.lanes; full > 0 {
		e.kernel.seal(&ops[0], &e.index[0], full)
	}
	if rest := waiting % e.kernel.lanes; rest > 0 {
		e.kernel.seal(&ops[0], &e.fillUp(waiting, rest)[0], 1)
	}
	// The kernels hold no reference to a Key, and a key that nobody refers to is wiped.
	runtime.KeepAlive(ops)
	return nil
}
