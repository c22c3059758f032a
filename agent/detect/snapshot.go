// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrSnapshot says that bytes are not the snapshot of such a stream.
var ErrSnapshot = errors.New("not a snapshot of this stream's times")

// numbers are how many numbers a snapshot begins with; the parts of a multiplexed array follow.
const numbers = 11 + floorsAhead

// Snapshot returns what is known of the stream, for a process that goes on with it on the same boot: little-endian words of 64 bits.
func (s *Stream) Snapshot() []byte {
	b := make([]byte, 0, 8*numbers)
	put := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	for _, v := range [...]uint64{s.first, s.span, s.counter, uint64(s.source)} {
		put(v)
	}
	for _, v := range [...]int64{s.elapsed, s.moved, s.came, s.base, s.baseAt, s.credit, s.seen} {
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
	s.first, s.span, s.counter, s.source = next(), next(), next(), uint32(next())
	s.elapsed, s.moved, s.came = int64(next()), past(), past()
	s.base, s.baseAt = int64(next()), past()
	s.credit = min(max(int64(next()), 0), s.burst)
	s.seen = past()
	// What a sample that is later than all that were heard is compared with is not later itself.
	s.moved, s.came, s.baseAt = min(s.moved, s.seen), min(s.came, s.seen), min(s.baseAt, s.seen)
	for i := range s.floors {
		s.floors[i] = next()
	}
	if s.mux != nil {
		for i := range s.mux.seen {
			s.mux.seen[i] = past()
		}
	}
	return nil
}
