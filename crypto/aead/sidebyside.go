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

	// lanes is how many operations are a group. open and seal take up to so many groups of operations, which lie one
	// behind the other. They stop at the first group with an operation that is not for them: without a key, with a
	// record that is too short, with more than fastText bytes of ciphertext, or (open) with too small a Dst. done is how
	// many operations they have dealt with. All loads of a group come before its first store, so that an operation may
	// come more than once in a group. What open does is the same whatever the verdict; see aside.
	lanes int
	open  func(ops *Op, groups int, aside *aside) (done, accepted int)
	seal  func(ops *Op, groups int) (done int)

	// tag computes the tag of one record with n bytes of ciphertext. It writes it behind the ciphertext (write), or
	// compares it in constant time with what is there.
	tag func(slot *keySlot, record *byte, n int, write bool) (same bool)
	// crypt XORs the keystream onto n bytes behind the AAD. dst may be the same memory as these, or none of it.
	crypt func(slot *keySlot, record *byte, n int, dst *byte)
	// cryptMasked is crypt for a CPU that stores under masks: it stores if keep is -1, and does all else but that if keep is 0.
	// nil: there is none.
	cryptMasked func(slot *keySlot, record *byte, n int, dst *byte, keep uint64)
}

// SideBySide is an engine that works on several PDUs at once in vector registers. Ciphertexts of up to 48 bytes go
// through its kernel; longer ones one after another, their blocks side by side. See Select for how to get one and
// Engine for concurrency.
type SideBySide struct {
	kernel kernel
	mem    *KeyMemory
	// group collects the operations that do not make a full group where they lie.
	group [maxLanes]Op
	aside aside
}

// maxLanes is the largest group of any kernel.
const maxLanes = 8

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
	for len(ops) > 0 {
		if groups := len(ops) / e.kernel.lanes; groups > 0 {
			done, good := e.kernel.open(&ops[0], groups, &e.aside)
			ops, accepted = ops[done:], accepted+good
		}
		done, good := e.openGroup(ops)
		ops, accepted = ops[done:], accepted+good
	}
	return accepted
}

// openGroup deals with operations until a group for the kernel is collected and opened, or all is done.
func (e *SideBySide) openGroup(ops []Op) (done, accepted int) {
	var from [maxLanes]*Op
	n := 0
	for done < len(ops) && n < e.kernel.lanes {
		op := &ops[done]
		done++
		text := len(op.Record) - Overhead
		switch {
		case !wellFormed(op.Record) || op.Key == nil || op.Key.slot == nil || cap(op.Dst) < text:
			op.N, op.OK = 0, false
		case text > fastText:
			accepted += e.openLong(op, text)
		default:
			e.group[n], from[n] = *op, op
			n++
		}
	}
	if n == 0 {
		return done, accepted
	}
	e.fillUp(n)
	e.kernel.open(&e.group[0], 1, &e.aside)
	for i, op := range from[:n] {
		if op.N, op.OK = e.group[i].N, e.group[i].OK; op.OK {
			accepted++
		}
	}
	clear(e.group[:e.kernel.lanes])
	return done, accepted
}

// fillUp repeats the last of n operations until the group is full.
func (e *SideBySide) fillUp(n int) {
	for i := n; i < e.kernel.lanes; i++ {
		e.group[i] = e.group[n-1]
	}
}

// openLong verifies the whole record before it decrypts the first byte. One that is refused is decrypted too, and not stored, or
// where there are no masks stored to a place aside that is cleared at once: which of the two places is taken from a table by the
// verdict, without a branch.
func (e *SideBySide) openLong(op *Op, n int) (accepted int) {
	op.OK = e.kernel.tag(op.Key.slot, &op.Record[0], n, false)
	if op.OK {
		accepted = 1 // the compiler makes this a move, not a jump
	}
	dst := &op.Dst[:n][0]
	if e.kernel.cryptMasked != nil {
		e.kernel.cryptMasked(op.Key.slot, &op.Record[0], n, dst, -uint64(accepted))
	} else {
		aside := e.aside.place(dst, n)
		places := [2]*byte{&aside[0], dst}
		e.kernel.crypt(op.Key.slot, &op.Record[0], n, places[accepted&1])
		clear(aside)
	}
	// The kernels hold no reference to a Key, and a key that nobody refers to is wiped.
	runtime.KeepAlive(op.Key)
	op.N = n * accepted
	return accepted
}

// Seal implements Engine.
func (e *SideBySide) Seal(ops []Op) error {
	for i := range ops {
		op := &ops[i]
		if !wellFormed(op.Record) || op.Key == nil || op.Key.slot == nil {
			return fmt.Errorf("seal operation %d of %d: %w", i, len(ops), ErrOp)
		}
	}
	for len(ops) > 0 {
		if groups := len(ops) / e.kernel.lanes; groups > 0 {
			ops = ops[e.kernel.seal(&ops[0], groups):]
		}
		ops = ops[e.sealGroup(ops):]
	}
	return nil
}

// sealGroup deals with operations until a group for the kernel is collected and sealed, or all is done.
func (e *SideBySide) sealGroup(ops []Op) (done int) {
	n := 0
	for done < len(ops) && n < e.kernel.lanes {
		op := &ops[done]
		done++
		text := len(op.Record) - Overhead
		if text > fastText {
			e.kernel.crypt(op.Key.slot, &op.Record[0], text, &op.Record[AADSize])
			e.kernel.tag(op.Key.slot, &op.Record[0], text, true)
			// The kernels hold no reference to a Key, and a key that nobody refers to is wiped.
			runtime.KeepAlive(op.Key)
			continue
		}
		e.group[n] = *op
		n++
	}
	if n > 0 {
		e.fillUp(n)
		e.kernel.seal(&e.group[0], 1)
		clear(e.group[:e.kernel.lanes])
	}
	return done
}
