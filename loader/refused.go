// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"structs"
	"sync/atomic"
)

// StreamRefused is struct cw_stream_refused in shared memory: how many frames of one stream the filters have refused, by verdict, but for
// those that were shed ([Set.StreamShed]). Safe for concurrent use.
type StreamRefused struct {
	_     structs.HostLayout
	count [16]atomic.Uint64
}

// numRefused is the number of verdicts that [StreamRefused] has.
const numRefused = 9

// StreamVerdicts are they, in the order of its counters.
func StreamVerdicts() [numRefused]Verdict {
	return [numRefused]Verdict{PlaintextOnProtected, Malformed, WrongKind, UnknownEpoch, CounterRange, TooOld, Replay, RingFull, ControlFull}
}

// refusedIndex says where the counter of v is; -1: there is none.
func refusedIndex(v Verdict) int {
	switch {
	case v >= PlaintextOnProtected && v <= Replay:
		return int(v - PlaintextOnProtected)
	case v == RingFull:
		return 7
	case v == ControlFull:
		return 8
	default:
		return -1
	}
}

// Load returns the counter of v, and 0 for a verdict that has none.
func (r *StreamRefused) Load(v Verdict) uint64 {
	if i := refusedIndex(v); i >= 0 {
		return r.count[i].Load()
	}
	return 0
}

// Total returns the sum over all verdicts. The counters are read one after another, not at one instant.
func (r *StreamRefused) Total() (sum uint64) {
	for i := range numRefused {
		sum += r.count[i].Load()
	}
	return sum
}

// Add adds n to the counter of v, if it has one. Besides the filters, only whoever takes over what former ones have counted does that.
func (r *StreamRefused) Add(v Verdict, n uint64) {
	if i := refusedIndex(v); i >= 0 {
		r.count[i].Add(n)
	}
}

// reset sets all counters to 0. Nobody counts meanwhile.
func (r *StreamRefused) reset() {
	for i := range r.count {
		r.count[i].Store(0)
	}
}

// StreamCounts holds what the filters have refused of one stream, indexed by [Verdict]: those by which a frame on a protected identifier
// is refused. The rest stays 0.
type StreamCounts [int(ControlFull) + 1]uint64

// Total returns the sum over all verdicts.
func (c *StreamCounts) Total() (sum uint64) {
	for _, n := range c {
		sum += n
	}
	return sum
}

// addTo adds each counter to sum.
func (r *StreamRefused) addTo(sum *StreamCounts) {
	for i, v := range StreamVerdicts() {
		sum[v] += r.count[i].Load()
	}
}

// StreamCounts returns what the filters have refused of the stream in a slot, shed frames included. The counters are read one after
// another, not at one instant. A frame is counted here before it is counted for its bus ([Bus.FilterCounts]); a processor that may change the
// order of stores, as arm64 may, shows it the other way round for an instant.
func (s *Set) StreamCounts(slot int) (c StreamCounts) {
	s.refused.entries[slot].addTo(&c)
	c[Shed] = s.shed.entries[slot].Load()
	return c
}
