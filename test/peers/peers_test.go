// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestEnginesDoTheSameWork: what is timed is the same for each engine, and for each peer that can be built here.
func TestEnginesDoTheSameWork(t *testing.T) {
	s := shape{text: 32, batch: 6, keys: 3}
	all, err := engines(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Log("without the peers: no C compiler")
	} else {
		peers, missing := build(t.TempDir(), s)
		for _, err := range missing {
			t.Log("left out:", err)
		}
		all = append(all, peers...)
	}
	if err := sameTags(all); err != nil {
		t.Fatal(err)
	}
	r, err := measure(all, 1, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(r) != len(all) {
		t.Fatalf("%d results for %d contenders", len(r), len(all))
	}
	for _, one := range r {
		for _, operation := range operations {
			if one.ns[operation] <= 0 {
				t.Errorf("%s has no time for %s", one.name, operation)
			}
		}
	}
}

func TestDifferentTagsAreNoticed(t *testing.T) {
	tags := func(s string) contender {
		return contender{name: s, tags: func() (string, error) { return s, nil }}
	}
	if sameTags([]contender{tags("a"), tags("a")}) != nil {
		t.Error("same tags are refused")
	}
	if sameTags([]contender{tags("a"), tags("b")}) == nil || sameTags([]contender{tags("")}) == nil {
		t.Error("other tags are not noticed")
	}
}

func TestTableAndPlot(t *testing.T) {
	r := results{
		{name: "fast", ns: map[string]float64{"open": 5, "forged": 5, "seal": 10}},
		{name: "A & B", peer: true, ns: map[string]float64{"open": 20, "forged": 21, "seal": 40}},
		{name: "std", ns: map[string]float64{"open": 60, "forged": 61, "seal": 80}},
	}
	table := r.table()
	for _, row := range []string{
		"| `fast` | 5.0 | 5.0 | 10.0 | 12.0 | 8.0 |\n", "| A & B | 20.0 | 21.0 | 40.0 | 3.0 | 2.0 |\n", "| `std` | 60.0 | 61.0 | 80.0 | 1.0 | 1.0 |\n",
	} {
		if !strings.Contains(table, row) {
			t.Errorf("row %q is missing in\n%s", row, table)
		}
	}
	for d := xml.NewDecoder(strings.NewReader(r.svg(shape{32, 64, 16}))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunRefusesShapes(t *testing.T) {
	for _, s := range []shape{{-1, 64, 16}, {2001, 64, 16}, {32, 0, 1}, {32, 1025, 1}, {32, 4, 5}, {32, 4, 0}} {
		if run(s, 1, time.Millisecond, "") == nil {
			t.Errorf("%+v was taken", s)
		}
	}
}
