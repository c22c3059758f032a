// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"testing"
	"time"
)

// TestRetune changes window and period of an account with open holes. Each is still reported once, by the rules of the new ones.
func TestRetune(t *testing.T) {
	g, err := NewGaps(GapOptions{Next: 1, Window: 1024, Period: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	g.Frame(10, 1e9, nil)  // 1 to 9 are missing, until 181 s
	g.Frame(100, 2e9, nil) // 11 to 99
	for _, bad := range []struct {
		window int
		period time.Duration
	}{{63, 0}, {1025, 0}, {64, -1}} {
		if _, err := g.Retune(bad.window, bad.period, nil); !errors.Is(err, ErrGapOptions) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if n := g.Missing(); n != 98 {
		t.Fatalf("missing %d", n)
	}
	// A narrow window leaves 37 to 100.
	out, err := g.Retune(64, time.Second, nil)
	if err != nil || len(out) != 2 || out[0] != (Report{1, 9, LeftWindow}) || out[1] != (Report{11, 36, LeftWindow}) {
		t.Fatalf("reports %v, %v", out, err)
	}
	g.Frame(102, 2e9, nil)
	// What is open ends by the shorter time, and no hole waits behind another.
	if at, ok := g.NextDeadline(); !ok || at != 5e9 {
		t.Fatalf("deadline %d, %v", at, ok)
	}
	if out := g.Tick(5e9, nil); len(out) == 0 || g.Missing() != 0 || g.Deleted() != 99 {
		t.Fatalf("reports %v, missing %d, deleted %d", out, g.Missing(), g.Deleted())
	}
}
