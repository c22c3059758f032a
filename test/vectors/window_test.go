// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
)

// rangeOK is the rule of counters in numbers that cannot wrap.
func rangeOK(base, counter uint64) bool {
	b, c := new(big.Int).SetUint64(base), new(big.Int).SetUint64(counter)
	limit := new(big.Int).Add(b, new(big.Int).Lsh(big.NewInt(1), 32))
	most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 48), big.NewInt(1))
	return c.Sign() > 0 && c.Cmp(b) >= 0 && c.Cmp(limit) <= 0 && c.Cmp(most) <= 0
}

func TestCounterRanges(t *testing.T) {
	for _, c := range committed(t).CounterRanges {
		want := outOfRange
		if rangeOK(c.Base, c.Counter) {
			want = inRange
		}
		if c.Verdict != want {
			t.Errorf("base %d, counter %d: %s, but by its description %s", c.Base, c.Counter, c.Verdict, want)
		}
	}
}

// model is a window as a set of all counters that were ever taken.
type model struct {
	size    uint64
	taken   map[uint64]bool
	highest uint64
}

func (m *model) take(counter uint64) string {
	switch {
	case counter+m.size <= m.highest:
		return "too_old"
	case m.taken[counter]:
		return "replay"
	}
	m.taken[counter] = true
	m.highest = max(m.highest, counter)
	return "fresh"
}

// words are those of the ring in which counter c has bit c mod 32 of word (c >> 5) mod 64, under the name c >> 11: of the
// counters that share a word those with the newest name count.
func (m *model) words() []windowWord {
	var out []windowWord
	for i := range uint64(64) {
		var name, bits uint64
		for c := range m.taken {
			if c/32%64 == i {
				name = max(name, c/2048)
			}
		}
		for c := range m.taken {
			if c/32%64 == i && c/2048 == name {
				bits |= 1 << (c % 32)
			}
		}
		if bits != 0 {
			out = append(out, windowWord{int(i), fmt.Sprintf("%08x%08x", name&0xFFFFFFFF, bits)})
		}
	}
	return out
}

func TestWindows(t *testing.T) {
	jumps := make(map[uint64]bool)
	for _, c := range committed(t).Windows {
		t.Run(c.Name, func(t *testing.T) {
			m := &model{size: uint64(c.Size), taken: make(map[uint64]bool)}
			for i, s := range c.Steps {
				before := m.highest
				want := outOfRange
				if rangeOK(c.Base, s.Counter) {
					want = m.take(s.Counter)
				}
				if s.Verdict != want || s.Highest != m.highest {
					t.Errorf("step %d, counter %d: %s and highest %d, but by its description %s and %d",
						i, s.Counter, s.Verdict, s.Highest, want, m.highest)
				}
				if before > 0 && m.highest > before {
					jumps[m.highest-before] = true
				}
			}
			if want := m.words(); !slices.Equal(c.Words, want) {
				t.Errorf("words are %v, but by their description %v", c.Words, want)
			}
		})
	}
	for _, want := range []uint64{1, 1023, 1024, 1 << 32} {
		if !jumps[want] {
			t.Errorf("no window jumps by %d", want)
		}
	}
}
