// SPDX-License-Identifier: Apache-2.0

package event

import (
	"slices"
	"sync/atomic"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/loader"
)

const (
	// framesPerKind bounds the frames that are kept of one kind. Each kind has a ring of its own, so that a flood of one
	// leaves the frames of all others where they are.
	framesPerKind = 64
	// framesPerTurn is how many frames of one kind and subject are kept between two records about them, so that a flood on one
	// stream leaves the frames of other streams.
	framesPerTurn = 4
)

// CapturedFrame is an offending frame.
type CapturedFrame struct {
	Kind    kind.Kind
	Subject Subject
	Boot    int64 // CLOCK_BOOTTIME in ns
	Frame   loader.CANFrame
}

// frameSlot holds a frame. seq is odd while somebody has it; whoever finds it so goes away instead of waiting.
type frameSlot struct {
	seq atomic.Uint32
	row uint32
	at  int64
	f   loader.CANFrame
}

// frameRing is the last frames of one kind.
type frameRing struct {
	next    atomic.Uint32
	skipped atomic.Uint64
	slots   [framesPerKind]frameSlot
}

// frameRef finds a frame again, as long as nothing has overwritten it.
type frameRef struct{ slot, seq uint32 } // slot from 1; 0 is none

// put keeps a frame, or counts it as skipped if the slot is in use at this very moment.
func (r *frameRing) put(row uint32, at int64, f *loader.CANFrame) frameRef {
	i := (r.next.Add(1) - 1) % framesPerKind
	s := &r.slots[i]
	seq := s.seq.Load()
	if seq&1 != 0 || !s.seq.CompareAndSwap(seq, seq+1) {
		r.skipped.Add(1)
		return frameRef{}
	}
	s.row, s.at, s.f = row, at, *f
	s.seq.Store(seq + 2)
	return frameRef{i + 1, seq + 2}
}

// take copies a slot. ok is false for one that is empty or in use.
func (r *frameRing) take(i uint32) (row uint32, at int64, f loader.CANFrame, seq uint32, ok bool) {
	s := &r.slots[i]
	seq = s.seq.Load()
	if seq == 0 || seq&1 != 0 || !s.seq.CompareAndSwap(seq, seq+1) {
		return 0, 0, f, 0, false
	}
	row, at, f = s.row, s.at, s.f
	s.seq.Store(seq)
	return row, at, f, seq, true
}

// get returns the frame of a reference, nil if it is gone.
func (r *frameRing) get(ref frameRef) *loader.CANFrame {
	if ref.slot == 0 {
		return nil
	}
	if _, _, f, seq, ok := r.take(ref.slot - 1); ok && seq == ref.seq {
		return &f
	}
	return nil
}

// Frames returns the offending frames that are kept, at most 64 of each kind, ordered by time.
func (t *Table) Frames() []CapturedFrame {
	var all []CapturedFrame
	for k := range t.frames {
		if t.frames[k] == nil {
			continue
		}
		for i := range uint32(framesPerKind) {
			if row, at, f, _, ok := t.frames[k].take(i); ok {
				all = append(all, CapturedFrame{kind.Kind(k), t.dir.subject(int(row)), at, f})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b CapturedFrame) int { return int(min(max(a.Boot-b.Boot, -1), 1)) })
	return all
}
