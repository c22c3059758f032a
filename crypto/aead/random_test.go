// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"testing"
)

// pdus is how many random PDUs each engine seals and opens against std. 100,000,000 take about a minute and a half for
// each engine.
var pdus = flag.Int("pdus", 0, "random PDUs to compare each engine with std on; 0 takes a number for a quick test")

// seed makes a run repeatable.
var seed = flag.Uint64("seed", 1, "seed of the random PDUs")

func randomPDUs(e Engine) int {
	switch {
	case *pdus > 0:
		return *pdus
	case e.Name() == twin.name:
		return 500
	case raceDetector:
		return 100_000
	case testing.Short():
		return 1_000_000
	}
	return 3_000_000
}

// TestRandomPDUs compares each engine with std: batches of any size, mixed keys, lengths and alignments, one PDU in
// four forged by one bit anywhere.
func TestRandomPDUs(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		if e.Name() == NameStd {
			t.Skip("std is what the others are compared with")
		}
		r := rand.New(rand.NewPCG(*seed, 2))
		c := newComparison(t, e, r)
		for left := randomPDUs(e); left > 0; {
			size := 1 + r.IntN(comparisonBatch)
			c.lay(r, size)
			c.run(size)
			left -= size
		}
		if c.forged == 0 || c.accepted == 0 || c.long == 0 {
			t.Errorf("%d forged, %d accepted, %d long: the test is lopsided", c.forged, c.accepted, c.long)
		}
	})
}

const (
	comparisonBatch = 300
	comparisonKeys  = 13
)

// comparison runs an engine and std on the same batches, in memory that is used again.
type comparison struct {
	t                      testing.TB
	e, std                 Engine
	keys, ref              [comparisonKeys]*Key
	ops, want              [comparisonBatch]Op
	records, refs          []byte
	dst, refDst            []byte
	forged, accepted, long int
}

func newComparison(t testing.TB, e Engine, r *rand.Rand) *comparison {
	const room = comparisonBatch * (Overhead + MaxText + 64)
	c := &comparison{
		t: t, e: e, std: NewStd(),
		records: make([]byte, room), refs: make([]byte, room), dst: make([]byte, room), refDst: make([]byte, room),
	}
	for i := range c.keys {
		s := r.Uint32()
		c.keys[i], c.ref[i] = newKey(t, e, s), newKey(t, c.std, s)
	}
	return c
}

// lay makes a batch of random plaintexts.
func (c *comparison) lay(r *rand.Rand, size int) {
	at := 0
	for i := range size {
		n := r.IntN(fastText + 1)
		switch r.IntN(64) {
		case 0:
			n = r.IntN(MaxText + 1)
		case 1, 2, 3, 4:
			n = r.IntN(300)
		}
		if n > fastText {
			c.long++
		}
		at += r.IntN(64)
		end := at + Overhead + n
		k := r.IntN(comparisonKeys)
		fill(c.records[at:end], r.Uint32())
		copy(c.refs[at:end], c.records[at:end])
		c.ops[i] = Op{Key: c.keys[k], Record: c.records[at:end], Dst: c.dst[at : at+n]}
		c.want[i] = Op{Key: c.ref[k], Record: c.refs[at:end], Dst: c.refDst[at : at+n]}
		// Both start from the same bytes in Dst, and what a refused PDU leaves there is compared too.
		fill(c.dst[at:at+n], 1)
		fill(c.refDst[at:at+n], 1)
		c.want[i].N = 0
		if r.IntN(4) == 0 {
			c.want[i].N = 1 + r.IntN(8*(Overhead+n))
		}
		at = end
	}
}

func (c *comparison) run(size int) {
	ops, want := c.ops[:size], c.want[:size]
	if err := c.e.Seal(ops); err != nil {
		c.t.Fatal(err)
	}
	if err := c.std.Seal(want); err != nil {
		c.t.Fatal(err)
	}
	for i := range ops {
		if !bytes.Equal(ops[i].Record, want[i].Record) {
			c.t.Fatalf("operation %d of %d: sealed record with %d bytes of ciphertext differs", i, size, len(ops[i].Dst))
		}
		if bit := want[i].N - 1; bit >= 0 {
			ops[i].Record[bit/8] ^= 1 << (bit % 8)
			want[i].Record[bit/8] ^= 1 << (bit % 8)
			c.forged++
		}
	}
	got := c.e.Open(ops)
	if n := c.std.Open(want); got != n {
		c.t.Fatalf("%d accepted, std accepts %d", got, n)
	}
	c.accepted += got
	for i := range ops {
		if ops[i].OK != want[i].OK || ops[i].N != want[i].N || !bytes.Equal(ops[i].Dst, want[i].Dst) {
			c.t.Fatalf("operation %d of %d with %d bytes of ciphertext: OK %v, N %d, std says %v, %d",
				i, size, len(ops[i].Dst), ops[i].OK, ops[i].N, want[i].OK, want[i].N)
		}
	}
}
