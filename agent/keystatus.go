// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/loader"
)

// dueAgain is how often it is said again that a key is to be replaced, in ns.
const dueAgain = int64(24 * time.Hour)

// dueFrames is how many frames may have been protected by a key before it is to be replaced.
const dueFrames = maxFrames / 2

// dueKey is a key that was said to be due.
type dueKey struct {
	node  string
	epoch uint32
}

// due says that the node's newest key is to be replaced: by its age, or by what it has protected.
func (c *core) due(n *node, now, wall, after int64) (*liveEpoch, bool) {
	if len(n.live) == 0 {
		return nil, false
	}
	l := n.live[len(n.live)-1]
	return l, l.age(now, wall) >= after || c.used(n, l) >= dueFrames
}

// reportDue says of each key that is to be replaced that it is, at once and then every day until a newer one is agreed.
func (a *Agent) reportDue(now, wall int64) {
	set := a.opts.Set
	for _, n := range a.core.nodes {
		l, due := a.core.due(n, now, wall, int64(rotateAfter(set)))
		if !due {
			continue
		}
		k := dueKey{n.name, l.state.Number}
		if last, said := a.due[k]; said && now-last < dueAgain {
			continue
		}
		if a.due == nil {
			a.due = make(map[dueKey]int64)
		}
		a.due[k] = now
		a.log.Warn("key is to be replaced: agree a newer one", "event", "key_due", "node", n.name, "epoch", k.epoch,
			"age_s", l.age(now, wall)/1e9, "refused_in_s", max(0, int64(hardLimit(set))-l.age(now, wall))/1e9)
		a.monitor.report(event.Record{Kind: kind.RotationOverdue, Subject: a.nodeSubject(n.name), Epoch: k.epoch})
	}
}

// Keys lists the keys of all nodes as they are between two batches.
func (a *Agent) Keys() *KeyList {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, wall := a.now(), time.Now().UnixNano()
	set := a.opts.Set
	l := ListKeys(set, a.state, time.Unix(0, wall))
	l.Via = ViaAgent
	for i := range l.Nodes {
		for _, n := range a.core.nodes {
			if n.name == l.Nodes[i].Node {
				a.describeKeys(n, &l.Nodes[i], now, wall, int64(rotateAfter(set)))
			}
		}
	}
	return l
}

// describeKeys adds what the pipeline knows of a node's keys to what the state says.
func (a *Agent) describeKeys(n *node, k *NodeKeys, now, wall, after int64) {
	k.Verified = n.verified
	k.Failures = make(map[string]uint64)
	for v, count := range n.refusals {
		if count > 0 {
			k.Failures[loader.Verdict(v).String()] = count
		}
	}
	newest, due := a.core.due(n, now, wall, after)
	for i := range k.Epochs {
		e := &k.Epochs[i]
		l := n.find(e.Number)
		if l == nil {
			continue // durable, and about to be taken up
		}
		frames, failed := l.frames, l.failed
		e.Frames, e.Failed, e.AgeS = &frames, &failed, l.age(now, wall)/1e9
		e.Due = due && l == newest
		e.State = a.core.describe(n, l)
	}
}

// describe says in what part of its life an epoch is.
func (c *core) describe(n *node, l *liveEpoch) string {
	for _, newer := range n.live {
		if newer.state.Number > l.state.Number && newer.promoted != 0 {
			return EpochSuperseded
		}
	}
	switch {
	case l.promoted != 0:
		return EpochInUse
	case len(l.starts) == 1 && l.starts[0].F == l.state.Base:
		// The start that comes with a reply carries no frames: the node announces another one before it sends.
		return EpochWaiting
	default:
		return EpochStarted
	}
}
