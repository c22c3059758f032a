// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// The two loops over a batch, before and after its tags. What they do themselves is what the frame of every day needs; for all
// else, and wherever anything is not as expected, they ask find and verified, which state the rules.

// lookUp finds stream, epoch and key of every record and lays the rest down as operations for the engine.
func (c *core) lookUp(batch []loader.Record, again bool) int {
	n := 0
	streams := c.bySlot
	for _, r := range batch {
		j, op := &c.jobs[n&(BatchSize-1)], &c.ops[n&(BatchSize-1)]
		h := r.Head()
		if slot := h.Slot(); int(slot) < len(streams) {
			// The header is read once: what is judged here is what the job goes by, and the engine sees whether it was
			// sealed so. A counter above the highest is fresh.
			s, header, size := streams[slot], h.Header(), h.SPDULen()
			if s == nil {
				s = &c.nobody
			}
			l, counter := &s.lane, header>>16
			if l.origin == h.Origin() && l.number == h.Epoch() && l.live != nil && counter-l.first <= l.span &&
				counter > s.window.Highest() && spdu.SampleFD(header, size) {
				j.stream, j.live, j.counter, j.pad, j.time = s, l.live, counter, uint8(header>>4&15), int64(h.TimeNS())
				op.Key, op.Record = l.key, r.SealedBy(size)
				n++
				continue
			}
		}
		if verdict := c.find(r, again, j, op); verdict != loader.Candidate {
			c.tally[verdict]++
			c.refused(r, verdict)
			continue
		}
		n++
	}
	return n
}

// commit takes the operations whose tag was right through window, accounts and plaintext rules, in order, and lays the
// samples down for publication. Everything below the check of OK is authenticated; nothing above it moved any state.
func (c *core) commit(n int, again bool) (samples int) {
	accepted := uint64(0)
	for i := range n {
		op, j := &c.ops[i], &c.jobs[i]
		if !op.OK {
			c.tally[loader.BadTag]++
			c.failed(j, op.Record)
			continue
		}
		s, counter, text := j.stream, j.counter, &c.text[i]
		word, next := s.window.Next(counter)
		length := spdu.SampleTextFD(text, op.N, j.pad)
		if !next || j.live != s.lane.live || counter > s.lane.easy || length < 0 {
			samples += c.commitByRules(i, samples, again)
			continue
		}
		// What verified and account do for such a frame: it goes on where its stream is, no gap lies before it, and no ceiling
		// is near. Counted before it is committed, as there.
		s.shared.Committed.Store(s.shared.Committed.Load() + 1)
		s.window.CommitNext(counter, word)
		s.shared.HighestHint.Store(counter)
		j.live.frames++
		if counter > s.node.verified {
			s.node.verified = counter
			s.node.known.HighestVerified.Store(counter)
		}
		if !s.gaps.InOrder(counter, j.time) {
			c.collect(s, s.gaps.Frame(counter, j.time, c.reports[:0]))
		}
		// Field by field: a composite literal would be built aside and copied, which costs 4 ns a frame.
		x := &c.samples[samples]
		x.Stream, x.Epoch, x.Counter, x.SourceTime = s.lane.index, s.lane.number, counter, binary.LittleEndian.Uint32(text[:])
		x.Flags, x.ReceiveTime, x.Body = s.flags, j.time, text[spdu.SourceTimeSize:spdu.SourceTimeSize+length]
		c.owners[samples] = s
		samples++
		accepted++
	}
	c.tally[loader.Accepted] += accepted
	return samples
}

// commitByRules is commit for one operation whose tag was right. It lays down its sample behind the others, if it is one, and
// returns how many that are.
func (c *core) commitByRules(i, samples int, again bool) int {
	op, j := &c.ops[i], &c.jobs[i]
	s := j.stream
	defer c.ease(s)
	verdict, body, sourceTime := c.verified(j, op.Dst[:op.N], again)
	c.tally[verdict]++
	if verdict != loader.Accepted || s.heartbeat {
		c.judged(j, op.Record, verdict)
		return 0
	}
	x := &c.samples[samples]
	x.Flags = s.flags
	if j.gapBefore() {
		x.Flags |= ring.FlagGapBefore
	}
	if j.live.state.Number > s.epoch {
		x.Flags |= ring.FlagFirstOfEpoch
	}
	c.account(j)
	x.Stream, x.Epoch, x.Counter, x.SourceTime = uint32(s.Slot), j.live.state.Number, j.counter, sourceTime
	x.ReceiveTime, x.Body = j.time, body
	c.owners[samples] = s
	return 1
}
