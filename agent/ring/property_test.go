// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"context"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// TestSchedule runs whole calls of producer and reader in a random order: every position is delivered once, whole and
// in order, or counted as missed, and only those are missed that the producer has overwritten.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		streams := rapid.IntRange(1, 5).Draw(rt, "streams")
		bodyMax := rapid.IntRange(12, 100).Draw(rt, "body")
		p, err := NewProducer(Config{Streams: testStreams(streams), Slots: rapid.IntRange(1, 64).Draw(rt, "slots"), BodyMax: bodyMax})
		if err != nil {
			rt.Fatal(err)
		}
		defer p.Close()
		r := attach(t, p, Options{})
		defer r.Close()
		published, next, missed := uint64(0), uint64(0), uint64(0)
		newest := map[uint32]uint64{}
		var batch []Sample
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				n := rapid.IntRange(0, 100).Draw(rt, "n")
				batch = stampedBatch(batch, published, n, streams, bodyMax)
				if err := p.Publish(batch); err != nil {
					rt.Fatal(err)
				}
				for i := range batch {
					newest[batch[i].Stream] = published + uint64(i)
				}
				published += uint64(n)
			},
			"read": func(rt *rapid.T) {
				if next == published {
					rt.Skip("nothing to read")
				}
				out := make([]Sample, rapid.IntRange(1, 80).Draw(rt, "room"))
				n, err := r.Next(context.Background(), out)
				if err != nil {
					rt.Fatal(err)
				}
				if oldest := int64(published) - int64(p.slotCount); int64(next) < oldest {
					missed += uint64(oldest) - next
					next = uint64(oldest)
				}
				if want := min(len(out), int(published-next)); n != want {
					rt.Fatalf("read %d samples, want %d", n, want)
				}
				for i := range out[:n] {
					if out[i].Position != next {
						rt.Fatalf("position %d, want %d", out[i].Position, next)
					}
					if err := verify(&out[i], streams, bodyMax); err != nil {
						rt.Fatal(err)
					}
					next++
				}
				if r.Missed() != missed {
					rt.Fatalf("missed %d, want %d", r.Missed(), missed)
				}
			},
			"latest": func(rt *rapid.T) {
				stream := uint32(rapid.IntRange(0, streams-1).Draw(rt, "stream"))
				var s Sample
				ok, err := r.Latest(stream, &s)
				want, any := newest[stream]
				if err != nil || ok != any || ok && s.Position != want {
					rt.Fatalf("latest of %d: %v, %v, position %d, want %v, %d", stream, ok, err, s.Position, any, want)
				}
				if ok {
					if err := verify(&s, streams, bodyMax); err != nil {
						rt.Fatal(err)
					}
				}
			},
		})
	})
}

// TestInterleaving runs the single steps of producer and reader in a random order, with slots left half written in
// between: what the reader accepts is whole, and the count of missed samples is exact.
func TestInterleaving(t *testing.T) {
	const streams, bodyMax = 3, 36
	rapid.Check(t, func(rt *rapid.T) {
		p, err := NewProducer(Config{Streams: testStreams(streams), Slots: rapid.SampledFrom([]int{2, 4, 8}).Draw(rt, "slots"), BodyMax: bodyMax})
		if err != nil {
			rt.Fatal(err)
		}
		defer p.Close()
		r := attach(t, p, Options{})
		defer r.Close()
		v := r.link.view

		var batch []Sample // being published
		filled := -1       // samples of it that are in their slots; -1: not announced

		pos, delivered, missed := uint64(0), uint64(0), uint64(0)
		buf := make([]uint64, 8*v.words)
		first, n, copied := uint64(0), 0, -1 // of the reader's span; copied -1: none

		rt.Repeat(map[string]func(*rapid.T){
			"producer": func(rt *rapid.T) {
				switch {
				case filled < 0:
					size := rapid.IntRange(1, int(p.slotCount/2)).Draw(rt, "batch")
					batch = stampedBatch(batch, p.tail, size, streams, bodyMax)
					// Room for more than is published, as a writer that does not know yet how much it has.
					p.announce(rapid.IntRange(size, int(p.slotCount/2)).Draw(rt, "room"), 1)
					filled = 0
				case filled < len(batch):
					next := p.tail + uint64(filled) + 1
					if rapid.Bool().Draw(rt, "half") { // as if stopped in the middle of the slot
						half := unsafe.Slice((*byte)(unsafe.Pointer(p.slotAt(next-1))), int(p.slotSize))
						for i := rapid.IntRange(0, len(half)-1).Draw(rt, "from"); i < len(half); i++ {
							half[i] = 0xee
						}
						return
					}
					p.draft(1).put(filled, &batch[filled])
					filled++
				default:
					p.commit(p.draft(1), len(batch), p.findNewest(batch))
					filled = -1
				}
			},
			"reader": func(rt *rapid.T) {
				switch {
				case copied < 0:
					if first, n, err = v.span(pos, rapid.IntRange(1, 8).Draw(rt, "room")); err != nil {
						rt.Fatal(err)
					}
					copied = 0
				case copied < n:
					v.copySlot(first+uint64(copied), buf[copied*v.words:][:v.words])
					copied++
				default:
					torn := v.torn(first, n)
					missed += first + uint64(torn) - pos
					for i := torn; i < n; i++ {
						var s Sample
						if err := v.sample(first+uint64(i), buf[i*v.words:][:v.words], &s); err != nil {
							rt.Fatal(err)
						}
						if err := verify(&s, streams, bodyMax); err != nil {
							rt.Fatal(err)
						}
						delivered++
					}
					pos = first + uint64(n)
					copied = -1
					if delivered+missed != pos {
						rt.Fatalf("at %d: delivered %d, missed %d", pos, delivered, missed)
					}
				}
			},
		})
	})
}
