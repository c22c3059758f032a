// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"encoding/json"
	"math/bits"
)

// Latency sums up times from the filter's time stamp to the return of the reader's call, in nanoseconds. P50 and P99
// are upper bounds, at most 1/32 too high.
type Latency struct {
	P50 int64 `json:"p50"`
	P99 int64 `json:"p99"`
	Max int64 `json:"max"`
}

func (s Stats) json() ([]byte, error) { return json.Marshal(s) }

// histogram counts values in buckets whose width is 1/32 of their value: constant memory for any run.
type histogram struct {
	counts [64 * subBuckets]uint64
	total  uint64
	max    int64
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
)

// add counts a value. The clocks of both sides agree to a fraction of a microsecond; what that leaves below zero is 0.
func (h *histogram) add(v int64) {
	v = max(v, 0)
	h.counts[bucketOf(uint64(v))]++
	h.total++
	h.max = max(h.max, v)
}

// bucketOf returns exact buckets below 32, then 32 for each power of two.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)*subBuckets + int(v>>shift)&(subBuckets-1)
}

// upperBound returns the highest value of a bucket.
func upperBound(bucket int) int64 {
	if bucket < subBuckets {
		return int64(bucket)
	}
	shift := bucket/subBuckets - 1
	return int64((uint64(subBuckets+bucket%subBuckets)+1)<<shift - 1)
}

// quantile returns the bound below which at least the share numerator/denominator of all values lies.
func (h *histogram) quantile(numerator, denominator uint64) int64 {
	if h.total == 0 {
		return 0
	}
	rank := (h.total*numerator + denominator - 1) / denominator
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return min(upperBound(i), h.max)
		}
	}
	return h.max
}

func (h *histogram) summary() Latency {
	return Latency{P50: h.quantile(50, 100), P99: h.quantile(99, 100), Max: h.max}
}
