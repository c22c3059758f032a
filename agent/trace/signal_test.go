// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestSignalDecode(t *testing.T) {
	data := []byte{0x01, 0x4E, 0x33, 0xD3, 0xDC, 0x34, 0x3B, 0xCD}
	tests := []struct {
		name   string
		signal Signal
		want   float64
		ok     bool
	}{
		{"byte", Signal{StartBit: 8, Length: 8, Scale: 1}, 0x4E, true},
		{"word", Signal{StartBit: 8, Length: 16, Scale: 1}, 0x334E, true},
		{"fourteen bits", Signal{StartBit: 8, Length: 14, Scale: 0.000305}, 0x334E * 0.000305, true},
		{"across bytes", Signal{StartBit: 22, Length: 14, Scale: 1}, 0xD3<<2 | 0x33>>6 | 0x0C<<10, true},
		{"signed", Signal{StartBit: 56, Length: 8, Signed: true, Scale: 1}, -51, true},
		{"offset", Signal{StartBit: 0, Length: 8, Scale: 2, Offset: -40}, -38, true},
		{"all bits", Signal{StartBit: 0, Length: 64, Scale: 1}, 0xCD3B34DCD3334E01, true},
		{"all bits signed", Signal{StartBit: 0, Length: 64, Signed: true, Scale: 1}, -0x32C4CB232CCCB1FF, true},
		{"one bit", Signal{StartBit: 63, Length: 1, Scale: 1}, 1, true},
		{"beyond the end", Signal{StartBit: 57, Length: 8, Scale: 1}, 0, false},
		{"no bits", Signal{StartBit: 0, Length: 0, Scale: 1}, 0, false},
		{"too many bits", Signal{StartBit: 0, Length: 65, Scale: 1}, 0, false},
		{"negative start", Signal{StartBit: -1, Length: 8, Scale: 1}, 0, false},
	}
	for _, tt := range tests {
		if got, ok := tt.signal.Decode(data); ok != tt.ok || math.Abs(got-tt.want) > 1e-12*math.Abs(tt.want) {
			t.Errorf("%s: %v, %v, want %v, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

// TestSignalPut: what is put is what is read, within half a bit, other bits
// stay, and values out of range saturate.
func TestSignalPut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		length := rapid.IntRange(1, 32).Draw(rt, "length")
		s := Signal{
			StartBit: rapid.IntRange(0, 64-length).Draw(rt, "start"),
			Length:   length,
			Signed:   rapid.Bool().Draw(rt, "signed"),
			Scale:    rapid.Float64Range(0.001, 10).Draw(rt, "scale"),
			Offset:   rapid.Float64Range(-100, 100).Draw(rt, "offset"),
		}
		lo, hi := 0.0, math.Ldexp(1, length)-1
		if s.Signed {
			lo, hi = -math.Ldexp(1, length-1), math.Ldexp(1, length-1)-1
		}
		lo, hi = lo*s.Scale+s.Offset, hi*s.Scale+s.Offset
		value := rapid.Float64Range(lo-1000, hi+1000).Draw(rt, "value")
		fill := byte(rapid.SampledFrom([]int{0, 0xFF}).Draw(rt, "fill"))
		data := make([]byte, 8)
		for i := range data {
			data[i] = fill
		}
		s.put(data, value)
		got, ok := s.Decode(data)
		want := min(max(value, lo), hi)
		if !ok || math.Abs(got-want) > s.Scale*0.500001 {
			rt.Fatalf("put %v, got %v, want %v", value, got, want)
		}
		for bit := range 64 {
			inside := bit >= s.StartBit && bit < s.StartBit+s.Length
			if !inside && data[bit/8]>>(bit%8)&1 != fill&1 {
				rt.Fatalf("bit %d changed", bit)
			}
		}
	})
}
