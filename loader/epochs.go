// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"structs"
	"sync/atomic"
)

const (
	epochLive   = 1
	epochShift  = 32
	counterBits = 48
)

// Errors of the epoch tables.
var (
	ErrEpochCongruent = errors.New("epoch shares its low 8 bits with another acceptable epoch")
	ErrInvalidEpoch   = errors.New("invalid epoch table entry")
)

// EpochTable is the acceptable epochs of one node in shared memory (struct cw_epochs). One goroutine may
// write; the filter reads at any moment.
type EpochTable struct {
	_    structs.HostLayout
	slot [NodeEpochs]struct {
		_    structs.HostLayout
		word atomic.Uint64
		base atomic.Uint64
	}
}

// Publish makes epoch acceptable from counter base on, in slot i.
//
// A slot in use is closed first: the filter must not see the new epoch with the old base or the other way
// round. Then base is stored and last, with one store, the word that makes both valid. Kill the process
// between any two of these stores and the slot is either as before, closed, or complete. A slot that holds just this already is
// not touched.
func (e *EpochTable) Publish(i int, epoch uint32, base uint64) error {
	if i < 0 || i >= NodeEpochs {
		return fmt.Errorf("%w: slot %d is not in 0 to %d", ErrInvalidEpoch, i, NodeEpochs-1)
	}
	if epoch == 0 {
		return fmt.Errorf("%w: epochs are numbered from 1", ErrInvalidEpoch)
	}
	if base == 0 || base >= 1<<counterBits {
		return fmt.Errorf("%w: base %d is not a counter", ErrInvalidEpoch, base)
	}
	// The frame shows only the low 8 bits. With two candidates the filter, and so the agent, would take
	// the wrong key for one of them.
	for j := range e.slot {
		if other, _, live := e.Load(j); live && j != i && uint8(other) == uint8(epoch) {
			return fmt.Errorf("publish epoch %d beside %d: %w", epoch, other, ErrEpochCongruent)
		}
	}
	if number, have, live := e.Load(i); live && number == epoch && have == base {
		return nil // closing it for an instant would cost the frame that comes in it
	}
	s := &e.slot[i]
	s.word.Store(0)
	s.base.Store(base)
	s.word.Store(uint64(epoch)<<epochShift | epochLive)
	return nil
}

// Retire closes slot i: from now on the filter refuses its epoch.
func (e *EpochTable) Retire(i int) { e.slot[i].word.Store(0) }

// Load returns what slot i holds. live is false for a closed slot.
func (e *EpochTable) Load(i int) (epoch uint32, base uint64, live bool) {
	word := e.slot[i].word.Load()
	if word&epochLive == 0 {
		return 0, 0, false
	}
	return uint32(word >> epochShift), e.slot[i].base.Load(), true
}
