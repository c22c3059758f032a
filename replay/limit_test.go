// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"testing"
)

func TestCheckRange(t *testing.T) {
	const top = MaxCounter
	for _, c := range []struct {
		name          string
		counter, base uint64
		want          error
	}{
		{"zero", 0, 1, ErrCounterZero},
		{"zero with base zero", 0, 0, ErrCounterZero},
		{"first", 1, 1, nil},
		{"base", 1000, 1000, nil},
		{"below base", 999, 1000, ErrBelowBase},
		{"last of the epoch", 1000 + EpochSpan, 1000, nil},
		{"behind the epoch", 1001 + EpochSpan, 1000, ErrAboveSpan},
		{"largest", top, top - 5, nil},
		{"above largest", top + 1, top - 5, ErrAboveMax},
		{"span cut by the largest", top, top - EpochSpan, nil},
		{"largest u64", ^uint64(0), 1, ErrAboveMax},
		{"base above all", top, top + 1, ErrBelowBase},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := CheckRange(c.counter, c.base)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("CheckRange(%d, %d) = %v, want %v", c.counter, c.base, err, c.want)
			}
			if err != nil && !errors.Is(err, ErrCounterRange) {
				t.Fatalf("%v does not wrap ErrCounterRange", err)
			}
		})
	}
}

func TestCheckRangeDoesNotAllocate(t *testing.T) {
	var sink error
	if n := testing.AllocsPerRun(100, func() { sink = CheckRange(5+EpochSpan, 1) }); n != 0 || sink == nil {
		t.Fatalf("%v allocations, error %v", n, sink)
	}
}
