// SPDX-License-Identifier: Apache-2.0

package event

import (
	"fmt"

	"github.com/cellward/cellward/agent/policy"
)

// Scope says what kind of thing an event is about.
type Scope uint8

// The scopes.
const (
	ScopeGateway Scope = iota // the gateway as a whole
	ScopeStream               // Index is the slot of the stream in the policy.Set
	ScopeBus                  // Index is the stable number of the interface
	ScopeNode                 // Index is the position of the node in the policy.Set
	ScopeSource               // Index is the position of the data source in the binding
)

var scopeNames = [...]string{"gateway", "stream", "bus", "node", "source"}

// String returns gateway, stream, bus, node or source.
func (s Scope) String() string {
	if int(s) < len(scopeNames) {
		return scopeNames[s]
	}
	return fmt.Sprintf("scope(%d)", uint8(s))
}

// ParseScope reads the name of a scope.
func ParseScope(name string) (Scope, bool) {
	for i := range scopeNames {
		if scopeNames[i] == name {
			return Scope(i), true
		}
	}
	return 0, false
}

// Subject is what an event is about. The zero value is the gateway.
type Subject struct {
	Scope Scope
	Index uint32
}

// Stream returns the subject of the stream in a slot.
func Stream(slot int) Subject { return Subject{ScopeStream, uint32(slot)} }

// Bus returns the subject of the interface with a number.
func Bus(index uint8) Subject { return Subject{ScopeBus, uint32(index)} }

// Node returns the subject of the node at a position.
func Node(index int) Subject { return Subject{ScopeNode, uint32(index)} }

// Source returns the subject of the data source at a position of the binding's list.
func Source(index int) Subject { return Subject{ScopeSource, uint32(index)} }

// maxBuses is one more than the greatest number of an interface.
const maxBuses = policy.MaxInterfaces + 1

// Directory knows the subjects of an installation. It does not change once made.
type Directory struct {
	set *policy.Set
	// bus is the position of an interface in set.Interfaces, and -1 where there is none.
	bus [maxBuses]int
	// Sensitivities: of a bus and a node, that of its most sensitive source.
	ofBus    [maxBuses]policy.Sensitivity
	ofNode   []policy.Sensitivity
	ofSource []policy.Sensitivity
	highest  policy.Sensitivity
	// source is the position of each stream's source in the binding, -1 for a heartbeat stream.
	source []int
}

// NewDirectory makes the directory of a policy and a binding.
func NewDirectory(set *policy.Set) *Directory {
	d := &Directory{set: set, ofNode: make([]policy.Sensitivity, len(set.Nodes)), ofSource: make([]policy.Sensitivity, len(set.Binding.Sources))}
	for i := range d.bus {
		d.bus[i] = -1
	}
	for i, f := range set.Interfaces {
		d.bus[f.Index] = i
	}
	position := make(map[uint32]int)
	for i, s := range set.Binding.Sources {
		position[s.ID] = i
		if p, ok := set.Policy.Source(s.Identifier); ok {
			d.ofSource[i] = p.Sensitivity
			d.highest = max(d.highest, p.Sensitivity)
		}
	}
	for _, s := range set.Streams {
		at, ok := position[s.SourceID]
		if !ok {
			at = -1
		}
		d.source = append(d.source, at)
		d.ofBus[s.Interface.Index] = max(d.ofBus[s.Interface.Index], s.Sensitivity)
		d.ofNode[s.Node] = max(d.ofNode[s.Node], s.Sensitivity)
	}
	return d
}

// Set returns the documents behind the directory.
func (d *Directory) Set() *policy.Set { return d.set }

// rows is how many subjects there are.
func (d *Directory) rows() int {
	return 1 + len(d.set.Streams) + len(d.set.Interfaces) + len(d.set.Nodes) + len(d.set.Binding.Sources)
}

// row numbers a subject. ok is false for one that the directory does not have.
func (d *Directory) row(s Subject) (row int, ok bool) {
	i, base := int(s.Index), 1
	switch s.Scope {
	case ScopeGateway:
		return 0, i == 0
	case ScopeStream:
		return base + i, i < len(d.set.Streams)
	case ScopeBus:
		if i >= maxBuses || d.bus[i] < 0 {
			return 0, false
		}
		return base + len(d.set.Streams) + d.bus[i], true
	case ScopeNode:
		return base + len(d.set.Streams) + len(d.set.Interfaces) + i, i < len(d.set.Nodes)
	case ScopeSource:
		return base + len(d.set.Streams) + len(d.set.Interfaces) + len(d.set.Nodes) + i, i < len(d.set.Binding.Sources)
	}
	return 0, false
}

// subject is the inverse of row.
func (d *Directory) subject(row int) Subject {
	if row == 0 {
		return Subject{}
	}
	row--
	for _, part := range [...]struct {
		scope Scope
		n     int
	}{{ScopeStream, len(d.set.Streams)}, {ScopeBus, len(d.set.Interfaces)}, {ScopeNode, len(d.set.Nodes)}, {ScopeSource, len(d.set.Binding.Sources)}} {
		if row < part.n {
			if part.scope == ScopeBus {
				return Bus(d.set.Interfaces[row].Index)
			}
			return Subject{part.scope, uint32(row)}
		}
		row -= part.n
	}
	return Subject{}
}

// Sources returns the positions of the data sources that an event about s concerns: that of a sample stream, those of a node
// or bus, all for the gateway. A heartbeat stream concerns all sources of its node on its bus.
func (d *Directory) Sources(s Subject) []int {
	if _, ok := d.row(s); !ok {
		return nil
	}
	if s.Scope == ScopeSource {
		return []int{int(s.Index)}
	}
	seen := make([]bool, len(d.ofSource))
	var all []int
	for slot := range d.set.Streams {
		t := &d.set.Streams[slot]
		at := d.source[slot]
		if at < 0 || seen[at] || !d.concerns(s, slot, t) {
			continue
		}
		seen[at] = true
		all = append(all, at)
	}
	return all
}

// concerns says whether what happens to s bears on a sample stream.
func (d *Directory) concerns(s Subject, slot int, t *policy.ResolvedStream) bool {
	switch s.Scope {
	case ScopeGateway:
		return true
	case ScopeStream:
		if int(s.Index) == slot {
			return true
		}
		h := &d.set.Streams[s.Index]
		return h.Role == policy.RoleHeartbeat && h.Node == t.Node && h.Interface.Index == t.Interface.Index
	case ScopeBus:
		return t.Interface.Index == uint8(s.Index)
	case ScopeNode:
		return t.Node == int(s.Index)
	}
	return false
}

// sensitivity returns that of the subject's most sensitive source.
func (d *Directory) sensitivity(s Subject) policy.Sensitivity {
	switch s.Scope {
	case ScopeStream:
		t := &d.set.Streams[s.Index]
		if t.Role == policy.RoleHeartbeat {
			return d.ofNode[t.Node]
		}
		return t.Sensitivity
	case ScopeBus:
		return d.ofBus[s.Index]
	case ScopeNode:
		return d.ofNode[s.Index]
	case ScopeSource:
		return d.ofSource[s.Index]
	}
	return d.highest
}

// describe fills in what is known of a record's subject.
func (d *Directory) describe(r *Record) {
	if _, ok := d.row(r.Subject); !ok {
		return
	}
	r.Sensitivity = d.sensitivity(r.Subject)
	r.Severity = severity(r.Kind, r.Sensitivity)
	d.Locate(r.Subject, r)
}

// Locate fills in where a subject is: interface, identifier, stream, source and node, as far as it has them.
func (d *Directory) Locate(s Subject, r *Record) {
	if _, ok := d.row(s); !ok {
		return
	}
	switch s.Scope {
	case ScopeStream:
		t := &d.set.Streams[s.Index]
		r.Interface, r.Bus, r.Carrier = t.Interface.Name, t.Interface.Index, string(t.Interface.Carrier)
		r.CANID, r.HasCANID, r.Stream = t.CANID, true, t.ID
		r.Source, r.Node = t.Source, d.set.Nodes[t.Node].Name
		r.Window.Size = t.WindowSize
	case ScopeBus:
		i := d.set.Interfaces[d.bus[s.Index]]
		r.Interface, r.Bus, r.Carrier = i.Name, i.Index, string(i.Carrier)
	case ScopeNode:
		r.Node = d.set.Nodes[s.Index].Name
	case ScopeSource:
		r.Source = d.set.Binding.Sources[s.Index].Identifier
	}
}
