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
	r.Signals = ringSignals(s.Signals)
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

// ringSignals lays out the signals of a stream for the ring, where a signal is present under one value of one multiplexor. A
// signal that is present under several gets an entry for each; names are unique in a stream, so those behind the first are
// numbered: "page", "page@2", "page@3". What is multiplexed by such a signal is multiplexed by each of its entries.
func ringSignals(signals []policy.Signal) []ring.Signal {
	var all []ring.Signal
	entries := make(map[string][]string)
	// The documents have refused circles, so each pass finds at least one signal whose multiplexor is laid out.
	for left := signals; len(left) > 0; {
		var later []policy.Signal
		for _, s := range left {
			if s.Multiplexor != nil && entries[s.Multiplexor.Signal] == nil {
				later = append(later, s)
				continue
			}
			for _, r := range present(&s, entries) {
				if n := len(entries[s.Name]); n > 0 {
					r.Name = fmt.Sprintf("%s@%d", s.Name, n+1)
				}
				entries[s.Name] = append(entries[s.Name], r.Name)
				all = append(all, r)
			}
		}
		if len(later) == len(left) {
			return all
		}
		left = later
	}
	return all
}

// present returns an entry for every way in which a signal can be present.
func present(s *policy.Signal, entries map[string][]string) []ring.Signal {
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
	var all []ring.Signal
	for _, r.Multiplexor = range entries[s.Multiplexor.Signal] {
		for _, r.MuxValue = range s.Multiplexor.Values {
			all = append(all, r)
		}
	}
	return all
}
