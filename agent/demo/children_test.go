// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"strings"
	"testing"
)

// TestLog has a process write more than an error quotes: Log has all of it, from the first line on, until it is more than is kept.
func TestLog(t *testing.T) {
	p := &Process{name: "talker"}
	say := func(from, to int) {
		for i := range to - from {
			fmt.Fprintf(&p.errs, "line %07d\n", from+i)
		}
	}
	const line = len("line 0000000\n")
	const first = 4 * tailSize / line
	say(0, first)
	if l := p.Log(); !strings.HasPrefix(l, "line 0000000\n") || strings.Count(l, "line") != first {
		t.Errorf("%d lines of %d are in the log, which begins with %.12q", strings.Count(l, "line"), first, l)
	}
	end := fmt.Sprintf("line %07d", first-1)
	if q := p.errs.String(); len(q) > tailSize || !strings.HasSuffix(q, end) || !strings.HasSuffix(p.Log(), end) {
		t.Errorf("an error quotes %d bytes that end with %q, want at most %d that end with %q", len(q), q[len(q)-len(end):], tailSize, end)
	}
	const all = 2 * logSize / line
	say(first, all)
	if l := p.Log(); len(l) > logSize || len(l) < logSize-line || !strings.HasSuffix(l, fmt.Sprintf("line %07d", all-1)) {
		t.Errorf("the log is %d bytes long, want the last %d", len(l), logSize)
	}
}
