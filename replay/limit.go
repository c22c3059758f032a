// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"fmt"
)

const (
	// MaxCounter is the largest counter of a stream: 48 bits, never wrapping.
	MaxCounter = 1<<48 - 1
	// EpochSpan is how far above its epoch's base a counter may lie, the limit
	// of frames under one key.
	EpochSpan = 1 << 32
)

// Errors of CheckRange; each wraps ErrCounterRange (verdict counter_range).
var (
	ErrCounterRange = errors.New("counter outside its epoch")
	ErrCounterZero  = fmt.Errorf("%w: counter 0 does not exist", ErrCounterRange)
	ErrBelowBase    = fmt.Errorf("%w: below the epoch's base", ErrCounterRange)
	ErrAboveSpan    = fmt.Errorf("%w: more than 2^32 above the epoch's base", ErrCounterRange)
	ErrAboveMax     = fmt.Errorf("%w: above 2^48-1", ErrCounterRange)
)

// CheckRange tells whether an epoch with the given base (the floor of EAD_4, or
// the first counter of an HPKE reply) can have the counter. The kernel filter
// and the agent apply the same rule. It does not allocate.
func CheckRange(counter, base uint64) error {
	switch {
	case counter == 0:
		return ErrCounterZero
	case counter > MaxCounter:
		return ErrAboveMax
	case counter < base:
		return ErrBelowBase
	case counter-base > EpochSpan:
		return ErrAboveSpan
	}
	return nil
}
