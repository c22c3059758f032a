// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrSnapshot says that bytes are not the snapshot of such a stream.
var ErrSnapshot = errors.New("not a snapshot of this stream's times")

// numbers are how many numbers a snapshot begins with; the parts of a multiplexed array follow.
const numbers = 11 + floorsAhead

// Snapshot returns what is known of the stream, for a process that goes on with it on the same boot: little-endian words of 64 bits.
// These are the first counter of the run and how many there are to its end (0: no run was heard), the highest counter and its source time
// in ms, and in ns the same time, unwrapped; when the first sample with this source time came and when the highest; the least difference
// between the clocks and when that was, for it grows by 200 ppm; the credit, and when the last frame came.
func (s *Stream) Snapshot() []byte {
	b := make([]byte, 0, 8*numbers)
	put := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	p := &s.pace
	for _, v := range [...]uint64{s.first, s.end - min(s.first, s.end), p.Next - 1, uint64(uint32(p.Source))} {
		put(v)
	}
	for _, v := range [...]int64{
		p.Source * Millisecond, p.Seen - s.movedBefore, p.Seen - s.cameBefore, p.Fastest - Level(p.Seen, 0) + p.Seen, p.Seen, s.credit, p.Seen,
	} {
		put(uint64(v))
	}
	for _, v := range s.floors {
		put(v)
	}
	if s.mux != nil {
		for _, v := range s.mux.seen {
			put(uint64(v))
		}
	}
	return b
}

// Restore goes on from a snapshot. Nothing in it is later than now, whatever it says. After an error the stream is as it was.
func (s *Stream) Restore(b []byte, now int64) error {
	parts := 0
	if s.mux != nil {
		parts = len(s.mux.seen)
	}
	if len(b) != 8*(numbers+parts) {
		return fmt.Errorf("%w: %d bytes, want %d", ErrSnapshot, len(b), 8*(numbers+parts))
	}
	next := func() uint64 {
		v := binary.LittleEndian.Uint64(b)
		b = b[8:]
		return v
	}
	past := func() int64 { return min(max(int64(next()), 0), now) }
	p := &s.pace
	first, span, counter, source := next(), next(), next(), int64(uint32(next()))
	s.first, s.end, p.Next, p.Source = first, first+min(span, math.MaxUint64-first), max(counter+1, first), source
	if span == 0 {
		s.end = 0
	}
	unwrapped, moved, came := int64(next()), past(), past()
	base, baseAt := int64(next()), past()
	s.credit = min(max(int64(next()), 0), s.burst)
	p.Seen = past()
	// What a sample that is later than all that were heard is compared with is not later itself.
	s.movedBefore, s.cameBefore, baseAt = p.Seen-min(moved, p.Seen), p.Seen-min(came, p.Seen), min(baseAt, p.Seen)
	p.Fastest = base + Level(baseAt, source) - baseAt + unwrapped
	for i := range s.floors {
		s.floors[i] = next()
	}
	if s.mux != nil {
		for i := range s.mux.seen {
			s.mux.seen[i] = past()
		}
	}
	s.fold()
	return nil
}
