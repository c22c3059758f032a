// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/cellward/cellward/agent/policy"
)

// muxes are the parts of a multiplexed array.
type muxes struct {
	at     selector
	values []uint32 // ascending
	seen   []int64  // by position in values; 0: not yet
	limit  int64
}

// newMuxes returns the parts of a stream's bodies, nil if they are not multiplexed. Where multiplexors are nested, the outermost
// one counts.
func newMuxes(signals []policy.Signal, period int64) *muxes {
	for i := range signals {
		s := &signals[i]
		if s.Multiplexor != nil {
			continue
		}
		var values []uint32
		for _, t := range signals {
			if t.Multiplexor != nil && t.Multiplexor.Signal == s.Name {
				values = append(values, t.Multiplexor.Values...)
			}
		}
		slices.Sort(values)
		if values = slices.Compact(values); len(values) > 1 {
			return &muxes{
				at: selectorOf(s), values: values, seen: make([]int64, len(values)), limit: jitter + late*int64(len(values))*period,
			}
		}
	}
	return nil
}

// touch notes that a part has come.
func (m *muxes) touch(body []byte, at int64) {
	value, ok := m.at.read(body)
	if !ok {
		return
	}
	// Most arrays are numbered from 0 on.
	if int64(value) < int64(len(m.values)) && m.values[value] == value {
		m.seen[value] = max(m.seen[value], at)
		return
	}
	if i, ok := slices.BinarySearch(m.values, value); ok {
		m.seen[i] = max(m.seen[i], at)
	}
}

func (m *muxes) excuse(now int64) {
	for i, at := range m.seen {
		if at != 0 {
			m.seen[i] = max(at, now)
		}
	}
}

func (m *muxes) missing(now int64) (n int) {
	for _, at := range m.seen {
		if at != 0 && now-at > m.limit {
			n++
		}
	}
	return n
}

// late returns the values that missing counts.
func (m *muxes) late(now int64) (all []uint32) {
	for i, at := range m.seen {
		if at != 0 && now-at > m.limit {
			all = append(all, m.values[i])
		}
	}
	return all
}

// selector reads a signal of at most 32 bits in one piece.
type selector struct {
	from, to int // bytes of the body
	shift    int // of the bytes as a number of 64 bits
	mask     uint64
	big      bool
}

// selectorOf returns the selector of a signal that a document was checked to have.
func selectorOf(s *policy.Signal) selector {
	x := selector{mask: 1<<uint(s.Length) - 1, big: s.ByteOrder == policy.BigEndian}
	if !x.big {
		x.from, x.shift = s.StartBit/8, s.StartBit%8
		x.to = (s.StartBit+s.Length-1)/8 + 1
		return x
	}
	first := s.StartBit/8*8 + 7 - s.StartBit%8 // counted from the most significant bit of byte 0
	x.from, x.to = first/8, (first+s.Length-1)/8+1
	x.shift = x.to*8 - first - s.Length
	return x
}

func (x *selector) read(body []byte) (uint32, bool) {
	if x.to > len(body) {
		return 0, false
	}
	var b [8]byte
	n := copy(b[:], body[x.from:x.to])
	raw := binary.LittleEndian.Uint64(b[:])
	if x.big {
		raw = bits.ReverseBytes64(raw) >> uint(64-8*n)
	}
	return uint32(raw >> uint(x.shift) & x.mask), true
}
