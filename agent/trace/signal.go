// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"math"
	"time"
)

// Signal says where in a body a value lies and what it means. It is plain data
// for a binding to carry.
type Signal struct {
	Name string
	// StartBit is the position of the least significant bit: bit n%8 of byte
	// n/8 (little-endian, "Intel" in a DBC). Length is in bits, 1 to 64; the
	// whole signal lies within the first 64 bytes.
	StartBit, Length int
	Signed           bool // two's complement
	// The physical value is raw*Scale + Offset in Unit.
	Scale, Offset float64
	Unit          string
	// Multiplexor marks the signal whose raw value selects, within its
	// message, the signals that have Multiplexed set and that value in Mux.
	Multiplexor bool
	Multiplexed bool
	Mux         uint64
}

// Message is the layout of the bodies of one stream.
type Message struct {
	Name     string
	Source   string // identifier of the data source in a security policy
	ID       uint32
	Extended bool
	Length   int           // of the body in bytes
	Period   time.Duration // of one frame; of each multiplexor value where multiplexed
	Frames   int           // frames in one period: the number of multiplexor values, else 1
	Signals  []Signal
}

// Rate returns frames per second.
func (m *Message) Rate() float64 {
	return float64(m.Frames) * float64(time.Second) / float64(m.Period)
}

// Raw returns the bits of the signal, sign-extended where it is signed; ok is
// false if the body is too short. It does not look at the multiplexor.
func (s *Signal) Raw(body []byte) (raw int64, ok bool) {
	if s.Length < 1 || s.Length > 64 || s.StartBit < 0 || s.StartBit+s.Length > 8*len(body) {
		return 0, false
	}
	var bits uint64
	for i := range s.Length {
		at := s.StartBit + i
		bits |= uint64(body[at/8]>>(at%8)&1) << i
	}
	if s.Signed {
		shift := 64 - s.Length
		return int64(bits<<shift) >> shift, true
	}
	return int64(bits), true
}

// Decode returns the physical value; ok is false if the body is too short.
func (s *Signal) Decode(body []byte) (value float64, ok bool) {
	raw, ok := s.Raw(body)
	v := float64(raw)
	if !s.Signed {
		v = float64(uint64(raw))
	}
	return float64(v*s.Scale) + s.Offset, ok
}

// put writes the nearest raw value; out of range it saturates.
func (s *Signal) put(body []byte, value float64) {
	lo, hi := 0.0, math.Ldexp(1, s.Length)-1
	if s.Signed {
		lo, hi = -math.Ldexp(1, s.Length-1), math.Ldexp(1, s.Length-1)-1
	}
	raw := math.Round((value - s.Offset) / s.Scale)
	bits := uint64(int64(min(max(raw, lo), hi)))
	for i := range s.Length {
		at := s.StartBit + i
		mask := byte(1) << (at % 8)
		body[at/8] = body[at/8]&^mask | byte(bits>>i&1)<<(at%8)
	}
}

// Decode calls each with every signal that body holds and its physical value.
func (m *Message) Decode(body []byte, each func(s *Signal, value float64)) {
	var mux int64
	hasMux := false
	for i := range m.Signals {
		if s := &m.Signals[i]; s.Multiplexor {
			mux, hasMux = s.Raw(body)
		}
	}
	for i := range m.Signals {
		s := &m.Signals[i]
		if s.Multiplexed && (!hasMux || uint64(mux) != s.Mux) {
			continue
		}
		if v, ok := s.Decode(body); ok {
			each(s, v)
		}
	}
}
