// SPDX-License-Identifier: Apache-2.0

//go:build !race

package agent

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/crypto/spdu"
)

// randomPaces returns paces as streams have them, and some that no stream comes to.
func randomPaces(r *rand.Rand) []*detect.Pace {
	paces := make([]*detect.Pace, 1+r.IntN(8))
	for i := range paces {
		p := &detect.Pace{Next: r.Uint64N(1 << 30), Source: r.Int64N(1 << 33), Seen: r.Int64N(1 << 50), Above: r.Int32N(200)}
		p.Fastest = detect.Level(p.Seen, p.Source) - r.Int64N(detect.MaxDelay)
		switch r.IntN(24) {
		case 0:
			p.Next = spdu.MaxCounter - r.Uint64N(3)
		case 1:
			p.Source = int64(r.Uint64())
		case 2:
			p.Seen = math.MaxInt64 - r.Int64N(1000)
		case 3:
			p.Seen = 0
		case 4:
			p.Fastest = int64(r.Uint64())
		case 5:
			p.Above = math.MaxInt32
		case 6:
			p.Above = math.MaxInt32 - r.Int32N(3)
		}
		paces[i] = p
	}
	return paces
}

// randomSamples lays down samples, most of them plain.
func randomSamples(r *rand.Rand, paces []*detect.Pace) (candidates []candidate, text []spdu.TextFD) {
	n := 1 + r.IntN(BatchSize)
	candidates, text = make([]candidate, n), make([]spdu.TextFD, n)
	then := make([]detect.Pace, len(paces))
	for i, p := range paces {
		then[i] = *p
	}
	odd := func() bool { return r.IntN(6*BatchSize) == 0 }
	for i := range n {
		index := r.IntN(len(paces))
		p := &then[index]
		counter, source, receive := p.Next, p.Source+int64(p.Above)+1+r.Int64N(3), p.Seen+r.Int64N(2000)
		// Somewhere between the fastest and what is late, some at the bounds.
		over := r.Int64N(detect.MaxDelay)
		if r.IntN(BatchSize) == 0 {
			over = detect.MaxDelay + r.Int64N(5) - 2
		}
		if r.IntN(4) == 0 {
			for range 3 { // the level grows a little less than the time
				receive += over - (detect.Level(receive, source) - p.Fastest)
			}
			receive = max(p.Seen, receive)
		}
		if odd() {
			counter += 1 - r.Uint64N(3)
		}
		if odd() {
			source = p.Source + int64(p.Above) - r.Int64N(3)
		}
		if odd() {
			source = int64(r.Uint64())
		}
		if odd() {
			receive = p.Seen - r.Int64N(3)
		}
		if odd() {
			receive = r.Int64()
		}
		p.Next, p.Source, p.Seen, p.Fastest = counter+1, source, receive, min(p.Fastest, detect.Level(receive, source))
		candidates[i] = candidate{header: spdu.SampleInOrder(counter) | r.Uint64N(1<<16), time: receive, slot: r.Uint32(), size: r.Uint32(), index: uint32(index), epoch: r.Uint32()}
		for k := range text[i] {
			text[i][k] = byte(r.Uint32())
		}
		binary.LittleEndian.PutUint32(text[i][spdu.TextFrontFD:], uint32(source))
	}
	return candidates, text
}

// TestExamineInOrderTwice has assembly and Go look at the same samples: they find the same ones plain, and leave the same paces behind.
func TestExamineInOrderTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	var whole, stopped, longest int
	for range 40000 {
		paces := randomPaces(r)
		others := make([]*detect.Pace, len(paces))
		for i, p := range paces {
			other := *p
			others[i] = &other
		}
		candidates, text := randomSamples(r, paces)
		x, y := examineInOrder(paces, candidates, text), examineInOrderPlain(others, candidates, text)
		if x != y {
			t.Fatalf("%d of %d, want %d", x, len(candidates), y)
		}
		for i := range paces {
			if *paces[i] != *others[i] {
				t.Fatalf("behind %d samples: %+v, want %+v", x, *paces[i], *others[i])
			}
		}
		if x == len(candidates) {
			whole++
		} else {
			stopped++
		}
		longest = max(longest, x)
	}
	if whole < 5000 || stopped < 5000 || longest < BatchSize*3/4 {
		t.Errorf("%d batches to their end, %d not, at most %d samples", whole, stopped, longest)
	}
	if n := examineInOrder(nil, nil, nil); n != 0 {
		t.Errorf("%d samples of none", n)
	}
}
