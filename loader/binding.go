// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// Binding returns the hash of what gives the slots and indexes of the tables their meaning, as SetBinding left it; zero for new
// maps. Where it is not the one that the caller expects, nothing in the tables may be relied on: [Set.Renew].
func (s *Set) Binding() [32]byte { return s.meta.entries[0].BindingHash }

// SetBinding notes the hash. Its 32 bytes are no single store: a process killed in the middle leaves a hash that is nobody's,
// and so tables that the next one renews.
func (s *Set) SetBinding(hash [32]byte) { s.meta.entries[0].BindingHash = hash }

// Renew makes the tables those of a gateway that has just booted, but for streams, verdict counters and rings: Fresh is true
// from now on. No epoch is acceptable when it returns, so everything on a protected identifier is refused.
//
// The mark goes first, so that a process killed in here leaves tables that are renewed again, and the epochs go before the
// windows, so that at no instant a window is empty under an epoch that the filter accepts.
func (s *Set) Renew() {
	atomic.StoreUint32(&s.meta.entries[0].Ready, 0)
	s.SetBinding([32]byte{})
	for i := range s.epochs.entries {
		s.ResetNode(i)
	}
	for i := range s.windows.entries {
		s.ResetStream(i)
	}
}

// ResetNode empties everything about the node of an index: its epochs are closed before the starts are forgotten.
func (s *Set) ResetNode(index int) {
	t := &s.starts.entries[index]
	for i := range NodeEpochs {
		s.epochs.entries[index].Retire(i)
		t.Epoch(i).Reset(0)
	}
	t.HighestVerified.Store(0)
}

// ResetStream empties window and counters of a stream slot. Nothing may be accepted by that window: its slot is in no entry of
// the stream table, or its node has no epoch.
func (s *Set) ResetStream(slot int) {
	w := &s.windows.entries[slot]
	// The hint first: the filter takes what it says as committed.
	w.HighestHint.Store(0)
	for i := range w.Words {
		atomic.StoreUint64(&w.Words[i], 0)
	}
	// Published before Committed: a kill in between counts too many as lost, and never too few.
	w.Published.Store(0)
	w.Committed.Store(0)
	s.shed.entries[slot].Store(0)
	s.refused.entries[slot].reset()
	s.wanted.entries[slot].reset()
}

// Pinned lists the interface slots that have pins, in ascending order, whether or not this process has attached them.
func (s *Set) Pinned() ([]uint32, error) {
	slots, err := pinnedSlots(s.root)
	slices.Sort(slots)
	return slots, err
}

// Detach takes the filter off the interface of a slot and removes its pins: it opens that bus. Where this process has attached
// it, the bus with its rings stays open until [Set.Release], so that what lies in them can still be taken.
func (s *Set) Detach(slot uint32) error {
	unlock, err := lockFolder(s.root)
	if err != nil {
		return err
	}
	defer unlock()
	var ns *Netns // that of the caller, unless the bus says another
	for _, b := range s.buses {
		if b.slot == slot {
			ns = b.opts.Netns
		}
	}
	if err := ns.Do(func() error { return detachBus(s.busPins(slot), slot) }); err != nil {
		return fmt.Errorf("detach interface slot %d: %w", slot, err)
	}
	return nil
}

// ErrNotOurs says that a bus was not attached through this set, or was released before.
var ErrNotOurs = errors.New("bus is not of this set")

// Release gives back memory and file descriptors of a bus. Nobody may use it or its rings any more.
func (s *Set) Release(b *Bus) error {
	i := slices.Index(s.buses, b)
	if i < 0 {
		return fmt.Errorf("release %s: %w", b.name, ErrNotOurs)
	}
	s.buses = slices.Delete(s.buses, i, i+1)
	if err := b.close(); err != nil {
		return fmt.Errorf("release %s: %w", b.name, err)
	}
	return nil
}
