// SPDX-License-Identifier: Apache-2.0

//go:build !race

package ring

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// TestLatestTwice publishes the same batches in two rings, in one by assembly, in the other by Go: the memories stay the same but for
// what a ring has of its own.
func TestLatestTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, c := range []Config{
		{Streams: testStreams(1), Slots: 4}, {Streams: testStreams(7), Slots: 64, BodyMax: 8}, {Streams: testStreams(40), Slots: 256},
		{Streams: testStreams(3), Slots: 32, BodyMax: 200},
	} {
		a, b := newProducer(t, c), newProducer(t, c)
		longest := 0
		for range 3000 {
			batch := make([]Sample, 1+r.IntN(min(64, a.most())))
			for i := range batch {
				body := make([]byte, r.IntN(a.bodyMax+1))
				for k := range body {
					body[k] = byte(r.Uint32())
				}
				longest = max(longest, len(body))
				batch[i] = Sample{
					Stream: r.Uint32N(uint32(len(c.Streams))), Epoch: r.Uint32(), Counter: r.Uint64(), SourceTime: r.Uint32(), ReceiveTime: r.Int64(),
					Flags: Flags(r.Uint32()), Body: body,
				}
			}
			x, y := a.announce(len(batch), 1), b.announce(len(batch), 1)
			y.now = x.now
			for i := range batch {
				x.put(i, &batch[i])
				y.put(i, &batch[i])
			}
			tail := a.tail + uint64(len(batch))
			newest := a.findNewest(batch)
			b.findNewest(batch)
			p, q := a.places[:len(newest)], b.places[:len(newest)]
			compare := func(step string) {
				for _, o := range []struct {
					what  string
					a, b  unsafe.Pointer
					bytes uintptr
				}{
					{"latest values", a.latest, b.latest, a.latestSize * uintptr(a.streams)},
					{"slots", a.slots, b.slots, a.slotSize * uintptr(a.slotCount)},
					{"intent", unsafe.Pointer(&a.header.Intent), unsafe.Pointer(&b.header.Intent), 8},
				} {
					m, n := unsafe.Slice((*byte)(o.a), o.bytes), unsafe.Slice((*byte)(o.b), o.bytes)
					if !bytes.Equal(m, n) {
						t.Fatalf("%s: %s differ", step, o.what)
					}
				}
			}
			a.fillLatest(&x, tail, newest, p)
			b.fillLatestPlain(&y, tail, newest, q)
			compare("filled")
			showLatest(a.latest, p)
			showLatestPlain(b.latest, q)
			compare("shown")
			a.tail, b.tail = tail, tail
		}
		if longest < a.bodyMax*3/4 {
			t.Errorf("bodies of at most %d of %d bytes", longest, a.bodyMax)
		}
	}
}
