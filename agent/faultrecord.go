// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"slices"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
)

// faultRecord puts the faults that stand into what readers of the ring see of them.
func faultRecord(b *policy.Binding, views []fault.View, now int64) (r ring.FaultRecord) {
	causes := map[kind.Cause]ring.FaultCauses{
		kind.CauseForgeable: ring.FaultForgeable, kind.CauseAuthenticated: ring.FaultAuthenticated, kind.CauseLocal: ring.FaultLocal,
	}
	var named []string
	counts := make(map[kind.Kind]uint64)
	for i := range views {
		v := &views[i]
		if v.Advice == "" {
			continue // suspicion
		}
		r.Causes |= causes[v.Cause]
		// What happens to a bus is counted against each of its sources, so the counts of sources are not added up.
		for _, e := range v.Evidence {
			counts[e.Kind] = max(counts[e.Kind], e.Count)
		}
		if slices.Contains(named, v.Name) {
			continue // for another cause
		}
		named = append(named, v.Name)
		if at := slices.IndexFunc(b.Sources, func(s policy.Source) bool { return s.Identifier == v.Name }); at >= 0 && len(named) <= len(r.SourceIDs) {
			r.SourceIDs[len(named)-1] = b.Sources[at].ID
		}
	}
	if r.Causes == 0 {
		return ring.FaultRecord{}
	}
	kinds := make([]kind.Kind, 0, len(counts))
	for k := range counts {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(x, y kind.Kind) int { return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y)) })
	r.Time, r.Sources, r.Kinds = now, uint32(len(named)), uint32(len(kinds))
	for i, k := range kinds[:min(len(kinds), len(r.Kind))] {
		r.Kind[i], r.Count[i] = uint16(k), counts[k]
	}
	return r
}
