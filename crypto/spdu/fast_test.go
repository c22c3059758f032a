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

// TestSampleTextFD compares the fast reading with ParseSample, for every length and pad, with one byte that is not zero at
// every place, and with several.
func TestSampleTextFD(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var text [fdLargeText]byte
	for n := range fdLargeText + 1 {
		for pad := range uint8(MaxPad + 1) {
			for place := range n + 40 {
				clear(text[:])
				if place < n {
					text[place] = 1 << (place % 8)
				} else {
					for range place - n {
						text[r.IntN(len(text))] = byte(r.Uint32())
					}
				}
				s, err := ParseSample(text[:n], pad)
				source, length, ok := SampleTextFD(&text, n, pad)
				if ok != (err == nil) || ok && (source != s.SourceTime || length != len(s.Body)) {
					t.Fatalf("%d bytes, pad %d: %d, %d, %v; ParseSample says %+v, %v", n, pad, source, length, ok, s, err)
				}
			}
		}
	}
}
