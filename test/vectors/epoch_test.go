// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestNextEpochs(t *testing.T) {
	skipped, none := 0, 0
	for _, c := range committed(t).NextEpochs {
		// The lowest number above the floor whose low byte no acceptable epoch has; 257 candidates are more than enough.
		want := uint64(0)
		for n := uint64(c.Floor) + 257; n > uint64(c.Floor); n-- {
			free := n <= 0xFFFFFFFF
			for _, a := range c.Acceptable {
				free = free && n%256 != uint64(a)%256
			}
			if free {
				want = n
			}
		}
		if uint64(c.Next) != want {
			t.Errorf("floor %d, acceptable %v: %d, but by its description %d", c.Floor, c.Acceptable, c.Next, want)
		}
		switch {
		case c.Next == 0:
			none++
		case c.Next > c.Floor+1:
			skipped++
		}
	}
	if skipped == 0 || none == 0 {
		t.Errorf("%d cases skip a number and %d have none left; want some of both", skipped, none)
	}
}
