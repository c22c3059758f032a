// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"math"
	"strings"
)

// The steps of a sparkline, lowest first.
const (
	blockSteps = "▁▂▃▄▅▆▇█"
	asciiSteps = "_.-~=+*#"
)

// spark draws the last values, one in each place, scaled from their least to their greatest.
func spark(values []float64, width int, ascii bool) string {
	if width <= 0 || len(values) == 0 {
		return ""
	}
	values = values[max(0, len(values)-width):]
	least, greatest := values[0], values[0]
	for _, v := range values {
		least, greatest = min(least, v), max(greatest, v)
	}
	steps := []rune(blockSteps)
	if ascii {
		steps = []rune(asciiSteps)
	}
	var b strings.Builder
	for _, v := range values {
		n := len(steps)/2 - 1 // what does not change lies in the middle
		if greatest > least {
			part := (v - least) / (greatest - least)
			if math.IsInf(greatest-least, 1) {
				part = (v/2 - least/2) / (greatest/2 - least/2)
			}
			n = int(part * float64(len(steps)-1))
		}
		b.WriteRune(steps[min(max(n, 0), len(steps)-1)])
	}
	return b.String()
}
