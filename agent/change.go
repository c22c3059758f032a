// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/loader"
)

// Change is the difference that new documents make to a running agent, as `cellward apply -o json` prints it.
type Change struct {
	// Applied says that the agent runs by the new documents; Saved that what ended with the old ones is gone from the state folder,
	// too. It is retried every second while the folder cannot be written.
	Applied bool   `json:"applied"`
	Saved   bool   `json:"saved"`
	DryRun  bool   `json:"dry_run"`
	Policy  string `json:"policy"`
	Binding string `json:"binding"`

	Streams    StreamChanges     `json:"streams"`
	Nodes      NodeChanges       `json:"nodes"`
	Interfaces InterfaceChanges  `json:"interfaces"`
	Parameters []ParameterChange `json:"parameters"`
	// RingReplaced says that readers get a new ring: its stream table, size or socket changes. They read the old one to its end.
	RingReplaced bool `json:"ring_replaced"`
	// Agreements are the nodes that cannot be heard before new keys are agreed.
	Agreements []string `json:"agreements"`
	// Confirm is what is done only when it was confirmed.
	Confirm []string `json:"confirm"`
	// Refused is what cannot be changed while the agent runs, by name.
	Refused []string `json:"refused"`
	// PausedUS is for how long in microseconds no frame was taken from the rings, in which they waited.
	PausedUS int64 `json:"paused_us"`
	// Note is what else is worth knowing.
	Note string `json:"note,omitempty"`
}

// StreamChanges are streams by what becomes of them.
type StreamChanges struct {
	Added   []StreamChange `json:"added"`
	Removed []StreamChange `json:"removed"`
	Changed []StreamChange `json:"changed"`
	Kept    int            `json:"kept"`
}

// StreamChange is one stream.
type StreamChange struct {
	Stream    uint32   `json:"stream"`
	Node      string   `json:"node"`
	Interface string   `json:"interface"`
	CANID     string   `json:"id"`
	What      []string `json:"what,omitempty"` // fields that change
}

// NodeChanges are nodes by what becomes of them. Changed are those whose part of the binding has changed.
type NodeChanges struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
	Kept    int      `json:"kept"`
}

// InterfaceChanges are interfaces by what becomes of them.
type InterfaceChanges struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
}

// ParameterChange is a field of policy or gateway.
type ParameterChange struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// compare finds what changes from one set of documents to another.
func compare(old, next *policy.Set) *Change {
	c := &Change{
		Policy: next.Policy.Name, Binding: next.Binding.Name, Parameters: []ParameterChange{}, Agreements: []string{}, Confirm: []string{},
		Refused:    []string{},
		Streams:    StreamChanges{Added: []StreamChange{}, Removed: []StreamChange{}, Changed: []StreamChange{}},
		Nodes:      NodeChanges{Added: []string{}, Removed: []string{}, Changed: []string{}},
		Interfaces: InterfaceChanges{Added: []string{}, Removed: []string{}},
	}
	c.compareNodes(old, next)
	c.compareStreams(old, next)
	c.compareInterfaces(old, next)
	c.compareParameters(old, next)
	c.RingReplaced = !reflect.DeepEqual(ringConfig(old), ringConfig(next)) || old.Binding.Gateway.Ring.Socket != next.Binding.Gateway.Ring.Socket
	return c
}

func (c *Change) compareNodes(old, next *policy.Set) {
	for i := range next.Nodes {
		n := &next.Nodes[i]
		if _, ok := old.Node(n.Name); !ok {
			c.Nodes.Added = append(c.Nodes.Added, n.Name)
		} else if sameNode(old, n) != nil {
			c.Nodes.Kept++
			continue
		} else {
			c.Nodes.Changed = append(c.Nodes.Changed, n.Name)
		}
		c.Agreements = append(c.Agreements, n.Name)
	}
	for _, n := range old.Nodes {
		if _, ok := next.Node(n.Name); !ok {
			c.Nodes.Removed = append(c.Nodes.Removed, n.Name)
		}
	}
}

func (c *Change) compareStreams(old, next *policy.Set) {
	find := func(set *policy.Set, id uint32, node string) *policy.ResolvedStream {
		if s, ok := set.Stream(id); ok && set.Nodes[s.Node].Name == node {
			return &s
		}
		return nil
	}
	for i := range next.Streams {
		s := &next.Streams[i]
		n := &next.Nodes[s.Node]
		was := find(old, s.ID, n.Name)
		if was == nil {
			c.Streams.Added = append(c.Streams.Added, streamChange(next, s))
			continue
		}
		x := streamChange(next, s)
		x.What = differences(was, s)
		if sameNode(old, n) == nil {
			x.What = append(x.What, "agreement")
		}
		if len(x.What) == 0 {
			c.Streams.Kept++
		} else {
			c.Streams.Changed = append(c.Streams.Changed, x)
		}
	}
	for i := range old.Streams {
		s := &old.Streams[i]
		if find(next, s.ID, old.Nodes[s.Node].Name) == nil {
			c.Streams.Removed = append(c.Streams.Removed, streamChange(old, s))
		}
	}
	for _, s := range opened(old, next) {
		c.Confirm = append(c.Confirm, fmt.Sprintf("identifier %s on %s (stream %d) is protected no more", s.CANID, s.Interface.Name, s.ID))
	}
}

func streamChange(set *policy.Set, s *policy.ResolvedStream) StreamChange {
	return StreamChange{Stream: s.ID, Node: set.Nodes[s.Node].Name, Interface: s.Interface.Name, CANID: s.CANID.String()}
}

// differences names the fields in which two descriptions of a stream differ.
func differences(a, b *policy.ResolvedStream) (what []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"interface", a.Interface == b.Interface}, {"id", a.CANID == b.CANID}, {"role", a.Role == b.Role}, {"source", a.Source == b.Source && a.SourceID == b.SourceID},
		{"sensitivity", a.Sensitivity == b.Sensitivity}, {"samplingRate", a.Period == b.Period && a.Rate == b.Rate},
		{"windowSize", a.WindowSize == b.WindowSize}, {"maxBody", a.MaxBody == b.MaxBody},
		{"signals", len(a.Signals) == 0 && len(b.Signals) == 0 || reflect.DeepEqual(a.Signals, b.Signals)},
	} {
		if !f.same {
			what = append(what, f.name)
		}
	}
	return what
}

// opened returns the streams of old whose identifier is no stream's in next.
func opened(old, next *policy.Set) (all []*policy.ResolvedStream) {
	closed := make(map[loader.StreamKey]bool)
	for i := range next.Streams {
		closed[streamKey(&next.Streams[i])] = true
	}
	for i := range old.Streams {
		if s := &old.Streams[i]; !closed[streamKey(s)] {
			all = append(all, s)
		}
	}
	return all
}

func (c *Change) compareInterfaces(old, next *policy.Set) {
	byIndex := func(set *policy.Set, index uint8) *policy.Interface {
		for i := range set.Interfaces {
			if set.Interfaces[i].Index == index {
				return &set.Interfaces[i]
			}
		}
		return nil
	}
	for _, i := range next.Interfaces {
		was := byIndex(old, i.Index)
		switch {
		case was == nil:
			c.Interfaces.Added = append(c.Interfaces.Added, i.Name)
		case was.Name != i.Name:
			// The slot's rings hold frames of the one bus, and its link can be at one interface only.
			c.refuse("spec.interfaces", "index %d is %s and would be %s", i.Index, was.Name, i.Name)
		}
	}
	for _, i := range old.Interfaces {
		if byIndex(next, i.Index) == nil {
			c.Interfaces.Removed = append(c.Interfaces.Removed, i.Name)
		}
	}
}

func (c *Change) refuse(name, format string, args ...any) {
	c.Refused = append(c.Refused, name+": "+fmt.Sprintf(format, args...))
}

func (c *Change) compareParameters(old, next *policy.Set) {
	g, h := &old.Binding.Gateway, &next.Binding.Gateway
	for _, f := range []struct {
		name     string
		from, to any
		fixed    bool
	}{
		{"policy metadata.name", old.Policy.Name, next.Policy.Name, false},
		{"policy spec.keyManagement.rotationPolicy.interval", old.Policy.KeyManagement.RotationPolicy.Interval, next.Policy.KeyManagement.RotationPolicy.Interval, false},
		{"policy spec.transport.replayProtection.windowSize", old.Policy.Transport.ReplayProtection.WindowSize, next.Policy.Transport.ReplayProtection.WindowSize, false},
		{"metadata.name", old.Binding.Name, next.Binding.Name, false},
		{"spec.gateway.name", g.Name, h.Name, false},
		{"spec.gateway.grace", g.Grace, h.Grace, false},
		{"spec.gateway.ring.slots", g.Ring.Slots, h.Ring.Slots, false},
		{"spec.gateway.ring.socket", g.Ring.Socket, h.Ring.Socket, false},
		{"spec.gateway.identity", g.Identity.KID, h.Identity.KID, true},
		{"spec.gateway.tpm", g.TPM, h.TPM, true},
		{"spec.gateway.stateDirectory", g.StateDirectory, h.StateDirectory, true},
		{"spec.gateway.user", g.User, h.User, true},
		{"spec.gateway.bpffs", g.BPFFS, h.BPFFS, true},
		{"spec.gateway.candidateRing", g.CandidateRing, h.CandidateRing, true},
		{"spec.gateway.ring.group", g.Ring.Group, h.Ring.Group, true},
		{"spec.gateway.control.socket", g.Control.Socket, h.Control.Socket, true},
		{"spec.events", fmt.Sprint(old.Binding.Destinations), fmt.Sprint(next.Binding.Destinations), true},
	} {
		switch {
		case f.from == f.to:
		case f.fixed:
			c.refuse(f.name, "%v would be %v", f.from, f.to)
		default:
			c.Parameters = append(c.Parameters, ParameterChange{f.name, fmt.Sprint(f.from), fmt.Sprint(f.to)})
		}
	}
}

// ringConfig is what the ring of a set is made from.
func ringConfig(set *policy.Set) ring.Config {
	c := ring.Config{Slots: set.Binding.Gateway.Ring.Slots}
	for i := range set.Streams {
		s := &set.Streams[i]
		c.Streams = append(c.Streams, ringStream(s))
		c.BodyMax = max(c.BodyMax, s.MaxBody)
	}
	return c
}

// noteEpochs adds what becomes of the epochs of c's nodes. limit is the new one.
func (x *Change) noteEpochs(c *core, next *policy.Set, now, wall, limit int64) {
	for _, n := range c.nodes {
		changed, removed := slices.Contains(x.Nodes.Changed, n.name), slices.Contains(x.Nodes.Removed, n.name)
		for _, l := range n.live {
			switch {
			case changed:
				x.Confirm = append(x.Confirm, fmt.Sprintf("node %s: its part of the binding changes, so epoch %d ends and a new agreement is needed", n.name, l.state.Number))
			case removed:
				x.Confirm = append(x.Confirm, fmt.Sprintf("node %s: it is removed, so epoch %d ends", n.name, l.state.Number))
			case l.age(now, wall) > limit:
				x.Confirm = append(x.Confirm, fmt.Sprintf("node %s: epoch %d is older than the new limit of %v, so it ends and a new agreement is needed",
					n.name, l.state.Number, time.Duration(limit)))
			}
		}
	}
}

// WriteText says it in lines.
func (x *Change) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range []struct {
		sign string
		all  []StreamChange
	}{{"+", x.Streams.Added}, {"-", x.Streams.Removed}, {"~", x.Streams.Changed}} {
		for _, s := range l.all {
			fmt.Fprintf(t, "%s stream %d\t%s\t%s\t%s\t%s\n", l.sign, s.Stream, s.Node, s.Interface, s.CANID, strings.Join(s.What, ", "))
		}
	}
	for _, l := range []struct {
		sign, what string
		all        []string
	}{
		{"+", "node", x.Nodes.Added}, {"-", "node", x.Nodes.Removed}, {"~", "node", x.Nodes.Changed},
		{"+", "interface", x.Interfaces.Added}, {"-", "interface", x.Interfaces.Removed},
	} {
		for _, name := range l.all {
			fmt.Fprintf(t, "%s %s %s\n", l.sign, l.what, name)
		}
	}
	for _, p := range x.Parameters {
		fmt.Fprintf(t, "~ %s\t%s -> %s\n", p.Name, p.From, p.To)
	}
	if x.RingReplaced {
		fmt.Fprintf(t, "~ ring: readers read the present one to its end and get a new one\n")
	}
	fmt.Fprintf(t, "%d streams and %d nodes go on as they are\n", x.Streams.Kept, x.Nodes.Kept)
	for _, n := range x.Agreements {
		fmt.Fprintf(t, "node %s needs a new agreement: keys offer, enroll, accept\n", n)
	}
	for _, l := range []struct {
		what string
		all  []string
	}{{"TO BE CONFIRMED", x.Confirm}, {"NOT WHILE THE AGENT RUNS", x.Refused}} {
		for _, s := range l.all {
			fmt.Fprintf(t, "%s: %s\n", l.what, s)
		}
	}
	if x.Note != "" {
		fmt.Fprintf(t, "note: %s\n", x.Note)
	}
	switch {
	case x.Applied && !x.Saved:
		fmt.Fprintf(t, "applied; the state folder could not be written yet: see cellward status\n")
	case x.Applied:
		fmt.Fprintf(t, "applied\n")
	default:
		fmt.Fprintf(t, "nothing was changed\n")
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write change: %w", err)
	}
	return nil
}
