// SPDX-License-Identifier: Apache-2.0

//go:build !race

package agent

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// randomLanes fills lanes and their records' source as draws have it.
func randomLanes(r *rand.Rand, keys []*aead.Key) []lane {
	lanes := make([]lane, 1+r.IntN(6))
	for i := range lanes {
		if r.IntN(6) == 0 {
			continue // forgotten
		}
		next := 1 + r.Uint64N(1<<20)
		if r.IntN(8) == 0 {
			next = spdu.MaxCounter - r.Uint64N(4)
		}
		lanes[i] = lane{origin: loader.OriginOf(1, uint32(10+i)), index: r.Uint32(), number: 1 + r.Uint32N(2), key: keys[r.IntN(len(keys))]}
		lanes[i].goOn(next)
		lanes[i].until = spdu.SampleInOrder(next + r.Uint64N(30))
	}
	return lanes
}

// randomRecords lays down records, most of them in order.
func randomRecords(r *rand.Rand, lanes []lane) (batch []loader.Record) {
	next := make([]uint64, len(lanes))
	for i := range lanes {
		next[i] = lanes[i].next
	}
	odd := func(n int) bool { return r.IntN(n) == 0 }
	time := int64(1e9)
	for range 1 + r.IntN(BatchSize) {
		b := make([]byte, maxRecord+r.IntN(2)*8)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		slot := r.IntN(len(lanes))
		l := &lanes[slot]
		time += r.Int64N(3)
		size, pad := []int{48, 64, 32}[r.IntN(3)], r.Uint64N(16)
		if size == 32 {
			pad %= 5
		}
		header := spdu.SampleInOrder(next[slot]) | pad<<4 | uint64(byte(l.number))<<8
		next[slot]++
		binary.LittleEndian.PutUint64(b, uint64(time))
		binary.LittleEndian.PutUint32(b[8:], uint32(slot))
		binary.LittleEndian.PutUint16(b[16:], uint16(size))
		binary.LittleEndian.PutUint64(b[20:], l.origin)
		binary.LittleEndian.PutUint32(b[28:], l.number)
		if odd(8 * BatchSize) { // any bit of what is looked at
			bit := r.IntN(8 * 40)
			b[bit/8] ^= 1 << (bit % 8)
		}
		if odd(12 * BatchSize) {
			header ^= 1 << r.IntN(64)
		}
		if odd(12 * BatchSize) {
			binary.LittleEndian.PutUint16(b[16:], uint16(r.IntN(80)))
		}
		if odd(12 * BatchSize) {
			b = b[:64+r.IntN(32)]
		}
		binary.LittleEndian.PutUint64(b[32:], header)
		batch = append(batch, b)
	}
	return batch
}

// TestLookUpInOrderTwice takes the same batches through assembly and Go: whatever the two leave behind is the same.
func TestLookUpInOrderTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	keys := []*aead.Key{new(aead.Key), new(aead.Key)}
	var whole, stopped int
	var longest int
	for range 20000 {
		var a, b core
		a.lanes = randomLanes(r, keys)
		b.lanes = append([]lane(nil), a.lanes...)
		batch := randomRecords(r, a.lanes)
		laid := r.IntN(BatchSize + 1)
		if r.IntN(2) == 0 {
			laid = 0
		}
		since := int64(math.MinInt64)
		if r.IntN(4) == 0 {
			since = 1e9 + r.Int64N(3)
		}
		x, y := a.lookUpInOrder(batch, laid, since), b.lookUpInOrderPlain(batch, laid, since)
		if x != y || a.nRuns != b.nRuns {
			t.Fatalf("%d of %d behind %d, %d runs, want %d, %d runs", x, len(batch), laid, a.nRuns, y, b.nRuns)
		}
		for i := range a.lanes {
			if a.lanes[i] != b.lanes[i] {
				t.Fatalf("lane %d: %+v, want %+v", i, a.lanes[i], b.lanes[i])
			}
		}
		for i := range laid + x {
			p, q := &a.ops[i], &b.ops[i]
			if a.candidates[i] != b.candidates[i] || p.Key != q.Key || unsafe.SliceData(p.Record) != unsafe.SliceData(q.Record) || len(p.Record) != len(q.Record) ||
				cap(p.Record) < len(p.Record) || cap(p.Record) > cap(q.Record) {
				t.Fatalf("candidate %d: %+v %v, want %+v %v", i, a.candidates[i], p, b.candidates[i], q)
			}
		}
		if !slices.Equal(a.runs[:a.nRuns], b.runs[:b.nRuns]) {
			t.Fatalf("runs %v, want %v", a.runs[:a.nRuns], b.runs[:b.nRuns])
		}
		if x == len(batch) {
			whole++
		} else {
			stopped++
		}
		longest = max(longest, x)
	}
	if whole < 1000 || stopped < 1000 || longest < BatchSize*3/4 {
		t.Errorf("%d batches to their end, %d not, at most %d records", whole, stopped, longest)
	}
}

// TestLayDownInOrderTwice has assembly and Go write the same samples into slots that hold something else, and compares the slots and
// what lies around them.
func TestLayDownInOrderTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	padding := spdu.NewPaddingFD()
	var whole, stopped int
	for range 20000 {
		const slots, stride = BatchSize + 16, 128
		memory := make([]uint64, slots*stride/8)
		for i := range memory {
			memory[i] = r.Uint64()
		}
		other := append([]uint64(nil), memory...)
		first, n := r.IntN(slots-BatchSize), 1+r.IntN(BatchSize)
		candidates, text := make([]candidate, n), make([]spdu.TextFD, n)
		for i := range n {
			size := []int{32, 48, 64}[r.IntN(3)]
			pad := r.Uint64N(16)
			if size == 32 {
				pad %= 5
			}
			candidates[i] = candidate{
				header: spdu.SampleInOrder(r.Uint64N(spdu.MaxCounter)) | pad<<4 | uint64(r.Uint32N(256))<<8, time: r.Int64(), slot: r.Uint32(), size: uint32(size),
				index: r.Uint32(), epoch: r.Uint32(),
			}
			for k := range text[i] {
				text[i][k] = byte(r.Uint32())
			}
			end := spdu.TextFrontFD + size - spdu.HeaderSize - spdu.TagSize
			clear(text[i][end-int(pad) : end])
			if r.IntN(150) == 0 && pad > 0 {
				text[i][end-1-int(r.Uint64N(pad))] |= 1 << r.IntN(8)
			}
		}
		span := func(m []uint64) *ring.Span {
			return &ring.Span{
				First: (*ring.Slot)(unsafe.Pointer(&m[first*stride/8])), Stride: stride, N: n, Marker: 1<<40 + 7, PublishTime: 1 << 50,
			}
		}
		x, y := layDownInOrder(span(memory), candidates, text, padding), layDownInOrderPlain(span(other), candidates, text, padding)
		if x != y {
			t.Fatalf("%d of %d, want %d", x, n, y)
		}
		a, b := unsafe.Slice((*byte)(unsafe.Pointer(&memory[0])), 8*len(memory)), unsafe.Slice((*byte)(unsafe.Pointer(&other[0])), 8*len(other))
		if !bytes.Equal(a, b) {
			for i := range a {
				if a[i] != b[i] {
					t.Fatalf("byte %d of slot %d (of %d from %d): %#x, want %#x", i%stride, i/stride, n, first, a[i], b[i])
				}
			}
		}
		if x == n {
			whole++
		} else {
			stopped++
		}
	}
	if whole < 1000 || stopped < 1000 {
		t.Errorf("%d batches to their end, %d not", whole, stopped)
	}
}

// TestSettleInOrderTwice takes batches of many sizes through two cores that differ in who settles them: assembly or Go.
func TestSettleInOrderTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	engine := pipelineEngines(t)[0]
	a, b := newPipeline(t, engine, testBatches), newPipeline(t, engine, testBatches)
	far := 0
	for pass := range 20 {
		if pass > 0 {
			a.restart(t)
			b.restart(t)
		}
		inOrder := 0
		for !a.over() {
			size := min(1+r.IntN(BatchSize), (len(a.records)-a.next)/bpfRecord)
			if r.IntN(4) == 0 { // to turn after turn of the streams, and back
				size = min(size, pipelineStreams)
			}
			cores := [...]*core{a.core, b.core}
			for i, p := range [...]*pipeline{a, b} {
				c := cores[i]
				batch := p.handOffSome(0, size)
				n := c.lookUp(batch, false)
				good := c.engine.Open(c.ops[:n])
				if good != size {
					t.Fatalf("%d of %d tags are right", good, size)
				}
				if !c.inOrder { // the first frames of all streams
					if _, err := c.commit(n, good, false); err != nil {
						t.Fatal(err)
					}
				} else {
					var err error
					if c.draft, err = c.out.Begin(n, c.candidates[n-1].time); err != nil {
						t.Fatal(err)
					}
					if done := c.layDown(n); done != n {
						t.Fatalf("%d of %d plaintexts are well-formed", done, n)
					}
					if i == 0 {
						far += settleFar(c)
						inOrder++
					} else {
						c.settleInOrderPlain()
					}
					c.nRuns = 0
				}
			}
			x, y := settledState(a.rig), settledState(b.rig)
			for i, p := range [...]*pipeline{a, b} {
				// First of all: what is being written keeps the ring from being closed.
				if err := cores[i].publish(size); err != nil {
					t.Fatal(err)
				}
				cores[i].wake()
				if got := p.drain(t); len(got) != size {
					t.Fatalf("%d samples of %d came out", len(got), size)
				}
			}
			if !slices.Equal(x.touched, y.touched) || !slices.Equal(x.newest, y.newest) {
				t.Fatalf("streams %v, newest %v, want %v, %v", x.touched, x.newest, y.touched, y.newest)
			}
			for i := range x.streams {
				if x.streams[i] != y.streams[i] {
					t.Fatalf("stream %d: %+v, want %+v", i, x.streams[i], y.streams[i])
				}
			}
		}
		if inOrder < testBatches {
			t.Fatalf("%d batches were in order", inOrder)
		}
	}
	if far < 100 {
		t.Errorf("%d runs left the word of their window", far)
	}
}

// settled is what settling leaves behind.
type settled struct {
	touched, newest []uint32
	streams         []settledStream
}

type settledStream struct {
	streamView
	lane   lane
	frames uint64
	now    int64
}

func settledState(r *rig) settled {
	x := settled{touched: slices.Clone(r.core.touched), newest: slices.Clone(r.core.newest)}
	for i, v := range r.view() {
		s := r.core.streams[i]
		l := *s.lane
		y := settledStream{streamView: v, now: s.gaps.Now()}
		if l.live != nil {
			y.frames = l.live.frames
		}
		l.key, l.stream, l.live = nil, nil, nil
		y.lane = l
		x.streams = append(x.streams, y)
	}
	return x
}

// settleFar settles a batch in order and returns how many runs left the word of their window.
func settleFar(c *core) (far int) {
	for _, slot := range c.runs[:c.nRuns] {
		if l := &c.lanes[slot]; (l.ahead>>16-1)>>5 != l.stream.window.Highest()>>5 {
			far++
		}
	}
	c.settleInOrder()
	return far
}
