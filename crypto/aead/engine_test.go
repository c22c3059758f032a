// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cellward/cellward/crypto/spdu"
)

const canary = 0xA5

// TestAgainstPrimitive seals and opens every length from 0 to 300 and some up to
// the longest, in one batch with mixed keys, and compares with the library's GCM
// under a nonce made by hand.
func TestAgainstPrimitive(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		var keys []*Key
		for i := range 7 {
			keys = append(keys, newKey(t, e, uint32(i)))
		}
		var lengths []int
		for n := range 301 {
			lengths = append(lengths, n)
		}
		lengths = append(lengths, 511, 512, 513, 1024, 2000, MaxText-1, MaxText)
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(lengths), func(i, j int) { lengths[i], lengths[j] = lengths[j], lengths[i] })

		ops := make([]Op, len(lengths))
		plain := make([][]byte, len(lengths))
		for i, n := range lengths {
			r := make([]byte, Overhead+n)
			fill(r, uint32(1000+i))
			plain[i] = bytes.Clone(r[AADSize : AADSize+n])
			ops[i] = Op{Key: keys[i%len(keys)], Record: r}
		}
		if err := e.Seal(ops); err != nil {
			t.Fatal(err)
		}
		for i, n := range lengths {
			key, iv := secret(uint32(i % len(keys)))
			_, gcm, err := newGCM(key[:])
			if err != nil {
				t.Fatal(err)
			}
			aad := ops[i].Record[:AADSize]
			nonce := iv
			for j, b := range aad[:4] {
				nonce[j] ^= b
			}
			for j, b := range aad[10:16] {
				nonce[6+j] ^= b
			}
			if want := gcm.Seal(nil, nonce[:], plain[i], aad); !bytes.Equal(ops[i].Record[AADSize:], want) {
				t.Fatalf("%d bytes: sealed record differs from the primitive", n)
			}
			ops[i].Dst = bytes.Repeat([]byte{canary}, n+1)[:n]
			ops[i].OK, ops[i].N = false, -1
		}
		before := make([][]byte, len(ops))
		for i := range ops {
			before[i] = bytes.Clone(ops[i].Record)
		}
		if got := e.Open(ops); got != len(ops) {
			t.Fatalf("%d of %d accepted", got, len(ops))
		}
		for i, n := range lengths {
			if !ops[i].OK || ops[i].N != n || !bytes.Equal(ops[i].Dst[:n], plain[i]) {
				t.Fatalf("%d bytes: opened record differs", n)
			}
			if ops[i].Dst[:n+1][n] != canary {
				t.Fatalf("%d bytes: stored behind Dst", n)
			}
			if !bytes.Equal(ops[i].Record, before[i]) {
				t.Fatalf("%d bytes: Open changed the record", n)
			}
		}
	})
}

// TestEveryFlippedBit: no bit of a record may change, and a refused one leaves
// nothing in Dst, not even where Dst is shared with an accepted one's memory
// page.
func TestEveryFlippedBit(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		k := newKey(t, e, 1)
		for _, n := range []int{0, 1, 8, 15, 16, 24, 32, 33, 40, 48, 49, 65, 239, 240, 241, 256, 300} {
			if e.Name() == twin.name && n > 24 {
				continue // it is slow
			}
			good, plain := sealed(t, e, k, n, 99)
			bits := 8 * len(good)
			ops := make([]Op, bits)
			for bit := range ops {
				r := bytes.Clone(good)
				r[bit/8] ^= 1 << (bit % 8)
				ops[bit] = Op{Key: k, Record: r, Dst: bytes.Repeat([]byte{canary}, n), N: 5, OK: true}
			}
			if got := e.Open(ops); got != 0 {
				t.Fatalf("%d bytes: %d forgeries accepted", n, got)
			}
			for bit, op := range ops {
				if op.OK || op.N != 0 || !bytes.Equal(op.Dst, bytes.Repeat([]byte{canary}, n)) {
					t.Fatalf("%d bytes: bit %d flipped: OK %v, N %d, Dst %x", n, bit, op.OK, op.N, op.Dst)
				}
			}
			// One forgery between two good ones.
			one := []Op{
				{Key: k, Record: good, Dst: make([]byte, n)},
				{Key: k, Record: ops[n].Record, Dst: bytes.Repeat([]byte{canary}, n)},
				{Key: k, Record: good, Dst: make([]byte, n)},
			}
			if got := e.Open(one); got != 2 || !one[0].OK || one[1].OK || !one[2].OK ||
				!bytes.Equal(one[0].Dst, plain) || !bytes.Equal(one[2].Dst, plain) {
				t.Fatalf("%d bytes: mixed batch: %d accepted, %+v", n, got, one)
			}
		}
	})
}

// TestBatchSizes opens batches of every size up to 139 with forgeries in random
// places.
func TestBatchSizes(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		r := rand.New(rand.NewPCG(3, 4))
		keys := []*Key{newKey(t, e, 1), newKey(t, e, 2), newKey(t, e, 3)}
		for size := range 140 {
			if e.Name() == twin.name && size%17 > 1 {
				continue // it is slow
			}
			ops := make([]Op, size)
			plain := make([][]byte, size)
			good := make([]bool, size)
			want := 0
			for i := range ops {
				k := keys[r.IntN(len(keys))]
				n := r.IntN(60)
				var record []byte
				record, plain[i] = sealed(t, e, k, n, 1+r.Uint64N(spdu.MaxCounter))
				if good[i] = r.IntN(3) != 0; good[i] {
					want++
				} else {
					record[r.IntN(len(record))] ^= 1 << r.IntN(8)
				}
				ops[i] = Op{Key: k, Record: record, Dst: bytes.Repeat([]byte{canary}, n)}
			}
			if got := e.Open(ops); got != want {
				t.Fatalf("batch of %d: %d accepted, want %d", size, got, want)
			}
			for i, op := range ops {
				expect := plain[i]
				if !good[i] {
					expect = bytes.Repeat([]byte{canary}, len(plain[i]))
				}
				if op.OK != good[i] || !bytes.Equal(op.Dst, expect) {
					t.Fatalf("batch of %d, operation %d: OK %v, want %v, Dst %x", size, i, op.OK, good[i], op.Dst)
				}
			}
		}
	})
}

// TestWrongKey: a right record under another key, or another IV, is refused.
func TestWrongKey(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		key, iv := secret(1)
		k, err := e.NewKey(&key, &iv)
		if err != nil {
			t.Fatal(err)
		}
		record, _ := sealed(t, e, k, 24, 5)
		for bit := range 8 * (KeySize + IVSize) {
			badKey, badIV := key, iv
			if bit < 8*KeySize {
				badKey[bit/8] ^= 1 << (bit % 8)
			} else {
				badIV[bit/8-KeySize] ^= 1 << (bit % 8)
			}
			other, err := e.NewKey(&badKey, &badIV)
			if err != nil {
				t.Fatal(err)
			}
			if op := []Op{{Key: other, Record: record, Dst: make([]byte, 24)}}; e.Open(op) != 0 {
				t.Fatalf("bit %d of the secret does not matter", bit)
			}
		}
	})
}

// TestNewKeyKeepsNoReference: the caller wipes its secret at once.
func TestNewKeyKeepsNoReference(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		key, iv := secret(1)
		k, err := e.NewKey(&key, &iv)
		if err != nil {
			t.Fatal(err)
		}
		record, _ := sealed(t, e, k, 24, 5)
		clear(key[:])
		clear(iv[:])
		if op := []Op{{Key: k, Record: record, Dst: make([]byte, 24)}}; e.Open(op) != 1 {
			t.Fatal("key changed with the caller's memory")
		}
	})
}

func TestMalformedOps(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		k := newKey(t, e, 1)
		wiped := newKey(t, e, 2)
		record, _ := sealed(t, e, wiped, 24, 5)
		wiped.Wipe()
		good, _ := sealed(t, e, k, 24, 6)
		long := make([]byte, Overhead+MaxText+1)
		for _, c := range []struct {
			name string
			op   Op
			seal bool // Seal has nothing against it
		}{
			{"no key", Op{Record: good, Dst: make([]byte, 24)}, false},
			{"zero key", Op{Key: new(Key), Record: good, Dst: make([]byte, 24)}, false},
			{"wiped key", Op{Key: wiped, Record: record, Dst: make([]byte, 24)}, false},
			{"no record", Op{Key: k, Dst: make([]byte, 24)}, false},
			{"record without room for a tag", Op{Key: k, Record: good[:Overhead-1], Dst: make([]byte, 24)}, false},
			{"record too long", Op{Key: k, Record: long, Dst: make([]byte, len(long))}, false},
			{"Dst too short", Op{Key: k, Record: good, Dst: make([]byte, 23)}, true},
			{"no Dst", Op{Key: k, Record: good}, true},
		} {
			op := c.op
			op.OK, op.N = true, 9
			next := Op{Key: k, Record: good, Dst: make([]byte, 24)}
			ops := []Op{op, next}
			if got := e.Open(ops); got != 1 || ops[0].OK || ops[0].N != 0 || !ops[1].OK {
				t.Errorf("%s: Open accepts %d, %v, %v", c.name, got, ops[0].OK, ops[1].OK)
			}
			if !bytes.Equal(ops[0].Dst, make([]byte, len(ops[0].Dst))) {
				t.Errorf("%s: Dst was written", c.name)
			}
			if c.seal {
				continue
			}
			first := slices.Clone(good)
			before := slices.Clone(op.Record)
			err := e.Seal([]Op{{Key: k, Record: first}, op})
			if !errors.Is(err, ErrOp) || !strings.Contains(err.Error(), "operation 1 of 2") {
				t.Errorf("%s: Seal: %v", c.name, err)
			}
			if !bytes.Equal(first, good) || !bytes.Equal(op.Record, before) {
				t.Errorf("%s: a refused batch was sealed in part", c.name)
			}
		}
		// Capacity is what counts, so that a caller may give buf[:0].
		op := []Op{{Key: k, Record: good, Dst: make([]byte, 0, 24)}}
		if e.Open(op) != 1 || op[0].N != 24 {
			t.Error("Dst of length 0 and capacity 24 refused")
		}
		if e.Open(nil) != 0 || e.Seal(nil) != nil {
			t.Error("empty batch")
		}
	})
}

// TestKeyOfAnotherEngine: a key that an engine cannot read is refused like none.
func TestKeyOfAnotherEngine(t *testing.T) {
	side := &SideBySide{kernel: twin, mem: new(KeyMemory)}
	for _, c := range []struct{ maker, user Engine }{{NewStd(), side}, {side, NewStd()}} {
		record, _ := sealed(t, c.maker, newKey(t, c.maker, 1), 24, 5)
		op := []Op{{Key: newKey(t, c.maker, 1), Record: record, Dst: make([]byte, 24)}}
		if c.user.Open(op) != 0 || op[0].OK {
			t.Errorf("%s takes a key of %s", c.user.Name(), c.maker.Name())
		}
		if err := c.user.Seal(op); !errors.Is(err, ErrOp) {
			t.Errorf("%s seals under a key of %s: %v", c.user.Name(), c.maker.Name(), err)
		}
	}
}

// TestSealStaysInRecord: not a byte behind the record changes.
func TestSealStaysInRecord(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		k := newKey(t, e, 1)
		for n := range 100 {
			buf := bytes.Repeat([]byte{canary}, Overhead+n+64)
			if err := e.Seal([]Op{{Key: k, Record: buf[:Overhead+n]}}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(buf[:AADSize], bytes.Repeat([]byte{canary}, AADSize)) ||
				!bytes.Equal(buf[Overhead+n:], bytes.Repeat([]byte{canary}, 64)) {
				t.Fatalf("%d bytes: AAD or memory behind the record changed", n)
			}
		}
	})
}

// TestScratchIsWiped: std keeps no plaintext between batches.
func TestScratchIsWiped(t *testing.T) {
	e := NewStd()
	k := newKey(t, e, 1)
	for _, n := range []int{1, 40, MaxText} {
		good, _ := sealed(t, e, k, n, 5)
		bad := bytes.Clone(good)
		bad[len(bad)-1] ^= 1
		for _, r := range [][]byte{good, bad} {
			e.Open([]Op{{Key: k, Record: r, Dst: make([]byte, n)}})
			if e.scratch != [MaxText]byte{} {
				t.Fatalf("%d bytes: scratch holds plaintext", n)
			}
		}
	}
}

// TestParallelEngines: engines of their own in several goroutines share keys.
func TestParallelEngines(t *testing.T) {
	for i := range engines() {
		shared := newKey(t, engines()[i], 1)
		var wg sync.WaitGroup
		for g := range uint64(3) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				e := engines()[i]
				for c := range uint64(300) {
					r := make([]byte, Overhead+24)
					spdu.PutPrefix(r, uint32(g)+1, 7)
					spdu.Header{EpochLow: 7, Counter: c + 1}.Put(r[spdu.PrefixSize:])
					op := []Op{{Key: shared, Record: r, Dst: make([]byte, 24)}}
					if err := e.Seal(op); err != nil || e.Open(op) != 1 || !bytes.Equal(op[0].Dst, make([]byte, 24)) {
						t.Errorf("goroutine %d, counter %d: %v", g, c, err)
						return
					}
				}
			}()
		}
		wg.Wait()
	}
}

func TestEngineDoesNotAllocate(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		const size = 64
		k := newKey(t, e, 1)
		ops := make([]Op, size)
		for i := range ops {
			record, _ := sealed(t, e, k, 24, uint64(i)+1)
			if i%4 == 0 {
				record[20] ^= 1 // refusing must not allocate either
			}
			ops[i] = Op{Key: k, Record: record, Dst: make([]byte, 24)}
		}
		if n := testing.AllocsPerRun(20, func() {
			if e.Open(ops) != size*3/4 {
				t.Fatal("wrong count")
			}
		}); n != 0 {
			t.Errorf("Open: %v allocations per batch", n)
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := e.Seal(ops); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Seal: %v allocations per batch", n)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	benchmark(b, func([]Op) {}, func(e Engine, ops []Op) bool { return e.Open(ops) == len(ops) })
}

// BenchmarkOpenForged shows that a forged PDU costs no more than a right one.
func BenchmarkOpenForged(b *testing.B) {
	forge := func(ops []Op) {
		for _, op := range ops {
			op.Record[len(op.Record)-1] ^= 1
		}
	}
	benchmark(b, forge, func(e Engine, ops []Op) bool { return e.Open(ops) == 0 })
}

func BenchmarkSeal(b *testing.B) {
	benchmark(b, func([]Op) {}, func(e Engine, ops []Op) bool { return e.Seal(ops) == nil })
}

// benchmark reports ns per PDU: b.N counts PDUs, not batches.
func benchmark(b *testing.B, prepare func([]Op), f func(Engine, []Op) bool) {
	for _, e := range realEngines() {
		for _, shape := range []struct{ ct, batch, keys int }{
			{8, 64, 16}, {24, 64, 16}, {32, 64, 16}, {40, 64, 16}, {32, 4, 4}, {32, 64, 1}, {256, 64, 16}, {2000, 16, 16},
		} {
			b.Run(fmt.Sprintf("engine=%s/ct=%d/batch=%d/keys=%d", e.Name(), shape.ct, shape.batch, shape.keys), func(b *testing.B) {
				keys := make([]*Key, shape.keys)
				for i := range keys {
					keys[i] = newKey(b, e, uint32(i))
				}
				ops := make([]Op, shape.batch)
				for i := range ops {
					k := keys[i%len(keys)]
					record, _ := sealed(b, e, k, shape.ct, uint64(i)+1)
					ops[i] = Op{Key: k, Record: record, Dst: make([]byte, shape.ct)}
				}
				prepare(ops)
				b.SetBytes(int64(shape.ct))
				b.ReportAllocs()
				b.ResetTimer()
				for left := b.N; left > 0; left -= len(ops) {
					if batch := ops[:min(left, len(ops))]; !f(e, batch) {
						b.Fatal("batch is judged wrong")
					}
				}
			})
		}
	}
}
