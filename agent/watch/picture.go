// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"strings"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/loader"
)

// picture is what agent or kernel say, in one form, so that the screen stays when the agent goes.
type picture struct {
	buses   []busState
	nodes   []nodeState
	streams []streamState
}

type busState struct {
	name     string
	state    string // what asks for attention in capitals
	filter   string
	open     bool // the interface is there and not filtered
	used     uint64
	size     uint64 // 0: unknown
	verdicts map[string]uint64
}

type nodeState struct {
	name     string
	epochs   []string // "3 (5m)"
	epoch    uint32   // the newest; 0: none
	age      int64    // s of the newest; -1: unknown
	interval int64    // s; 0: unknown
	limit    int64
	verified uint64
}

type streamState struct {
	id        uint32
	bus       string
	canID     string
	source    string
	heartbeat bool
	periodMS  float64
	highest   uint64
	committed uint64
	published uint64
	missing   uint64
	deleted   uint64
	shed      uint64
	ageMS     int64 // -1: unknown
	late      []uint32
}

func newPicture(o *agent.Overview) picture {
	switch {
	case o == nil:
		return picture{}
	case o.Running:
		return ofAgent(o.Status)
	case o.Kernel != nil:
		return ofKernel(o.Kernel)
	}
	return picture{}
}

func ofAgent(s *agent.Status) (p picture) {
	for _, i := range s.Interfaces {
		b := busState{name: i.Name, state: i.Link.State, filter: i.Link.Hook, used: i.RingUsed, size: i.RingSize, verdicts: i.Verdicts}
		if b.state != agent.LinkUp {
			b.state = strings.ToUpper(b.state)
		}
		if c := i.Link.Controller; c != "" && c != loader.CANErrorActive.String() {
			b.state = strings.ToUpper(c)
		}
		if !i.Link.Attached {
			b.filter = "NONE"
			b.open = i.Link.State != agent.LinkAbsent
		}
		p.buses = append(p.buses, b)
	}
	for _, n := range s.Nodes {
		x := nodeState{name: n.Name, age: -1, interval: s.Keys.IntervalS, limit: s.Keys.LimitS, verified: n.Verified}
		for _, e := range n.Epochs {
			x.epoch, x.age = e.Number, e.AgeS
			x.epochs = append(x.epochs, fmt.Sprintf("epoch %d, agreed %s ago by %s, from counter %d", e.Number, span(e.AgeS), e.Method, e.Base))
		}
		p.nodes = append(p.nodes, x)
	}
	for _, t := range s.Streams {
		x := streamState{
			id: t.Stream, bus: t.Interface, canID: t.CANID, source: t.Source, heartbeat: t.Source == "", periodMS: t.PeriodMS, highest: t.Highest,
			committed: t.Committed, published: t.Published, missing: t.Missing, deleted: t.Deleted - t.Corrected, shed: t.Shed, ageMS: -1,
			late: t.LateParts,
		}
		if t.SampleAgeMS != nil {
			x.ageMS = *t.SampleAgeMS
		}
		if x.heartbeat {
			x.source = t.Role
		}
		p.streams = append(p.streams, x)
	}
	return p
}

func ofKernel(k *agent.KernelStatus) (p picture) {
	names := make(map[uint32]string)
	for _, i := range k.Interfaces {
		b := busState{name: i.Name, state: "-", filter: i.Hook, verdicts: i.Verdicts}
		if b.name == "" {
			b.name = fmt.Sprintf("slot %d", i.Slot)
		}
		if !i.Attached {
			switch i.State {
			case agent.StateNoLink:
				b.filter, b.open = "NONE", true
			case agent.StateGone:
				b.filter, b.state = "NONE", "ABSENT"
			case agent.StateElsewhere:
				b.filter = "other netns"
			default:
				b.filter = "unknown"
			}
		}
		if f := i.Rings["candidates"]; f.Used != nil {
			b.used, b.size = *f.Used, f.Size
		}
		names[i.Slot] = b.name
		p.buses = append(p.buses, b)
	}
	for _, n := range k.Nodes {
		x := nodeState{name: n.Name, age: -1, verified: n.Verified}
		if x.name == "" {
			x.name = fmt.Sprintf("node %d", n.Index)
		}
		for _, e := range n.Epochs {
			x.epoch = max(x.epoch, e.Number)
			x.epochs = append(x.epochs, fmt.Sprintf("epoch %d, from counter %d", e.Number, e.Base))
		}
		p.nodes = append(p.nodes, x)
	}
	for _, t := range k.Streams {
		x := streamState{
			id: t.Stream, bus: names[t.Interface], canID: t.CANID, source: t.Source, heartbeat: t.Role != "sample", highest: t.Highest,
			committed: t.Committed, published: t.Published, shed: t.Shed, ageMS: -1,
		}
		if x.source == "" {
			x.source = t.Role
		}
		p.streams = append(p.streams, x)
	}
	return p
}

// refusal says that a verdict is one of a frame that somebody should not have sent, or that was lost: everything but what lets
// through, hands on, accepts, or happens by itself.
func refusal(v loader.Verdict) bool {
	switch v {
	case loader.Passed, loader.ErrorFrame, loader.OwnEcho, loader.Candidate, loader.Control,
		loader.Accepted, loader.StartAccepted, loader.StartKnown, loader.Reread:
		return false
	}
	return true
}

// sums returns how many frames the filter has judged, and how many were accepted and refused.
func (b *busState) sums() (frames, accepted, refused uint64) {
	for v := range loader.NumVerdicts {
		n := b.verdicts[loader.Verdict(v).String()]
		if loader.Verdict(v) < loader.Accepted {
			frames += n
		}
		if refusal(loader.Verdict(v)) {
			refused += n
		}
	}
	return frames, b.verdicts[loader.Accepted.String()], refused
}

// span writes a number of seconds with its two greatest units.
func span(s int64) string {
	switch {
	case s < 0:
		return "-"
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
}
