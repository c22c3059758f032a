// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"math/rand/v2"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// startRate is how many unknown start records of one node are verified in a second: each costs an HMAC, and anyone on the
// bus can send them.
const startRate = 32

// startBudget is a token bucket of startRate records a second.
type startBudget struct {
	tokens float64
	filled int64 // ns of CLOCK_BOOTTIME
}

func (b *startBudget) take(now int64) bool {
	if b.filled == 0 {
		b.tokens = startRate
	} else if now > b.filled {
		b.tokens = min(startRate, b.tokens+startRate*float64(now-b.filled)/1e9)
	}
	b.filled = max(b.filled, now)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// startRecords judges a batch of start records, each with exactly one verdict. They are looked at in random order, so that
// a flood leaves the budget to chance and not to whoever sends first.
func (c *core) startRecords(batch []loader.Record, now int64) {
	order := c.order[:0]
	for i := range batch {
		order = append(order, i)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, i := range order {
		r := batch[i]
		verdict := c.startRecord(r, now)
		c.count(r.Iface(), verdict)
		c.refused(r, verdict)
	}
	c.order = order[:0]
}

func (c *core) startRecord(r loader.Record, now int64) loader.Verdict {
	s := c.at(r)
	if s == nil || !s.heartbeat {
		return loader.AgentUnknownStream
	}
	n := s.node
	l := n.find(r.Epoch())
	if l == nil {
		return loader.AgentUnknownEpoch
	}
	record := r.Sealed()
	if l.knows(record) {
		return loader.StartKnown
	}
	if !n.budget.take(now) {
		return loader.StartShed
	}
	start, err := spdu.VerifyStart(record, spdu.FormFD, l.mac.Get())
	if err != nil {
		return loader.BadStart
	}
	// From here on the record is the node's own, but possibly an old recording, or the node's storage is an old copy. Only
	// a start above everything known of the node moves anything: otherwise a recorded record could take the gateway back
	// to keys whose counters were used, and a rolled-back node would be believed.
	if replay.CheckRange(start.F, l.state.Base) != nil || start.F <= n.verified {
		return loader.NodeRollback
	}
	for _, k := range l.starts {
		if start.F <= k.F {
			return loader.NodeRollback
		}
	}
	ls, err := l.derive(c.engine, epoch.Start{F: start.F, Random: start.Random}, n)
	if err != nil {
		return loader.BadStart
	}
	// The pinned note comes first: an agent that is killed behind it knows the start again.
	n.known.Epoch(l.slot).Put(loader.Start{First: start.F, Random: start.Random})
	l.add(ls)
	n.forget()
	for _, t := range n.streams {
		t.begins(start.F)
		c.ceilings.want(t.Slot, start.F)
	}
	// The node keeps still for 50 ms: time to write the start and the ceilings above it.
	c.ceilings.soon = true
	c.dirty = true
	return loader.StartAccepted
}
