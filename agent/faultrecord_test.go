// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
)

// TestFaultRecord: the record names sources and evidence of what is raised, counts nothing twice, and is cut to what fits.
func TestFaultRecord(t *testing.T) {
	b := &policy.Binding{}
	var many []fault.View
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		b.Sources = append(b.Sources, policy.Source{Identifier: name, ID: uint32(10 + i)})
		many = append(many, fault.View{Name: name, Cause: kind.CauseLocal, Advice: fault.Advice, Evidence: []fault.EvidenceView{{Kind: kind.BusOff, Count: uint64(i)}}})
	}
	evidence := func(k kind.Kind, n uint64) fault.EvidenceView { return fault.EvidenceView{Kind: k, Count: n} }
	suspect := fault.View{Name: "a", Cause: kind.CauseForgeable, Evidence: []fault.EvidenceView{evidence(kind.BadTag, 9)}}
	for _, c := range []struct {
		name  string
		views []fault.View
		want  ring.FaultRecord
	}{
		{"nothing", nil, ring.FaultRecord{}},
		{"suspicion", []fault.View{suspect}, ring.FaultRecord{}},
		{"two causes of one source, one of another", []fault.View{
			suspect,
			{Name: "b", Cause: kind.CauseForgeable, Advice: fault.Advice, Evidence: []fault.EvidenceView{evidence(kind.PlaintextOnProtected, 14), evidence(kind.BadTag, 20)}},
			{Name: "b", Cause: kind.CauseAuthenticated, Advice: fault.Advice, Evidence: []fault.EvidenceView{evidence(kind.Deletion, 20)}},
			{Name: "c", Cause: kind.CauseForgeable, Advice: fault.Advice, Evidence: []fault.EvidenceView{evidence(kind.PlaintextOnProtected, 14)}},
		}, ring.FaultRecord{
			Time: 5, Causes: ring.FaultForgeable | ring.FaultAuthenticated, Sources: 2, SourceIDs: [ring.FaultSources]uint32{11, 12}, Kinds: 3,
			Kind:  [ring.FaultKinds]uint16{uint16(kind.BadTag), uint16(kind.Deletion), uint16(kind.PlaintextOnProtected)},
			Count: [ring.FaultKinds]uint64{20, 20, 14},
		}},
		{"more sources than fit", many, ring.FaultRecord{
			Time: 5, Causes: ring.FaultLocal, Sources: 5, SourceIDs: [ring.FaultSources]uint32{10, 11, 12, 13}, Kinds: 1,
			Kind: [ring.FaultKinds]uint16{uint16(kind.BusOff)}, Count: [ring.FaultKinds]uint64{4},
		}},
	} {
		if got := faultRecord(b, c.views, 5); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
