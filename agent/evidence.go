// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// What the pipeline tells the event table. Nothing here decides about a frame.

// Refusing says whether a verdict is a security event: a frame on a protected identifier that was not what it should be, or
// that could not be looked at. The others are traffic as it should be: frames that pass, candidates on their way, and the
// repeats of start records that every node sends.
func Refusing(v loader.Verdict) bool {
	switch v {
	case loader.Passed, loader.ErrorFrame, loader.OwnEcho, loader.Candidate, loader.Control, loader.Accepted,
		loader.StartKnown, loader.StartAccepted, loader.Reread:
		return false
	default:
		return true
	}
}

// telling says whether a verdict is worth an event: one that refuses, and those by which a node or the agent has started again.
func telling(v loader.Verdict) bool {
	return Refusing(v) || v == loader.StartAccepted || v == loader.Reread
}

// tell notes a fact.
func (c *core) tell(n event.Note) {
	if c.notes != nil {
		c.notes.Note(&n)
	}
}

// refusals counts what was refused of a node, by verdict.
type refusals [loader.NumVerdicts]uint64

// refused takes note of a frame of the node that the agent refused.
func (n *node) refused(v loader.Verdict) {
	if Refusing(v) {
		n.refusals[v]++
	}
}

// refused takes note of a verdict on a record. One that is of no stream belongs to no node, and is an event of its bus.
func (c *core) refused(r loader.Record, v loader.Verdict) {
	s := c.at(r)
	if s != nil {
		s.node.refused(v)
	}
	if !telling(v) {
		return
	}
	n := event.Note{Kind: event.OfVerdict(v), Subject: event.Bus(uint8(r.Iface())), Time: int64(r.TimeNS()), Epoch: r.Epoch()}
	f := sealedFrame(policy.CANID(r.CANID()), r.SPDU())
	n.Frame = &f
	if s != nil {
		n.Subject, n.Highest = event.Stream(s.Slot), s.window.Highest()
		if v == loader.StartAccepted {
			n.Subject = event.Node(s.Node)
		}
	}
	if h, err := spdu.ParseHeader(r.SPDU()); err == nil {
		n.Counter = h.Counter
	}
	c.tell(n)
}

// failed takes note of a frame with a wrong tag.
func (c *core) failed(j *job, sealed []byte) {
	j.live.failed++
	c.judged(j, sealed, loader.BadTag)
}

// judged takes note of a verdict on a frame that the engine has looked at. sealed is what it was given.
func (c *core) judged(j *job, sealed []byte, v loader.Verdict) {
	s := j.stream
	s.node.refused(v)
	if !telling(v) {
		return
	}
	f := sealedFrame(s.CANID, sealed[spdu.PrefixSize:])
	c.tell(event.Note{
		Kind: event.OfVerdict(v), Subject: event.Stream(s.Slot), Time: j.time, Epoch: j.live.state.Number, Counter: j.counter,
		Highest: s.window.Highest(), Frame: &f,
	})
}

// sealedFrame is the CAN FD frame that an SPDU came in.
func sealedFrame(id policy.CANID, sealed []byte) (f loader.CANFrame) {
	f.ID, f.Len, f.Flags = uint32(id), uint8(min(len(sealed), len(f.Data))), loader.CANFDFDF
	copy(f.Data[:], sealed)
	return f
}

// collect takes note of deleted samples. What lies above all that has verified of the stream was named by a heartbeat alone: the
// tail is missing, or everything.
func (c *core) collect(s *stream, reports []replay.Report) {
	highest := s.window.Highest()
	for _, r := range reports {
		n := event.Note{Subject: event.Stream(s.Slot), Time: s.gaps.Now(), Epoch: s.epoch, Highest: highest}
		if r.First <= highest {
			n.Kind, n.Counter, n.LastCounter = kind.Deletion, r.First, min(r.Last, highest)
			n.Count = n.LastCounter - n.Counter + 1
			c.tell(n)
		}
		if r.Last > highest {
			n.Kind, n.Counter, n.LastCounter = kind.TailLoss, max(r.First, highest+1), r.Last
			n.Count = n.LastCounter - n.Counter + 1
			c.tell(n)
		}
	}
}

// begins tells the stream that its node has started again, or entered an epoch, with counters from floor on.
func (s *stream) begins(floor uint64) {
	s.gaps.SetFloor(floor)
	s.times.Begins(floor)
}

// found takes note of what is wrong with the time of a sample, and returns the flags that it gets for it.
func (c *core) found(s *stream, counter uint64, number uint32, received int64, found detect.Finding) (flags ring.Flags) {
	if found&(detect.Delayed|detect.Frozen) != 0 {
		flags = ring.FlagStale
	}
	for _, f := range [...]struct {
		finding detect.Finding
		kind    kind.Kind
	}{{detect.Delayed, kind.Delayed}, {detect.Frozen, kind.ClockFreeze}, {detect.Backward, kind.ClockBackward}, {detect.TooFast, kind.Rate}} {
		if found&f.finding != 0 {
			c.tell(event.Note{
				Kind: f.kind, Subject: event.Stream(s.Slot), Time: received, Epoch: number, Counter: counter, Highest: s.window.Highest(),
			})
		}
	}
	return flags
}

// overdue takes note of what should have come by now, once for each call while it lasts. A stream is expected once its node was
// heard, and where its bus works: what a bus that is down or off keeps back is the bus's event, not its streams'.
func (c *core) overdue(now int64, works func(bus uint8) bool) {
	for _, n := range c.nodes {
		heard := int64(0)
		for _, s := range n.streams {
			heard = max(heard, s.times.Seen())
		}
		for _, s := range n.streams {
			if heard == 0 || len(n.live) == 0 || !works(s.Interface.Index) {
				s.times.Excuse(now)
				continue
			}
			late := s.times.Late(now)
			k := kind.IncompleteSet
			switch {
			case late.Silent:
				k = kind.Silence
			case late.Missing == 0:
				continue
			}
			c.tell(event.Note{Kind: k, Subject: event.Stream(s.Slot), Time: now, Epoch: s.epoch, Counter: s.window.Highest(), Highest: s.window.Highest()})
		}
	}
}
