// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"errors"
	"strings"
	"testing"
)

func TestSelfTest(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		if err := SelfTest(e); err != nil {
			t.Fatal(err)
		}
		if err := SelfTest(e); err != nil {
			t.Fatalf("second run: %v", err)
		}
	})
}

// broken is an engine with one fault.
type broken struct {
	Engine
	newKey func(key *[KeySize]byte, iv *[IVSize]byte) (*Key, error)
	open   func(e Engine, ops []Op) int
	seal   func(e Engine, ops []Op) error
}

func (b *broken) NewKey(key *[KeySize]byte, iv *[IVSize]byte) (*Key, error) {
	if b.newKey != nil {
		return b.newKey(key, iv)
	}
	return b.Engine.NewKey(key, iv)
}

func (b *broken) Open(ops []Op) int {
	if b.open != nil {
		return b.open(b.Engine, ops)
	}
	return b.Engine.Open(ops)
}

func (b *broken) Seal(ops []Op) error {
	if b.seal != nil {
		return b.seal(b.Engine, ops)
	}
	return b.Engine.Seal(ops)
}

var errBroken = errors.New("engine is broken")

// TestSelfTestFindsFaults: each fault that an engine of its own could have makes
// the self test fail.
func TestSelfTestFindsFaults(t *testing.T) {
	after := func(f func(ops []Op, n int) int) func(Engine, []Op) int {
		return func(e Engine, ops []Op) int { return f(ops, e.Open(ops)) }
	}
	sealAfter := func(f func(ops []Op)) func(Engine, []Op) error {
		return func(e Engine, ops []Op) error {
			err := e.Seal(ops)
			f(ops)
			return err
		}
	}
	for name, b := range map[string]*broken{
		"no key": {newKey: func(*[KeySize]byte, *[IVSize]byte) (*Key, error) { return nil, errBroken }},
		"ignores the IV": {newKey: func(key *[KeySize]byte, _ *[IVSize]byte) (*Key, error) {
			return NewStd().NewKey(key, new([IVSize]byte))
		}},
		"ignores a key bit": {newKey: func(key *[KeySize]byte, iv *[IVSize]byte) (*Key, error) {
			k := *key
			k[31] &= 0x7F
			return NewStd().NewKey(&k, iv)
		}},
		"cannot seal":   {seal: func(Engine, []Op) error { return errBroken }},
		"seals nothing": {seal: func(Engine, []Op) error { return nil }},
		"seals the longest wrong": {seal: sealAfter(func(ops []Op) {
			for _, op := range ops {
				if len(op.Record) == Overhead+MaxText {
					op.Record[1500] ^= 1
				}
			}
		})},
		"one key for all": {seal: func(e Engine, ops []Op) error {
			for i := range ops {
				ops[i].Key = ops[0].Key
			}
			return e.Seal(ops)
		}},
		"refuses a good one": {open: after(func(ops []Op, n int) int {
			ops[len(ops)/2].OK = false
			return n
		})},
		"counts wrong":       {open: after(func(_ []Op, n int) int { return n - 1 })},
		"accepts everything": {open: after(func(ops []Op, n int) int { return len(ops) })},
		"marks everything": {open: after(func(ops []Op, n int) int {
			for i := range ops {
				ops[i].OK = true
			}
			return n
		})},
		"leaves N of the last use": {open: after(func(ops []Op, n int) int {
			for i := range ops {
				if !ops[i].OK {
					ops[i].N = 1
				}
			}
			return n
		})},
		"leaves plaintext of a forgery": {open: after(func(ops []Op, n int) int {
			for i := range ops {
				if !ops[i].OK {
					ops[i].Dst[0] = 0
				}
			}
			return n
		})},
		"stores behind the plaintext": {open: after(func(ops []Op, n int) int {
			for i := range ops {
				if d := ops[i].Dst; cap(d) > ops[i].N {
					d[:ops[i].N+1][ops[i].N] = 0
				}
			}
			return n
		})},
		"exchanges neighbours": {open: after(func(ops []Op, n int) int {
			if len(ops) > 41 && ops[40].OK && ops[41].OK {
				ops[40].Dst[0], ops[41].Dst[0] = ops[41].Dst[0], ops[40].Dst[0]
			}
			return n
		})},
		"a forgery spoils its neighbour": {open: after(func(ops []Op, n int) int {
			for i := range ops {
				if i > 0 && !ops[i-1].OK {
					ops[i].OK = false
				}
			}
			return n
		})},
	} {
		t.Run(name, func(t *testing.T) {
			b.Engine = NewStd()
			err := SelfTest(b)
			if !errors.Is(err, ErrSelfTest) || !strings.Contains(err.Error(), "std") {
				t.Fatalf("error %v", err)
			}
		})
	}
}
