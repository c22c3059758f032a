// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math"
	"slices"
)

// Limits of signals.
const (
	maxSignals           = 4096 // of one stream
	maxSignalLength      = 64   // bits
	maxMultiplexorLength = 32   // bits
	maxMultiplexorValues = 256  // of one signal
)

// ByteOrder is the order of the bytes of a signal.
type ByteOrder string

// The byte orders: Intel, and Motorola.
const (
	LittleEndian ByteOrder = "little"
	BigEndian    ByteOrder = "big"
)

// Signal describes where in a body a physical value lies, with the bit numbering of DBC files: bit n is bit n%8 of
// byte n/8, bit 0 being the least significant. StartBit is the least significant bit of a little-endian signal, and
// the most significant bit of a big-endian one, whose next bits are numbered downwards to bit 0 of the byte and then
// from bit 7 of the next.
type Signal struct {
	Name        string
	StartBit    int
	Length      int // bits, 1 to 64
	ByteOrder   ByteOrder
	Signed      bool    // two's complement
	Scale       float64 // physical = raw * Scale + Offset; 0 when marshalling: 1
	Offset      float64
	Unit        string
	Multiplexor *Multiplexor // nil: in every body
}

// Multiplexor says in which bodies a signal is present: in those whose signal named Signal has one of the raw Values.
type Multiplexor struct {
	Signal string
	Values []uint32 // distinct, in the order of the document
}

// bytes returns how long a body must be to hold the signal.
func (s Signal) bytes() int {
	if s.ByteOrder == BigEndian {
		first := s.StartBit/8*8 + 7 - s.StartBit%8 // counted from the most significant bit of byte 0
		return (first+s.Length-1)/8 + 1
	}
	return (s.StartBit+s.Length-1)/8 + 1
}

// Raw returns the bits of the signal, right-aligned, and whether the body is long enough to hold them. It does not
// look at the multiplexor.
func (s Signal) Raw(body []byte) (uint64, bool) {
	if s.Length < 1 || s.Length > maxSignalLength || s.StartBit < 0 || s.bytes() > len(body) {
		return 0, false
	}
	var raw uint64
	if s.ByteOrder == BigEndian {
		for i, n := 0, s.StartBit; i < s.Length; i++ {
			raw = raw<<1 | uint64(body[n/8]>>(n%8)&1)
			if n%8 == 0 {
				n += 15
			} else {
				n--
			}
		}
		return raw, true
	}
	for i := s.Length - 1; i >= 0; i-- {
		n := s.StartBit + i
		raw = raw<<1 | uint64(body[n/8]>>(n%8)&1)
	}
	return raw, true
}

// Physical returns the physical value of the signal in its unit, and whether the body is long enough to hold it. It
// does not look at the multiplexor.
func (s Signal) Physical(body []byte) (float64, bool) {
	raw, ok := s.Raw(body)
	if !ok {
		return 0, false
	}
	value := float64(raw)
	if s.Signed {
		shift := 64 - s.Length
		value = float64(int64(raw<<shift) >> shift)
	}
	return value*s.Scale + s.Offset, true
}

// Present reports whether a body holds a signal of a stream, going by its multiplexor and the multiplexors of that.
// The stream's signals are those that Parse or Load returned.
func (s Stream) Present(signal Signal, body []byte) bool {
	if signal.bytes() > len(body) {
		return false
	}
	for range len(s.Signals) {
		if signal.Multiplexor == nil {
			return true
		}
		selector, ok := s.Signal(signal.Multiplexor.Signal)
		if !ok {
			return false
		}
		raw, ok := selector.Raw(body)
		if !ok || raw > math.MaxUint32 || !slices.Contains(signal.Multiplexor.Values, uint32(raw)) {
			return false
		}
		signal = selector
	}
	return false
}

// Signal returns a signal by its name.
func (s Stream) Signal(name string) (Signal, bool) {
	for _, signal := range s.Signals {
		if signal.Name == name {
			return signal, true
		}
	}
	return Signal{}, false
}

// signalPlaces is a signal with the places of its fields that the others decide about.
type signalPlaces struct {
	signal   Signal
	selector value
	values   []value
}

// decodeSignals reads the signals of a stream whose body has at most maxBody bytes; 0 means that it is not known.
func decodeSignals(v value, maxBody int) []Signal {
	var all []signalPlaces
	seen := unique[string]{}
	for _, item := range v.list(maxSignals) {
		all = append(all, decodeSignal(item, seen, maxBody))
	}
	checkMultiplexors(all)
	signals := make([]Signal, len(all))
	for i, one := range all {
		signals[i] = one.signal
	}
	return signals
}

func decodeSignal(item value, seen unique[string], maxBody int) (p signalPlaces) {
	o, ok := item.object("name", "startBit", "length", "byteOrder", "signed", "scale", "offset", "unit", "multiplexor")
	if !ok {
		return p
	}
	s := &p.signal
	s.Scale = 1
	if v, ok := o.required("name"); ok {
		if s.Name, ok = v.match(signalPattern); ok {
			seen.add(s.Name, v, quoted("signal", s.Name))
		}
	}
	start, haveStart := o.required("startBit")
	if haveStart {
		var n uint64
		n, haveStart = start.integer(0, maxBodyBits-1)
		s.StartBit = int(n)
	}
	if v, ok := o.required("length"); ok {
		n, _ := v.integer(1, maxSignalLength)
		s.Length = int(n)
	}
	if v, ok := o.required("byteOrder"); ok {
		order, _ := v.oneOf(string(LittleEndian), string(BigEndian))
		s.ByteOrder = ByteOrder(order)
	}
	if haveStart && s.Length > 0 && s.ByteOrder != "" && maxBody > 0 && s.bytes() > maxBody {
		start.errorf("the signal ends in byte %d; a body on this carrier has at most %d bytes (bytes 0 to %d)", s.bytes()-1, maxBody, maxBody-1)
	}
	if v, ok := o.optional("signed"); ok {
		s.Signed, _ = v.boolean()
	}
	if v, ok := o.optional("scale"); ok {
		if s.Scale, ok = v.number(); ok && s.Scale == 0 {
			v.errorf("a scale of 0 gives every body the same value")
		}
	}
	if v, ok := o.optional("offset"); ok {
		s.Offset, _ = v.number()
	}
	if v, ok := o.optional("unit"); ok {
		s.Unit, _ = v.match(unitPattern)
	}
	if v, ok := o.optional("multiplexor"); ok {
		p.decodeMultiplexor(v)
	}
	return p
}

// maxBodyBits is the longest body of any carrier, in bits.
const maxBodyBits = 36 * 8

func (p *signalPlaces) decodeMultiplexor(v value) {
	o, ok := v.object("signal", "values")
	if !ok {
		return
	}
	m := &Multiplexor{}
	p.signal.Multiplexor = m
	if v, ok := o.required("signal"); ok {
		if m.Signal, ok = v.match(signalPattern); ok {
			p.selector = v
		}
	}
	if v, ok := o.required("values"); ok {
		seen := unique[uint32]{}
		for _, item := range v.list(maxMultiplexorValues) {
			n, ok := item.integer(0, math.MaxUint32)
			if !ok {
				continue
			}
			seen.add(uint32(n), item, fmt.Sprintf("value %d", n))
			m.Values = append(m.Values, uint32(n))
			p.values = append(p.values, item)
		}
	}
}

// checkMultiplexors checks that each signal is selected by an unsigned signal of the same stream that can have the
// values, and not, through others, by itself.
func checkMultiplexors(all []signalPlaces) {
	byName := make(map[string]*signalPlaces, len(all))
	for i := range all {
		if name := all[i].signal.Name; byName[name] == nil {
			byName[name] = &all[i]
		}
	}
	for i := range all {
		p := &all[i]
		if p.selector.node == nil {
			continue
		}
		name := p.signal.Multiplexor.Signal
		selector := byName[name]
		switch {
		case selector == nil:
			p.selector.errorf("the stream has no signal %q", name)
			continue
		case selector.signal.Signed || selector.signal.Length > maxMultiplexorLength:
			p.selector.errorf("signal %q cannot select: a multiplexor is unsigned and has at most %d bits", name, maxMultiplexorLength)
			continue
		case circular(p, byName):
			p.selector.errorf("signal %q depends on itself", p.signal.Name)
			continue
		}
		for i, v := range p.values {
			if n := p.signal.Multiplexor.Values[i]; selector.signal.Length > 0 && uint64(n)>>selector.signal.Length != 0 {
				v.errorf("signal %q has %d bits and never the value %d", name, selector.signal.Length, n)
			}
		}
	}
}

// circular follows the multiplexors of a signal back. A chain longer than the number of signals has a loop.
func circular(p *signalPlaces, byName map[string]*signalPlaces) bool {
	for range len(byName) + 1 {
		if p.selector.node == nil {
			return false
		}
		if p = byName[p.signal.Multiplexor.Signal]; p == nil {
			return false
		}
	}
	return true
}
