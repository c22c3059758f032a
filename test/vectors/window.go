// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/cellward/cellward/replay"
)

// counterRange asks whether an epoch with this base can have the counter.
type counterRange struct {
	Base    uint64 `json:"base"`
	Counter uint64 `json:"counter"`
	Verdict string `json:"verdict"`
}

// windowCase is a sequence of counters on one window.
type windowCase struct {
	Name  string       `json:"name"`
	Size  int          `json:"size"`
	Base  uint64       `json:"base"`
	Steps []windowStep `json:"steps"`
	Words []windowWord `json:"words"`
}

// windowStep is one counter. Highest is the highest committed counter after it.
type windowStep struct {
	Counter uint64 `json:"counter"`
	Verdict string `json:"verdict"`
	Highest uint64 `json:"highest"`
}

type windowWord struct {
	Index int    `json:"index"`
	Word  string `json:"word"`
}

// Verdicts about a counter that are not those of replay.Verdict.
const (
	inRange    = "in_range"
	outOfRange = "counter_range"
)

func makeCounterRanges(f *file) error {
	const highest = replay.MaxCounter
	for _, c := range []struct{ base, counter uint64 }{
		{1, 0}, {1, 1}, {1, 2}, {1, replay.EpochSpan}, {1, 1 + replay.EpochSpan}, {1, 2 + replay.EpochSpan}, {1, highest},
		{secondF, secondF - 1}, {secondF, secondF}, {secondF, secondF + replay.EpochSpan}, {secondF, secondF + replay.EpochSpan + 1},
		{highest - replay.EpochSpan, highest}, {highest - replay.EpochSpan - 1, highest}, {highest, highest - 1}, {highest, highest},
	} {
		verdict := inRange
		if err := replay.CheckRange(c.counter, c.base); errors.Is(err, replay.ErrCounterRange) {
			verdict = outOfRange
		} else if err != nil {
			return err
		}
		f.CounterRanges = append(f.CounterRanges, counterRange{c.base, c.counter, verdict})
	}
	return nil
}

func makeWindows(f *file) error {
	const top = replay.MaxCounter
	for _, c := range []struct {
		name     string
		size     int
		base     uint64
		counters []uint64
	}{
		{"0 and 1", 1024, 1, []uint64{0, 1, 1, 0}},
		{"in order, twice each", 1024, 1, []uint64{1, 1, 2, 2, 3, 3}},
		{"behind the highest: 1,023 is acceptable once, 1,024 is not", 1024, 1, []uint64{2000, 2000 - 1023, 2000 - 1023, 2000 - 1024, 2000 - 1025, 1999, 1999, 1}},
		{"one step takes the oldest out", 1024, 1, []uint64{1024, 1, 1025, 2, 1, 1026, 2, 3}},
		{"jump of 1,023", 1024, 1, []uint64{5000, 5000 + 1023, 5000, 4999, 5001}},
		{"jump of 1,024", 1024, 1, []uint64{5000, 5000 + 1024, 5000, 5001}},
		{"jump of 1,025", 1024, 1, []uint64{5000, 5000 + 1025, 5001, 5002}},
		{"jump of 2,047, 2,048 and 2,049: once round the ring of words", 1024, 1, []uint64{100, 100 + 2047, 100 + 2047 + 2048, 100 + 2047 + 2048 + 2049, 100 + 2047 + 2048, 6244 - 1023, 6244 - 1024}},
		{"jump of 2^32, and one further is out of range", 1024, 1, []uint64{1, 1 + 1<<32, 1, 1<<32 + 1 - 1023, 1<<32 + 1 - 1024, 2 + 1<<32}},
		{"a far base", 1024, 1 << 40, []uint64{1<<40 - 1, 1 << 40, 1<<40 + 1023, 1 << 40, 1<<40 + 1, 1<<40 + 1<<32, 1<<40 + 1<<32 + 1}},
		{"up to the highest counter", 1024, top - 4000, []uint64{top - 2048, top - 1024, top, top - 1023, top - 1024, top - 1, top, top - 1023}},
		{"window of 64: 63 is acceptable once, 64 is not", 64, 1, []uint64{1000, 1000 - 63, 1000 - 63, 1000 - 64, 1001, 1000 - 62, 1000 - 61}},
		{"window of 128: 127 is acceptable once, 128 is not", 128, 1, []uint64{1000, 1000 - 127, 1000 - 127, 1000 - 128, 1001, 1000 - 126}},
	} {
		w, err := walk(c.name, c.size, c.base, c.counters)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		f.Windows = append(f.Windows, w)
	}
	return nil
}

// walk takes the counters one after another as a receiver does: range, window, and commit if fresh.
func walk(name string, size int, base uint64, counters []uint64) (windowCase, error) {
	var words [replay.WordCount]uint64
	w, err := replay.New(&words, replay.Options{Size: size, Reference: base})
	if err != nil {
		return windowCase{}, err
	}
	v := windowCase{Name: name, Size: size, Base: base}
	for _, c := range counters {
		verdict := outOfRange
		if replay.CheckRange(c, base) == nil {
			verdict = w.Commit(c).String()
		}
		v.Steps = append(v.Steps, windowStep{c, verdict, w.Highest()})
	}
	for i, word := range words {
		if uint32(word) != 0 {
			v.Words = append(v.Words, windowWord{i, fmt.Sprintf("%016x", word)})
		}
	}
	return v, nil
}
