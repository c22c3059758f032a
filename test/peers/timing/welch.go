// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// cuts are the parts of the measurements that are compared, fastest first: interrupts make some slow beyond all measure.
var cuts = []float64{0.5, 0.75, 0.9, 0.97, 1}

// largestT returns the largest |t| between two kinds over all cuts.
func largestT(samples []sample, a, b kind) (largest float64) {
	times := make([]float64, len(samples))
	for i, s := range samples {
		times[i] = s.ns
	}
	slices.Sort(times)
	for _, cut := range cuts {
		below := times[int(cut*float64(len(times)-1))]
		var of [kinds]moments
		for _, s := range samples {
			if s.ns <= below {
				of[s.kind].add(s.ns)
			}
		}
		largest = max(largest, math.Abs(welch(of[a], of[b])))
	}
	return largest
}

// moments are count, mean and sum of squared differences of a series (Welford).
type moments struct{ n, mean, m2 float64 }

func (m *moments) add(x float64) {
	m.n++
	d := x - m.mean
	m.mean += d / m.n
	m.m2 += d * (x - m.mean)
}

// welch is Welch's t of two series; 0 if one is too short or neither varies.
func welch(a, b moments) float64 {
	if a.n < 2 || b.n < 2 {
		return 0
	}
	v := a.m2/(a.n-1)/a.n + b.m2/(b.n-1)/b.n
	if v == 0 {
		return 0
	}
	return (a.mean - b.mean) / math.Sqrt(v)
}
