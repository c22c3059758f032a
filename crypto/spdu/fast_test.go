// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestSampleFD compares the fast judgement with Parse, for every low half of a header and every size.
func TestSampleFD(t *testing.T) {
	var b [80]byte
	for size := range len(b) {
		for low := range uint64(256) {
			header := low | 0x030201<<16 | 9<<8
			binary.LittleEndian.PutUint64(b[:], header)
			h, err := Parse(FormFD, b[:size])
			if want := err == nil && h.Kind == KindSample; SampleFD(header, size) != want {
				t.Fatalf("header %#x in %d bytes: %v, Parse says %v, %v", header, size, !want, h, err)
			}
		}
	}
}

// TestSampleInOrder compares with the headers of samples, and orders them.
func TestSampleInOrder(t *testing.T) {
	for _, counter := range []uint64{1, 2, 255, 1<<32 - 1, MaxCounter - 1, MaxCounter} {
		for pad := range uint8(MaxPad + 1) {
			var b [HeaderSize]byte
			Header{Kind: KindSample, Pad: pad, EpochLow: pad * 17, Counter: counter}.Put(b[:])
			if got := binary.LittleEndian.Uint64(b[:]) & InOrderMask; got != SampleInOrder(counter) {
				t.Fatalf("counter %d, pad %d: %#x, want %#x", counter, pad, got, SampleInOrder(counter))
			}
		}
		for _, kind := range []Kind{KindHeartbeat, KindStart} {
			var b [HeaderSize]byte
			Header{Kind: kind, Counter: counter}.Put(b[:])
			if binary.LittleEndian.Uint64(b[:])&InOrderMask == SampleInOrder(counter) {
				t.Fatalf("a %v passes for a sample", kind)
			}
		}
		if SampleInOrder(counter-1) >= SampleInOrder(counter) {
			t.Fatalf("%d does not come behind %d", counter, counter-1)
		}
	}
	if SampleInOrder(MaxCounter+1) != 0 {
		t.Error("there is something above the highest counter")
	}
}

// TestTextLength compares the fast reading with ParseSample, for every length and pad, with one byte that is not zero at
// every place, and with several. Lengths that no frame has are refused.
func TestTextLength(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	padding := NewPaddingFD()
	var room TextFD
	text := room[TextFrontFD:][:fdLargeText]
	for n := -1; n <= fdLargeText+1; n++ {
		for pad := range uint8(MaxPad + 1) {
			for place := range max(n, 0) + 40 {
				for i := range room {
					room[i] = byte(r.Uint32()) // in front of the plaintext and behind it, whatever was there
				}
				clear(text[:max(min(n, len(text)), 0)])
				if place < n {
					text[min(place, fdLargeText-1)] = 1 << (place % 8)
				} else {
					for range place - n {
						text[r.IntN(len(text))] = byte(r.Uint32())
					}
				}
				length := padding.TextLength(&room, n, pad)
				if n != fdSmallText && n != fdMidText && n != fdLargeText {
					if length >= 0 {
						t.Fatalf("%d bytes, pad %d: %d", n, pad, length)
					}
					continue
				}
				s, err := ParseSample(text[:n], pad)
				if (length >= 0) != (err == nil) || err == nil && length != len(s.Body) {
					t.Fatalf("%d bytes, pad %d: %d; ParseSample says %+v, %v", n, pad, length, s, err)
				}
			}
		}
	}
}
