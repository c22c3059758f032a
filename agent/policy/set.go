// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Role says what a stream carries. The values are those of the data path's stream table.
type Role uint8

// The roles.
const (
	RoleSample    Role = 0
	RoleHeartbeat Role = 1 // heartbeats and start records
)

// String returns "sample" or "heartbeat".
func (r Role) String() string {
	switch r {
	case RoleSample:
		return "sample"
	case RoleHeartbeat:
		return "heartbeat"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// MarshalText implements [encoding.TextMarshaler].
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Set is a policy and a binding that fit each other, resolved: every reference replaced by what it refers to, in
// dense tables whose order does not depend on the order of the documents.
type Set struct {
	Policy     *Policy
	Binding    *Binding
	Interfaces []Interface      // ascending by Index
	Nodes      []ResolvedNode   // ascending by Name; position is ResolvedNode.Index
	Streams    []ResolvedStream // ascending by ID, heartbeat streams included; position is ResolvedStream.Slot
	// PolicySum and BindingSum are SHA-256 over the texts that the documents were read from, zeros where there were none.
	PolicySum, BindingSum [32]byte
}

// ResolvedNode is a node of a Set.
type ResolvedNode struct {
	Index       int
	Name        string
	Identity    Identity
	BindingHash [32]byte
	Slots       []int // positions of its streams in Set.Streams, ascending
}

// ResolvedStream is a stream of a Set.
type ResolvedStream struct {
	Slot        int
	ID          uint32
	Role        Role
	Node        int // position in Set.Nodes
	Interface   Interface
	CANID       CANID
	SourceID    uint32        // HeartbeatSource for a heartbeat stream
	Source      string        // "" for a heartbeat stream
	Sensitivity Sensitivity   // 0 for a heartbeat stream
	Rate        Rate          // zero for a heartbeat stream
	Period      time.Duration // between two frames
	WindowSize  int           // of the replay window, in counters
	MaxBody     int           // bytes
	Signals     []Signal
}

// Load reads a policy and a binding, checks each in itself and the binding against the policy, and resolves them. It
// reports the errors of both documents, and those of the pair only when each is good.
func Load(policyPath, bindingPath string) (*Set, error) {
	p, errPolicy := load(policyPath, KindPolicy)
	b, errBinding := load(bindingPath, KindBinding)
	if err := joinErrors(errPolicy, errBinding); err != nil {
		return nil, err
	}
	return bindTexts(p, b)
}

// bindTexts binds two documents and notes what their texts were.
func bindTexts(p, b *parsed) (*Set, error) {
	s, err := bindParsed(p.policy(), b)
	if err != nil {
		return nil, err
	}
	s.PolicySum, s.BindingSum = sha256.Sum256(p.report.src.data), sha256.Sum256(b.report.src.data)
	return s, nil
}

// File is the text of a document and the name that errors give it.
type File struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// ReadFile reads a document without looking into it, as far as a document may reach: a longer one is refused when it is parsed.
func ReadFile(path string) (File, error) {
	src, err := readSource(path)
	if err != nil {
		return File{}, err
	}
	return File{Name: path, Data: src.data}, nil
}

// ParseSet is Load for documents that were read before.
func ParseSet(policy, binding File) (*Set, error) {
	p, errPolicy := parse(newSource(policy.Name, policy.Data), KindPolicy)
	b, errBinding := parse(newSource(binding.Name, binding.Data), KindBinding)
	if err := joinErrors(errPolicy, errBinding); err != nil {
		return nil, err
	}
	return bindTexts(p, b)
}

// Bind checks a binding against its policy and resolves the two. They must have been returned by a function of this
// package; errors name fields but no places.
func Bind(p *Policy, b *Binding) (*Set, error) {
	var errs []error
	for _, m := range compare(p, b) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrInvalid, m.path, m.message))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return resolve(p, b)
}

// bindParsed is Bind with errors that name places.
func bindParsed(p *Policy, b *parsed) (*Set, error) {
	for _, m := range compare(p, b.binding()) {
		b.places[m.path].errorf("%s", m.message)
	}
	if err := b.report.err(); err != nil {
		return nil, err
	}
	return resolve(p, b.binding())
}

// joinErrors keeps a list of errors one list.
func joinErrors(errs ...error) error {
	var all Errors
	for _, err := range errs {
		var some Errors
		if err == nil {
			continue
		} else if !errors.As(err, &some) {
			return errors.Join(errs...)
		}
		all = append(all, some...)
	}
	if all == nil {
		return nil
	}
	return all
}

// mismatch is something in a binding that does not fit its policy.
type mismatch struct{ path, message string }

// compare checks a binding against a policy. A data source that the policy wants protected and the binding does not
// know would be left unprotected unnoticed, so the lists must be the same.
func compare(p *Policy, b *Binding) []mismatch {
	if b.Policy != p.Name {
		return []mismatch{{"spec.policy", fmt.Sprintf("the binding is for policy %q; the policy given is %q", b.Policy, p.Name)}}
	}
	var all []mismatch
	for i, s := range b.Sources {
		if _, ok := p.Source(s.Identifier); !ok {
			all = append(all, mismatch{fmt.Sprintf("spec.sources[%d].identifier", i),
				fmt.Sprintf("policy %q has no data source %q", p.Name, s.Identifier)})
		}
	}
	for _, s := range p.DataSources {
		if _, ok := b.source(s.Identifier); !ok {
			all = append(all, mismatch{"spec.sources", fmt.Sprintf("data source %q of policy %q is missing", s.Identifier, p.Name)})
		}
	}
	return all
}

func resolve(p *Policy, b *Binding) (*Set, error) {
	s := &Set{Policy: p, Binding: b, Interfaces: slices.Clone(b.Interfaces)}
	slices.SortFunc(s.Interfaces, func(x, y Interface) int { return cmp.Compare(x.Index, y.Index) })
	nodes := slices.Clone(b.Nodes)
	slices.SortFunc(nodes, func(x, y Node) int { return cmp.Compare(x.Name, y.Name) })
	for i, n := range nodes {
		hash, err := b.BindingHash(n.Name)
		if err != nil {
			return nil, err
		}
		s.Nodes = append(s.Nodes, ResolvedNode{Index: i, Name: n.Name, Identity: n.Identity, BindingHash: hash})
		for _, h := range n.Heartbeats {
			iface, _ := b.iface(h.Interface) // BindingHash has looked at every reference
			s.Streams = append(s.Streams, ResolvedStream{
				ID: h.StreamID, Role: RoleHeartbeat, Node: i, Interface: iface, CANID: h.CANID, SourceID: HeartbeatSource,
				Period: HeartbeatPeriod, WindowSize: p.Transport.ReplayProtection.WindowSize, MaxBody: iface.Carrier.MaxBody(),
			})
		}
		for _, t := range n.Streams {
			iface, _ := b.iface(t.Interface)
			source, _ := b.source(t.Source)
			protected, _ := p.Source(t.Source) // compare has looked
			rate := t.SamplingRate
			if rate.IsZero() {
				rate = protected.SamplingRate
			}
			s.Streams = append(s.Streams, ResolvedStream{
				ID: t.StreamID, Role: RoleSample, Node: i, Interface: iface, CANID: t.CANID, SourceID: source.ID,
				Source: t.Source, Sensitivity: protected.Sensitivity, Rate: rate, Period: rate.Period,
				WindowSize: p.Transport.ReplayProtection.WindowSize, MaxBody: iface.Carrier.MaxBody(), Signals: t.Signals,
			})
		}
	}
	slices.SortFunc(s.Streams, func(x, y ResolvedStream) int { return cmp.Compare(x.ID, y.ID) })
	for slot := range s.Streams {
		t := &s.Streams[slot]
		t.Slot = slot
		s.Nodes[t.Node].Slots = append(s.Nodes[t.Node].Slots, slot)
	}
	return s, nil
}

// Stream returns the stream of an id.
func (s *Set) Stream(id uint32) (ResolvedStream, bool) {
	i := sort.Search(len(s.Streams), func(i int) bool { return s.Streams[i].ID >= id })
	if i == len(s.Streams) || s.Streams[i].ID != id {
		return ResolvedStream{}, false
	}
	return s.Streams[i], true
}

// Node returns the node of a name.
func (s *Set) Node(name string) (ResolvedNode, bool) {
	i := sort.Search(len(s.Nodes), func(i int) bool { return s.Nodes[i].Name >= name })
	if i == len(s.Nodes) || s.Nodes[i].Name != name {
		return ResolvedNode{}, false
	}
	return s.Nodes[i], true
}
