// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded is memory with pages of no access on both sides: a load or a store across either end kills the test.
type guarded struct{ b []byte }

func newGuarded(t testing.TB, pages int) guarded {
	t.Helper()
	page := os.Getpagesize()
	whole, err := unix.Mmap(-1, 0, (pages+2)*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(whole) })
	g := guarded{whole[page : (pages+1)*page : (pages+1)*page]}
	g.protect(t, unix.PROT_READ|unix.PROT_WRITE)
	return g
}

func (g guarded) protect(t testing.TB, prot int) {
	t.Helper()
	if err := unix.Mprotect(g.b, prot); err != nil {
		t.Fatal(err)
	}
}

// first and last are n bytes at either end.
func (g guarded) first(n int) []byte { return g.b[:n:n] }
func (g guarded) last(n int) []byte  { return g.b[len(g.b)-n:] }

// placeLengths are all lengths around the paths and blocks of the kernels.
func placeLengths(e Engine) []int {
	var all []int
	if e.Name() == twin.name { // it is slow
		return []int{0, 1, 15, 16, 48, 49, 240, 256}
	}
	for n := range 330 {
		all = append(all, n)
	}
	for n := 496; n <= MaxText; n += 61 {
		all = append(all, n)
	}
	return append(all, 1000, 1999, 2000, MaxText-1, MaxText)
}

// TestPageEnds places record and Dst before and behind memory without access, one in each lane and several at once.
// Open gets its records read-only.
func TestPageEnds(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		const ops = 5
		k := newKey(t, e, 1)
		var records, plains [ops]guarded
		for i := range ops {
			records[i], plains[i] = newGuarded(t, 1), newGuarded(t, 1)
		}
		for _, n := range placeLengths(e) {
			for place := range 4 {
				atEnd := place&1 == 0
				var batch, sealing [ops]Op
				var want [ops][]byte
				for i := range ops {
					records[i].protect(t, unix.PROT_READ|unix.PROT_WRITE)
					clear(plains[i].b)
					at, dst := records[i].first(Overhead+n), plains[i].last(n)
					if atEnd {
						at = records[i].last(Overhead + n)
					}
					if place&2 != 0 {
						dst = plains[i].first(n)
					}
					fill(at, uint32(n+i))
					want[i] = bytes.Clone(at[AADSize : AADSize+n])
					sealing[i] = Op{Key: k, Record: at}
					batch[i] = Op{Key: k, Record: at, Dst: dst}
				}
				if err := e.Seal(sealing[:]); err != nil {
					t.Fatal(err)
				}
				for i := range ops {
					records[i].protect(t, unix.PROT_READ)
				}
				if got := e.Open(batch[:]); got != ops {
					t.Fatalf("%d bytes: %d accepted", n, got)
				}
				for i := range ops {
					sum := 0
					for _, b := range plains[i].b {
						sum += int(b)
					}
					for _, b := range want[i] {
						sum -= int(b)
					}
					if !bytes.Equal(batch[i].Dst, want[i]) || sum != 0 {
						t.Fatalf("%d bytes, place %d, lane %d: plaintext differs, or memory beside it was written", n, place, i)
					}
				}
			}
		}
	})
}

// TestDstWithoutAccess: nothing is written for a PDU whose tag is wrong, not even for a moment. The memory could not
// take it.
func TestDstWithoutAccess(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		k := newKey(t, e, 1)
		dst := newGuarded(t, 1)
		dst.protect(t, unix.PROT_NONE)
		for _, n := range []int{1, 8, 24, 40, 48, 49, 64, 300, MaxText} {
			for lane := range 5 {
				ops := make([]Op, 5)
				for i := range ops {
					record, _ := sealed(t, e, k, n, uint64(i+1))
					ops[i] = Op{Key: k, Record: record, Dst: make([]byte, n)}
				}
				ops[lane].Record[n/2] ^= 1
				ops[lane].Dst = dst.first(n)
				if got := e.Open(ops); got != 4 || ops[lane].OK {
					t.Fatalf("%d bytes, lane %d: %d accepted", n, lane, got)
				}
			}
		}
	})
}

// TestAlignments opens and seals with record and Dst at each of 64 alignments.
func TestAlignments(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		k := newKey(t, e, 1)
		lengths := []int{0, 7, 8, 24, 40, 48, 49, 100, 257}
		if e.Name() == twin.name {
			lengths = []int{24} // it is slow
		}
		for _, n := range lengths {
			good, plain := sealed(t, e, k, n, 7)
			records, plains := newGuarded(t, 1), newGuarded(t, 1)
			for a := range 64 {
				record := records.b[a:][:Overhead+n]
				copy(record[AADSize:], plain)
				copy(record, good[:AADSize])
				if err := e.Seal([]Op{{Key: k, Record: record}}); err != nil || !bytes.Equal(record, good) {
					t.Fatalf("%d bytes at %d: sealed record differs (%v)", n, a, err)
				}
				for d := range 64 {
					clear(plains.b[:512])
					op := []Op{{Key: k, Record: record, Dst: plains.b[d:][:n]}}
					if e.Open(op) != 1 || !bytes.Equal(op[0].Dst, plain) || plains.b[d+n] != 0 || d > 0 && plains.b[d-1] != 0 {
						t.Fatalf("%d bytes at %d, Dst at %d: wrong", n, a, d)
					}
				}
			}
		}
	})
}

// TestRecordsInOnePiece: records that lie one behind the other, as in a buffer, do not disturb each other, although a
// load of one would reach into the next.
func TestRecordsInOnePiece(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		k := newKey(t, e, 1)
		var buf, want []byte
		var at []int
		for n := range 120 {
			record, plain := sealed(t, e, k, n, uint64(n+1))
			copy(record[AADSize:], plain)
			at = append(at, len(buf))
			buf = append(buf, record...)
			if err := e.Seal([]Op{{Key: k, Record: record}}); err != nil {
				t.Fatal(err)
			}
			want = append(want, record...)
		}
		ops := make([]Op, len(at))
		for i := range ops {
			n := Overhead + i
			ops[i] = Op{Key: k, Record: buf[at[i] : at[i]+n : at[i]+n], Dst: make([]byte, i)}
		}
		if err := e.Seal(ops); err != nil || !bytes.Equal(buf, want) {
			t.Fatalf("sealed in one piece differs from sealed one by one (%v)", err)
		}
		if got := e.Open(ops); got != len(ops) {
			t.Fatal(fmt.Errorf("%d of %d accepted", got, len(ops)))
		}
	})
}
