// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/crypto/spdu"
)

// TestNothingOverridesStrict gives the pipeline documents whose every value that could weaken it is at its weakest, and forged
// frames of all kinds, with a fault standing and without: nothing comes out but what the node has sealed, and all of that does.
func TestNothingOverridesStrict(t *testing.T) {
	weak := func(b *policy.Binding) {
		for s := policy.Low; s <= policy.Critical; s++ {
			for _, c := range []kind.Cause{kind.CauseForgeable, kind.CauseAuthenticated, kind.CauseLocal} {
				b.Escalation.Thresholds = append(b.Escalation.Thresholds, policy.Threshold{
					Sensitivity: s, Cause: c, Raise: policy.MaxEscalationWindow, Of: policy.MaxEscalationWindow, Clear: policy.MaxEscalationWindow - 1,
				})
			}
		}
		for _, k := range kind.All() {
			if k.Cause() != kind.CauseNone {
				b.Escalation.Kinds = append(b.Escalation.Kinds, policy.KindRule{Kind: k})
			}
		}
		b.Escalation.Interval = policy.MaxEscalationInterval
		b.Gateway.Grace = policy.MaxGrace
	}
	strict := func(b *policy.Binding) {
		for _, k := range kind.All() {
			if k.Cause() != kind.CauseNone {
				b.Escalation.Kinds = append(b.Escalation.Kinds, policy.KindRule{Kind: k, Count: 1, Immediate: true, Latch: true})
			}
		}
	}
	for name, change := range map[string]func(*policy.Binding){"weakest": weak, "strictest": strict, "default": func(*policy.Binding) {}} {
		t.Run(name, func(t *testing.T) {
			s := newSiegeOf(t, openCapture(t, "kona-bms-idle.asc"), change)
			all := s.seal(5*time.Second, nil)
			sealed := uint64(0)
			var out []timed
			for i := range all {
				f := all[i]
				if f.kind != spdu.KindStart {
					for at := range f.frame.Len { // each byte altered once
						g := f
						g.frame.Data[at] ^= 1 << (i % 8)
						if i%16 == 0 {
							out = append(out, g)
						}
					}
				}
				out = append(out, f, f)
				if f.kind == spdu.KindSample {
					sealed++
				}
			}
			s.play(out, 0)
			if s.published != sealed {
				t.Errorf("%d samples are published, %d were sealed", s.published, sealed)
			}
			if forged := s.count(kind.BadTag); forged == 0 {
				t.Error("nothing was forged")
			}
		})
	}
}
