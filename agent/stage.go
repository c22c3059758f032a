// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"
	"math"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

// The two loops over a batch, before and after its tags. What they do themselves is what the frame of every day needs; for all
// else, and wherever anything is not as expected, they ask find and verified, which state the rules. The loops themselves call
// nothing, so that all that they go by stays in registers.

// lookUp finds stream, epoch and key of every record and lays the rest down as operations for the engine.
func (c *core) lookUp(batch []loader.Record, again bool) (n int) {
	c.inOrder = true
	for {
		if c.inOrder {
			since := int64(math.MinInt64)
			if n > 0 {
				since = c.candidates[n-1].time
			}
			taken := c.lookUpInOrder(batch, n, since)
			n += taken
			batch = batch[taken:]
		}
		taken := c.lookUpByLanes(batch, n)
		n += taken
		c.inOrder = c.inOrder && taken == 0
		if batch = batch[taken:]; len(batch) == 0 {
			return n
		}
		var j job
		r, x := batch[0], &c.candidates[n]
		if verdict := c.find(r, again, &j, &c.ops[n]); verdict != loader.Candidate {
			c.tally[verdict]++
			c.refused(r, verdict)
		} else {
			x.header, x.time = j.counter<<16|uint64(j.pad)<<4, j.time
			x.place(uint32(j.stream.slot), r.SPDULen(), uint32(j.stream.Slot), j.live.state.Number)
			c.inOrder = false
			n++
		}
		batch = batch[1:]
	}
}

// lookUpByLanes is lookUp for records up to the first that no lane answers for. n are laid down already.
func (c *core) lookUpByLanes(batch []loader.Record, n int) int {
	lanes, runs := c.lanes, c.nRuns
	for i, r := range batch {
		h := r.Head()
		slot := h.Slot()
		if int(slot) >= len(lanes) {
			c.nRuns = runs
			return i
		}
		// The header is read once: what is judged here is what the candidate goes by, and the engine sees whether it was
		// sealed so.
		l, header, size := &lanes[slot], h.Header(), h.SPDULen()
		counter := header >> 16
		if l.origin != h.Origin() || l.number != h.Epoch() || counter < l.next || counter >= l.end || !spdu.SampleFD(header, size) {
			c.nRuns = runs
			return i
		}
		x, op := &c.candidates[(n+i)&(BatchSize-1)], &c.ops[(n+i)&(BatchSize-1)]
		x.header, x.time = header, int64(h.TimeNS())
		x.place(slot, size, l.index, l.number)
		op.Key, op.Record = l.key, r.SealedBy(size)
		// Without a branch: which streams come first in a batch is nothing that a processor could guess.
		c.runs[runs&(BatchSize-1)] = slot
		runs += int(1 - l.seen)
		l.seen = 1
	}
	c.nRuns = runs
	return len(batch)
}

// commit takes the operations whose tag was right, good of n, through window, accounts and plaintext rules, in order, and lays
// the samples down for publication. Everything below the check of OK is authenticated; nothing above it moved any state.
//
// Frames of a stream that follow one another are a run: each is held against the lane, and what they change is changed once for
// all of them, by settle. So the batch is committed before it is published, as a whole, and what a kill can lose is no more.
func (c *core) commit(n, good int, again bool) (samples int, err error) {
	if good > 0 {
		if c.draft, err = c.out.Begin(good, c.candidates[n-1].time); err != nil {
			c.rewind()
			return 0, err
		}
		if c.inOrder && good == n && c.commitInOrder(n) {
			return n, nil
		}
		c.inOrder = false
		c.draft.FetchAhead()
	}
	c.rewind()
	for _, slot := range c.runs[:c.nRuns] {
		c.openRun(&c.lanes[slot], c.bySlot[slot])
	}
	for i := 0; ; i++ {
		k := c.commitRuns(i, n, samples)
		if i, samples = k, samples+k-i; i == n {
			break
		}
		x := &c.candidates[i]
		if !c.ops[i].OK {
			c.tally[loader.BadTag]++
			j := c.job(x)
			c.failed(&j, c.ops[i].Record)
			continue
		}
		if l := &c.lanes[x.slot]; l.limit == 0 && l.next == x.counter() && l.number == x.epoch {
			// The rules have closed its stream's run, or made it the first of many.
			if c.openRun(l, c.bySlot[x.slot]); l.limit != 0 {
				c.runs[c.nRuns&(BatchSize-1)] = x.slot
				c.nRuns++
				i--
				continue
			}
		}
		samples += c.commitByRules(i, samples, again)
	}
	c.settle()
	return samples, nil
}

// commitRuns is commit for operations from i on, up to the first that does not simply go on with a run, which it returns.
// before is how many of the operations in front of i were samples.
func (c *core) commitRuns(i, n, before int) int {
	if !c.draft.Open() {
		return i // no tag was right
	}
	// The index is all that one turn of the loop hands to the next.
	lanes, behind := c.lanes, before-i
	for ; i < n; i++ {
		op, x, text := &c.ops[i&(BatchSize-1)], &c.candidates[i&(BatchSize-1)], &c.text[i&(BatchSize-1)]
		if int(x.slot) >= len(lanes) {
			break
		}
		l, counter := &lanes[x.slot], x.counter()
		if !op.OK || counter != l.next || counter >= l.limit || x.epoch != l.number {
			break
		}
		length := c.padding.TextLength(text, op.N, x.pad())
		if length < 0 {
			break
		}
		l.next = counter + 1
		l.time = max(l.time, x.time)
		l.newest = uint32(i + behind)
		// Field by field: a composite literal would be built aside and copied.
		s := c.draft.At(i + behind)
		c.draft.Stamp(s, i+behind)
		s.Stream, s.Epoch, s.Counter, s.ReceiveTime = l.index, l.number, counter, x.time
		s.Describe(binary.LittleEndian.Uint32(text[spdu.TextFrontFD:]), 0, length)
		s.PutBody((*ring.BodyRoom)(text[spdu.TextFrontFD+spdu.SourceTimeSize:]), length)
	}
	return i
}

// openRun begins a run with the lane's next frame, if nothing stands in its way: no gap lies before it, no hole is open, and no
// ceiling is near. Nothing changes by it.
func (c *core) openRun(l *lane, s *stream) {
	l.limit, l.from, l.time = 0, l.next, 0
	if l.next <= l.easy && s.window.Follows(l.next) && s.gaps.Follows(l.next) {
		l.limit = l.easy + 1
	}
}

// settle does for all open runs what verified and account do for each of their frames. Counted before it is committed, as there.
func (c *core) settle() {
	for _, slot := range c.runs[:c.nRuns] {
		l, s := &c.lanes[slot], c.bySlot[slot]
		frames, last := l.next-l.from, l.next-1
		if l.limit = 0; frames == 0 {
			continue
		}
		l.from = l.next
		l.goOn(l.next)
		s.shared.Committed.Store(s.shared.Committed.Load() + frames)
		s.window.CommitRun(last)
		s.shared.HighestHint.Store(last)
		l.live.frames += frames
		s.node.verifiedUpTo(last)
		s.gaps.Run(last, l.time)
		l.samples += uint32(frames)
		c.tally[loader.Accepted] += frames
		c.touch(l, slot)
	}
	c.nRuns = 0
}

// touch notes that the batch has samples of a lane's stream.
func (c *core) touch(l *lane, slot uint32) {
	if !l.touched {
		l.touched = true
		c.touched = append(c.touched, slot)
	}
}

// commitByRules is commit for one operation whose tag was right. It lays down its sample behind the others, if it is one, and
// returns how many that are.
func (c *core) commitByRules(i, samples int, again bool) int {
	c.settle()
	op, x := &c.ops[i], &c.candidates[i]
	j := c.job(x)
	s := j.stream
	defer c.ease(s)
	verdict, body, sourceTime := c.verified(&j, op.Dst[:op.N], again)
	c.tally[verdict]++
	if verdict != loader.Accepted || s.heartbeat {
		c.judged(&j, op.Record, verdict)
		return 0
	}
	flags := ring.Flags(0)
	if j.gapBefore() {
		flags |= ring.FlagGapBefore
	}
	if j.live.state.Number > s.epoch {
		flags |= ring.FlagFirstOfEpoch
	}
	c.account(&j)
	y := c.draft.At(samples)
	c.draft.Stamp(y, samples)
	y.Stream, y.Epoch, y.Counter = uint32(s.Slot), j.live.state.Number, j.counter
	y.ReceiveTime = j.time
	y.Describe(sourceTime, flags, len(body))
	y.PutBody((*ring.BodyRoom)(c.text[i][spdu.TextFrontFD+spdu.SourceTimeSize:]), len(body))
	s.lane.samples++
	s.lane.newest = uint32(samples)
	c.touch(s.lane, x.slot)
	return 1
}

// job returns a candidate as the rules see it. Streams and epochs stay while a batch is on its way.
func (c *core) job(x *candidate) job {
	s := c.bySlot[x.slot]
	return job{stream: s, live: s.node.find(x.epoch), counter: x.counter(), pad: x.pad(), time: x.time}
}

// publish shows the samples that commit has laid down to every reader.
func (c *core) publish(samples int) (err error) {
	if c.draft.Open() {
		if len(c.newest) != len(c.touched) { // else the batch was in order
			lanes, touched := c.lanes, c.touched
			c.newest = c.newest[:len(touched)]
			for i, slot := range touched {
				c.newest[i] = lanes[slot].newest
			}
		}
		if c.waited {
			c.waited = false
			c.out.Restamp(&c.draft, samples)
		}
		err = c.out.End(&c.draft, samples, c.newest)
	}
	// After the tail was stored: a crash before this counts as lost what may just have come out, and never the other way.
	// Before anybody is woken, which takes longer and may hand the CPU over.
	lanes := c.lanes
	for _, slot := range c.touched {
		l := &lanes[slot]
		if err == nil {
			p := &l.stream.shared.Published
			p.Store(p.Load() + uint64(l.samples))
		}
		l.samples, l.touched = 0, false
	}
	c.touched, c.newest = c.touched[:0], c.newest[:0]
	return err
}
