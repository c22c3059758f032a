// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
)

// ringStream describes a stream to readers of the ring.
func ringStream(s *policy.ResolvedStream) ring.Stream {
	r := ring.Stream{
		ID: s.ID, SourceID: s.SourceID, Name: streamName(s), Source: s.Source, Interface: s.Interface.Name,
		CANID: uint32(s.CANID), Period: s.Period, Sensitivity: ringSensitivity(s.Sensitivity),
	}
	for i := range s.Signals {
		r.Signals = append(r.Signals, ringSignals(&s.Signals[i])...)
	}
	return r
}

// streamName is unique in a ring: bus and identifier name a stream.
func streamName(s *policy.ResolvedStream) string {
	return fmt.Sprintf("%s:%s", s.Interface.Name, s.CANID)
}

func ringSensitivity(s policy.Sensitivity) ring.Sensitivity {
	switch s {
	case policy.Low:
		return ring.SensitivityLow
	case policy.Medium:
		return ring.SensitivityMedium
	case policy.High:
		return ring.SensitivityHigh
	case policy.Critical:
		return ring.SensitivityCritical
	default:
		return ring.SensitivityUnspecified
	}
}

// ringSignals turns a signal into one entry per value of its multiplexor. Names are unique in a stream, so entries of a
// signal with several values have theirs behind an @.
func ringSignals(s *policy.Signal) []ring.Signal {
	r := ring.Signal{
		Name: s.Name, Unit: s.Unit, Start: uint16(s.StartBit), Length: uint16(s.Length), Factor: s.Scale, Offset: s.Offset,
	}
	if s.ByteOrder == policy.BigEndian {
		r.ByteOrder = ring.BigEndian
	}
	if s.Signed {
		r.ValueType = ring.Signed
	}
	if s.Multiplexor == nil {
		return []ring.Signal{r}
	}
	r.Multiplexor = s.Multiplexor.Signal
	var all []ring.Signal
	for _, v := range s.Multiplexor.Values {
		r.MuxValue = v
		if len(s.Multiplexor.Values) > 1 {
			r.Name = fmt.Sprintf("%s@%d", s.Name, v)
		}
		all = append(all, r)
	}
	return all
}
