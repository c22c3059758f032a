// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

func TestParseAttacks(t *testing.T) {
	for _, c := range []struct{ list, want string }{
		{"insertion", "insertion"},
		{"deletion,delay", "deletion,delay"},
		{"delay,deletion,delay", "delay,deletion"},
		{"flood,deletion_tail,delay", "flood,deletion_tail,delay"},
		{"", "no such selection"},
		{"insertion,", "no such selection"},
		{"Deletion", "want of insertion, bit_flip, "},
		{"insertion,flood", "insertion and flood are noticed by the same events"},
		{"delay,deletion_all,deletion_mux", "deletion_all and deletion_mux are noticed by the same events"},
	} {
		got, err := ParseAttacks(c.list)
		if err != nil {
			if !errors.Is(err, ErrAttack) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: %v", c.list, err)
			}
		} else if s := strings.Join(got, ","); s != c.want {
			t.Errorf("%q: %q, want %q", c.list, s, c.want)
		}
	}
}

// TestForgedKinds: every kind of frame that an attack names is one that an attacker can make.
func TestForgedKinds(t *testing.T) {
	for _, a := range AllAttacks() {
		if n := len(newAttacker(1, a.forge, a.flood).kinds); a.forge != nil && n != len(a.forge) {
			t.Errorf("%s: %d of the kinds %v are known", a.Name, n, a.forge)
		}
	}
}

// sealedSample is a sample on the wire.
func sealedSample(id uint32, counter uint64) *frame {
	f := &frame{size: loader.CANFDMTU}
	f.ID, f.Len = id, 32
	spdu.Header{Kind: spdu.KindSample, Counter: counter}.Put(f.Data[:])
	return f
}

// TestTampering plays two identifiers past each deleting attack and looks at what it takes.
func TestTampering(t *testing.T) {
	const busy, idle, first = 0x100, 0x200, 65537
	bodies := make(map[target][][]byte)
	for i := range 400 {
		bodies[target{0, busy}] = append(bodies[target{0, busy}], []byte{byte(i % 4), 1})
	}
	for range 200 {
		bodies[target{0, idle}] = append(bodies[target{0, idle}], []byte{9})
	}
	for attack, want := range map[string]struct {
		samples uint64
		last    bool // of each identifier
	}{
		Deletion:        {600 * 2 / 3 / 25, false},
		"deletion_slow": {4, false},
		"deletion_mux":  {67, false}, // every fourth of 266
		"deletion_tail": {4, true},
		"deletion_all":  {100, false},
	} {
		x := newTampering([]string{attack}, bodies)
		taken := map[uint32][]uint64{}
		send := func(id uint32, counter uint64) {
			if x.take(nil, sealedSample(id, counter)) {
				taken[id] = append(taken[id], counter)
			}
		}
		for i := range uint64(200) {
			send(busy, first+2*i)
			send(busy, first+2*i+1)
			send(idle, first+i)
		}
		if x.samples != want.samples || len(x.when[attack]) != int(want.samples) || len(taken[busy])+len(taken[idle]) != int(want.samples) {
			t.Errorf("%s: %d taken, want %d", attack, x.samples, want.samples)
		}
		last := slices.Contains(taken[busy], first+399) && slices.Contains(taken[idle], first+199)
		if last != want.last {
			t.Errorf("%s: the last ones are taken: %v", attack, last)
		}
		if attack == "deletion_mux" && len(taken[idle]) > 0 {
			t.Errorf("%s: %v of another identifier", attack, taken[idle])
		}
	}
	if newTampering([]string{Insertion}, bodies) != nil {
		t.Error("insertion takes frames")
	}
}
