// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/cellward/cellward/bpf/can"
)

// span is a number of bytes that lie at one place in a former value and at another in a new one. Where the new member is wider the
// rest stays zero, which on a little-endian machine, as all are, is the same number.
type span struct{ from, to, n int }

// lost is a member that the new layout has no room for, or only a part of.
type lost struct {
	name  string
	at, n int
	why   string
}

// valuePlan says how values of a map become those of another layout.
type valuePlan struct {
	spans []span
	// lost must be zero in every value, and then nothing is lost: a layout gives a member that it adds such a meaning that zero is what
	// was before (layout.asBefore), so one without the member means the same.
	lost []lost
	// counts are lost, and only tell what was.
	counts []lost
}

// apply writes the new value; to holds zeros.
func (p *valuePlan) apply(to, from []byte) {
	for _, s := range p.spans {
		copy(to[s.to:s.to+s.n], from[s.from:s.from+s.n])
	}
}

// judge returns the first member that would be lost with something in it.
func (p *valuePlan) judge(from []byte) *lost {
	for i := range p.lost {
		if l := &p.lost[i]; !isZero(from[l.at : l.at+l.n]) {
			return l
		}
	}
	return nil
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// countMaps hold nothing but counts: nothing is decided by them, so that one that has no name any more is dropped and not a reason to
// refuse, and a new one begins at 0.
func countMaps() []string {
	return []string{can.FilterMapAgentCounters, can.FilterMapFilterCounters, can.FilterMapStreamShed, can.FilterMapStreamRefused}
}

// growingArrays are the arrays in values that may be longer in another layout: their elements are told by their index alone, and a
// zero one is none. The length of any other has a meaning of its own, as that of a window's words has.
func growingArrays() []string { return []string{"epochs.slot", "starts.epoch"} }

// planner makes one plan.
type planner struct {
	plan     valuePlan
	asBefore map[string]string
	counts   bool // of a map of counts
}

// planValue compares two types by the names of their members. Errors name the member.
func planValue(name string, from, to btf.Type, asBefore map[string]string, counts bool) (*valuePlan, error) {
	p := &planner{asBefore: asBefore, counts: counts}
	if err := p.value(name, from, to, 0, 0); err != nil {
		return nil, err
	}
	p.plan.merge()
	return &p.plan, nil
}

// merge makes one of spans that lie behind one another.
func (p *valuePlan) merge() {
	merged := p.spans[:0]
	for _, s := range p.spans {
		if n := len(merged) - 1; n >= 0 && merged[n].from+merged[n].n == s.from && merged[n].to+merged[n].n == s.to {
			merged[n].n += s.n
			continue
		}
		merged = append(merged, s)
	}
	p.spans = merged
}

func (p *planner) value(name string, from, to btf.Type, at, place int) error {
	switch f := btf.UnderlyingType(from).(type) {
	case *btf.Struct:
		t, ok := btf.UnderlyingType(to).(*btf.Struct)
		if !ok {
			return differs(name, from, to)
		}
		return p.members(name, f, t, at, place)
	case *btf.Array:
		t, ok := btf.UnderlyingType(to).(*btf.Array)
		if !ok {
			return differs(name, from, to)
		}
		return p.elements(name, f, t, at, place)
	case *btf.Int:
		t, ok := btf.UnderlyingType(to).(*btf.Int)
		if !ok || f.Encoding != t.Encoding {
			return differs(name, from, to)
		}
		if t.Size < f.Size {
			p.spans(at, place, int(t.Size))
			return p.drop(name, at+int(t.Size), int(f.Size-t.Size), fmt.Sprintf("has %d bytes and had %d", t.Size, f.Size))
		}
		if f.Encoding == btf.Signed && t.Size > f.Size {
			return differs(name, from, to)
		}
		p.spans(at, place, int(f.Size))
		return nil
	default:
		return fmt.Errorf("%s is of a kind that is not copied: %v", name, f)
	}
}

func differs(name string, from, to btf.Type) error {
	return fmt.Errorf("%s is of another type: %v, was %v", name, btf.UnderlyingType(to), btf.UnderlyingType(from))
}

func (p *planner) spans(at, place, n int) {
	p.plan.spans = append(p.plan.spans, span{at, place, n})
}

func (p *planner) drop(name string, at, n int, why string) error {
	l := lost{name, at, n, why}
	if p.counts {
		p.plan.counts = append(p.plan.counts, l)
	} else {
		p.plan.lost = append(p.plan.lost, l)
	}
	return nil
}

func (p *planner) members(name string, from, to *btf.Struct, at, place int) error {
	for _, m := range from.Members {
		if m.Name == "" || m.BitfieldSize != 0 {
			return fmt.Errorf("%s has a member that is not copied: %q", name, m.Name)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", name, m.Name, err)
		}
		path, start := name+"."+m.Name, at+int(m.Offset.Bytes())
		t := member(to, m.Name)
		if t == nil || isReserved(m.Name) {
			if err := p.drop(path, start, size, "is gone"); err != nil {
				return err
			}
			continue
		}
		if err := p.value(path, m.Type, t.Type, start, place+int(t.Offset.Bytes())); err != nil {
			return err
		}
	}
	for _, m := range to.Members {
		path := name + "." + m.Name
		if isReserved(m.Name) || p.counts || member(from, m.Name) != nil {
			continue
		}
		if p.asBefore[path] == "" {
			return fmt.Errorf("%s is new, and nothing says that zero means what was before", path)
		}
	}
	return nil
}

func member(s *btf.Struct, name string) *btf.Member {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	return nil
}

// isReserved says that a member has no meaning yet: it is zero, and where it is not, somebody has given it one.
func isReserved(name string) bool { return strings.HasPrefix(name, "reserved") }

func (p *planner) elements(name string, from, to *btf.Array, at, place int) error {
	size, err := btf.Sizeof(from.Type)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	step, err := btf.Sizeof(to.Type)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	n := from.Nelems
	if to.Nelems != n {
		grows := false
		for _, g := range growingArrays() {
			grows = grows || g == name
		}
		if !grows {
			return fmt.Errorf("%s has %d elements and had %d", name, to.Nelems, from.Nelems)
		}
		if to.Nelems < n {
			n = to.Nelems
			if err := p.drop(name, at+int(n)*size, int(from.Nelems-n)*size, fmt.Sprintf("has %d elements and had %d", to.Nelems, from.Nelems)); err != nil {
				return err
			}
		}
	}
	for i := range int(n) {
		if err := p.value(name, from.Type, to.Type, at+i*size, place+i*step); err != nil {
			return err
		}
	}
	return nil
}

// mapPlan says how a map becomes one of another layout.
type mapPlan struct {
	name string
	key  *valuePlan // of a hash; nil: of an array
	valuePlan
}

// planMap looks whether what is in a pinned map can go into one as spec describes it. Errors name the member, and nothing is read but
// types.
func planMap(name string, m *ebpf.Map, spec *ebpf.MapSpec, asBefore map[string]string) (*mapPlan, error) {
	if m.Type() != spec.Type {
		return nil, fmt.Errorf("map %s is of another kind: %s, was %s", name, spec.Type, m.Type())
	}
	if spec.Type != ebpf.Array && spec.Type != ebpf.Hash {
		return nil, fmt.Errorf("map %s is of a kind that is not copied: %s", name, spec.Type)
	}
	key, value, err := mapTypes(m)
	if err != nil {
		return nil, fmt.Errorf("ask what is in map %s: %w", name, err)
	}
	counts := false
	for _, c := range countMaps() {
		counts = counts || c == name
	}
	p := &mapPlan{name: name}
	if spec.Type == ebpf.Hash {
		if p.key, err = planValue(name, key, spec.Key, asBefore, false); err != nil {
			return nil, err
		}
	}
	v, err := planValue(name, value, spec.Value, asBefore, counts)
	if err != nil {
		return nil, err
	}
	p.valuePlan = *v
	return p, nil
}
