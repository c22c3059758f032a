// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"time"
)

// result is what one contender took for each operation, in ns a PDU.
type result struct {
	name string
	peer bool
	ns   map[string]float64
}

type results []result

// measure lets the contenders take turns and returns the medians, fastest to open first.
func measure(all []contender, rounds int, turn time.Duration) (results, error) {
	turns := make([]map[string][]float64, len(all))
	for i := range turns {
		turns[i] = map[string][]float64{}
	}
	for range rounds {
		for _, operation := range operations {
			for i, c := range all {
				ns, err := c.time(operation, turn)
				if err != nil {
					return nil, err
				}
				turns[i][operation] = append(turns[i][operation], ns)
			}
		}
	}
	var r results
	for i, c := range all {
		one := result{name: c.name, peer: c.peer, ns: map[string]float64{}}
		for operation, v := range turns[i] {
			one.ns[operation] = median(v)
		}
		r = append(r, one)
	}
	slices.SortStableFunc(r, func(a, b result) int {
		switch x, y := a.ns["open"], b.ns["open"]; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return r, nil
}

// table is a Markdown table; the last columns compare with the engine std.
func (r results) table() string {
	var b strings.Builder
	var std map[string]float64
	for _, one := range r {
		if one.name == "std" {
			std = one.ns
		}
	}
	b.WriteString("| | open | forged | seal | open, times as fast as `std` | seal |\n|---|---:|---:|---:|---:|---:|\n")
	for _, one := range r {
		name := "`" + one.name + "`"
		if one.peer {
			name = one.name
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n", name, one.ns["open"], one.ns["forged"], one.ns["seal"],
			std["open"]/one.ns["open"], std["seal"]/one.ns["seal"])
	}
	return b.String()
}

// svg is a bar chart of the times to open and to seal.
func (r results) svg(s shape) string {
	const left, wide, bar, gap, top = 110, 480, 14, 14, 44
	longest := 0.0
	for _, one := range r {
		longest = max(longest, one.ns["open"], one.ns["seal"])
	}
	height := top + len(r)*(2*bar+gap) + 8
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+wide+70, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(&b, `<text x="8" y="18" font-size="13">AES-256-GCM, %d bytes and 16 of AAD, batches of %d, %d keys: ns a PDU</text>`+"\n", s.text, s.batch, s.keys)
	fmt.Fprintf(&b, `<rect x="8" y="26" width="10" height="10" fill="#1b6ca8"/><text x="22" y="35">open</text><rect x="64" y="26" width="10" height="10" fill="#9cc3de"/><text x="78" y="35">seal</text>`+"\n")
	y := top
	for _, one := range r {
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+bar+4, html.EscapeString(one.name))
		for i, operation := range []string{"open", "seal"} {
			w := one.ns[operation] / longest * wide
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%.1f</text>`+"\n",
				left, y+i*bar, w, bar-2, []string{"#1b6ca8", "#9cc3de"}[i], left+w+4, y+i*bar+bar-4, one.ns[operation])
		}
		y += 2*bar + gap
	}
	b.WriteString("</svg>\n")
	return b.String()
}
