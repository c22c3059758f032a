// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"math"
)

// Value is one decoded signal.
type Value struct {
	Signal   int     // index into Stream.Signals
	Raw      uint64  // bits of the signal; sign-extended for Signed
	Physical float64 // raw value * Factor + Offset; integers above 2^53 are rounded
}

// Decoder turns bodies of one stream into physical values. It is immutable and safe for concurrent use.
type Decoder struct {
	plans []plan
}

// plan is a signal with its multiplexor resolved.
type plan struct {
	start, length, end int
	order              ByteOrder
	kind               ValueType
	mux                int // index of the multiplexor; -1: always present
	muxValue           uint64
	factor, offset     float64
}

// NewDecoder prepares the decoding of a stream's bodies. The signals of a stream that comes from a Reader are valid.
func NewDecoder(s *Stream) (*Decoder, error) {
	if err := checkSignals(s.Signals, maxBody); err != nil {
		return nil, fmt.Errorf("prepare decoding of stream %q: %w", s.Name, err)
	}
	index := signalIndex(s.Signals)
	d := &Decoder{plans: make([]plan, len(s.Signals))}
	for i := range s.Signals {
		sig := &s.Signals[i]
		p := plan{
			start: int(sig.Start), length: int(sig.Length), end: sig.end(),
			order: sig.ByteOrder, kind: sig.ValueType,
			mux: -1, muxValue: uint64(sig.MuxValue),
			factor: sig.factor(), offset: sig.Offset,
		}
		if sig.Multiplexor != "" {
			p.mux = index[sig.Multiplexor]
		}
		d.plans[i] = p
	}
	return d, nil
}

// Append appends the values of all signals that are present in body, in the order of Stream.Signals. A signal is absent
// when the body ends before it or when its multiplexor has another value or is absent itself.
func (d *Decoder) Append(dst []Value, body []byte) []Value {
	// Signals of one group stand next to each other and share a multiplexor, so remembering one answer is enough.
	muxIndex, muxRaw, muxPresent := -1, uint64(0), false
	for i := range d.plans {
		p := &d.plans[i]
		if p.end > len(body) {
			continue
		}
		if p.mux >= 0 {
			if p.mux != muxIndex {
				muxIndex = p.mux
				muxRaw, muxPresent = d.multiplexor(p.mux, body)
			}
			if !muxPresent || muxRaw != p.muxValue {
				continue
			}
		}
		raw := extract(body, p.start, p.length, p.order)
		var physical float64
		switch p.kind {
		case Signed:
			shift := 64 - p.length
			signed := int64(raw<<shift) >> shift
			raw = uint64(signed)
			physical = float64(signed)
		case Float32:
			physical = float64(math.Float32frombits(uint32(raw)))
		case Float64:
			physical = math.Float64frombits(raw)
		default:
			physical = float64(raw)
		}
		dst = append(dst, Value{Signal: i, Raw: raw, Physical: physical*p.factor + p.offset})
	}
	return dst
}

// multiplexor returns the raw value of signal i and whether it is present. checkSignals has excluded cycles.
func (d *Decoder) multiplexor(i int, body []byte) (raw uint64, present bool) {
	p := &d.plans[i]
	if p.end > len(body) {
		return 0, false
	}
	if p.mux >= 0 {
		if outer, ok := d.multiplexor(p.mux, body); !ok || outer != p.muxValue {
			return 0, false
		}
	}
	return extract(body, p.start, p.length, p.order), true
}

// extract collects the bits of a signal, byte by byte. The caller has checked that the body is long enough.
func extract(body []byte, start, length int, order ByteOrder) uint64 {
	var raw uint64
	at, bit := start/8, start%8
	if order == LittleEndian {
		for done := 0; done < length; {
			n := min(8-bit, length-done)
			raw |= uint64(body[at]>>bit) & (1<<n - 1) << done
			done += n
			at, bit = at+1, 0
		}
		return raw
	}
	// From the most significant bit downwards: what is left of a byte are its bits bit..0, then the next byte follows.
	for left := length; left > 0; {
		n := min(bit+1, left)
		raw = raw<<n | uint64(body[at]>>(bit+1-n))&(1<<n-1)
		left -= n
		at, bit = at+1, 7
	}
	return raw
}

// end returns how many bytes a body must have to hold the signal.
func (s *Signal) end() int {
	if s.ByteOrder == LittleEndian {
		return (int(s.Start) + int(s.Length) + 7) / 8
	}
	// The first byte gives Start%8 + 1 bits, each further byte eight.
	return int(s.Start)/8 + 1 + max(0, int(s.Length)-int(s.Start)%8-1+7)/8
}

func (s *Signal) factor() float64 {
	if s.Factor == 0 {
		return 1
	}
	return s.Factor
}

func signalIndex(signals []Signal) map[string]int {
	index := make(map[string]int, len(signals))
	for i := range signals {
		index[signals[i].Name] = i
	}
	return index
}
