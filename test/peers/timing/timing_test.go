// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cellward/cellward/crypto/aead"
)

// TestWelch: a series by hand.
func TestWelch(t *testing.T) {
	series := func(v ...float64) (m moments) {
		for _, x := range v {
			m.add(x)
		}
		return m
	}
	// Means 3 and 6, variances 2.5 and 10, five each: -3 / sqrt(0.5 + 2).
	got := welch(series(1, 2, 3, 4, 5), series(2, 4, 6, 8, 10))
	if want := -3 / math.Sqrt(2.5); math.Abs(got-want) > 1e-12 {
		t.Errorf("t is %v, want %v", got, want)
	}
	if welch(series(1), series(1, 2)) != 0 || welch(series(1, 1), series(1, 1)) != 0 {
		t.Error("t of series that say nothing")
	}
}

// TestDifferenceIsFound: a kind that takes half a percent longer is found, and none where there is none.
func TestDifferenceIsFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	samples := make([]sample, 100_000)
	for i := range samples {
		k := kind(r.IntN(int(kinds)))
		ns := 400 + 20*r.NormFloat64()
		if r.IntN(50) == 0 {
			ns += 5000 * r.Float64() // an interrupt
		}
		if k == lastByte {
			ns += 2
		}
		samples[i] = sample{k, ns}
	}
	if got := largestT(samples, right, lastByte); got < limit {
		t.Errorf("a difference gives %v", got)
	}
	if got := largestT(samples, right, firstByte); got > 4.5 {
		t.Errorf("no difference gives %v", got)
	}
}

// TestMeasure: every kind is measured, and judged as it should be. Times are for no test to look at.
func TestMeasure(t *testing.T) {
	_, samples, err := measure(aead.NewStd(), 300, 24)
	if err != nil {
		t.Fatal(err)
	}
	var seen [kinds]int
	for _, s := range samples {
		seen[s.kind]++
	}
	for k, n := range seen {
		if n == 0 {
			t.Errorf("%s was never measured", kindNames[k])
		}
	}
	for _, bad := range [][3]int{{10, 1, 32}, {1000, 0, 32}, {1000, 1, aead.MaxText + 1}, {1000, 1, -1}} {
		if _, err := run(bad[0], bad[1], bad[2], ""); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if _, err := run(100, 1, 32, "rot13"); err == nil {
		t.Error("an unknown engine was taken")
	}
}
