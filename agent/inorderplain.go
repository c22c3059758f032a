// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// The loops over a batch that is in order, step by step. On amd64 they are in assembly (inorder_amd64.s), with half the
// instructions; a test compares the two.

// maxRecord is how long a record is at most that carries a sample on CAN FD.
const maxRecord = 32 + 64

// lookUpInOrderPlain lays down candidates and operations for records up to the first that does not simply go on with its stream.
// n are laid down already. Nor does a record that is older than the one before it, the first of them than since.
func (c *core) lookUpInOrderPlain(batch []loader.Record, n int, since int64) int {
	lanes, runs := c.lanes, c.nRuns
	for i, r := range batch {
		if len(r) < maxRecord || n+i >= BatchSize {
			c.nRuns = runs
			return i
		}
		h := r.Head()
		slot := h.Slot()
		if int(slot) >= len(lanes) {
			c.nRuns = runs
			return i
		}
		l, header, size, time := &lanes[slot], h.Header(), h.SPDULen(), int64(h.TimeNS())
		masked := header & spdu.InOrderMask
		if l.origin != h.Origin() || l.number != h.Epoch() || masked != l.ahead || masked >= l.until || !spdu.SampleFD(header, size) ||
			time < since {
			c.nRuns = runs
			return i
		}
		x, op := &c.candidates[n+i], &c.ops[n+i]
		x.header, x.time, since = header, time, time
		x.place(slot, size, l.index, l.number)
		op.Key, op.Record = l.key, r.SealedBy(size)
		c.runs[runs&(BatchSize-1)] = slot
		runs += int(1 - l.seen)
		l.ahead = masked + 1<<16
		l.newest, l.seen = uint32(n+i), 1
	}
	c.nRuns = runs
	return len(batch)
}

// layDownInOrderPlain writes samples into their slots, up to the first whose plaintext is not well-formed, and returns how many.
// There are as many candidates and texts as the span has places, or more.
func layDownInOrderPlain(span *ring.Span, candidates []candidate, text []spdu.TextFD, padding *spdu.PaddingFD) int {
	for i := range span.N {
		x, t := &candidates[i], &text[i]
		length := padding.TextLength(t, int(x.size)-spdu.HeaderSize-spdu.TagSize, x.pad())
		if length < 0 {
			return i
		}
		s := span.At(i)
		s.Marker, s.PublishTime = span.Marker+uint64(i), span.PublishTime
		s.Stream, s.Epoch, s.Counter, s.ReceiveTime = x.index, x.epoch, x.counter(), x.time
		s.Describe(binary.LittleEndian.Uint32(t[spdu.TextFrontFD:]), 0, length)
		s.PutBody((*ring.BodyRoom)(t[spdu.TextFrontFD+spdu.SourceTimeSize:]), length)
	}
	return span.N
}

// settleInOrderPlain does for each run what settle does, and notes that the batch has samples of its stream, and the newest of them.
func (c *core) settleInOrderPlain() {
	lanes, candidates, runs := c.lanes, &c.candidates, c.runs[:c.nRuns]
	c.touched, c.newest = c.touched[:len(runs)], c.newest[:len(runs)]
	for i, slot := range runs {
		l := &lanes[slot]
		s, ahead := l.stream, l.ahead>>16
		p, n, last := s.shared, ahead-l.next, ahead-1
		c.touched[i], c.newest[i] = slot, l.newest
		l.next, l.seen, l.samples = ahead, 0, uint32(n)
		p.Committed.Store(p.Committed.Load() + n)
		s.window.CommitRun(last)
		p.HighestHint.Store(last)
		// The frames of a batch in order come in the order of their times.
		s.gaps.Run(last, candidates[l.newest&(BatchSize-1)].time)
		s.node.verifiedUpTo(last)
		l.live.frames += n
	}
}
