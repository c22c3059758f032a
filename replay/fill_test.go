// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math/rand/v2"
	"testing"
)

// TestFill compares a filled window with one that has committed every counter the size can remember.
func TestFill(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tops := []uint64{1, 2, 31, 32, 33, 63, 64, 1023, 1024, 1025, 2047, 2048, 2049, 1 << 20, 1<<32 - 1, 1 << 43, MaxCounter - 3000}
	for range 200 {
		tops = append(tops, rng.Uint64N(1<<40)+1)
	}
	for _, top := range tops {
		var words [WordCount]uint64
		Fill(&words, top)
		w, err := New(&words, Options{Reference: top})
		if err != nil {
			t.Fatalf("top %d: %v", top, err)
		}
		if w.Highest() != top {
			t.Fatalf("top %d: highest is %d", top, w.Highest())
		}
		for back := range uint64(3000) {
			if back >= top {
				break
			}
			want := Seen
			if back >= MaxSize {
				want = TooOld
			}
			if got := w.Check(top - back); got != want {
				t.Fatalf("top %d: counter %d is %v, want %v", top, top-back, got, want)
			}
		}
		for ahead := uint64(1); ahead <= 2100 && top+ahead <= MaxCounter; ahead++ {
			if got := w.Check(top + ahead); got != Fresh {
				t.Fatalf("top %d: counter %d is %v, want fresh", top, top+ahead, got)
			}
		}
		if got := w.Commit(top + 1); got != Fresh {
			t.Fatalf("top %d: commit of the next is %v", top, got)
		}
	}
}
