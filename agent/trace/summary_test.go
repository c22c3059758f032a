// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// frameList is a Source of given frames.
type frameList struct {
	frames []Frame
	err    error // at the end, instead of io.EOF
}

func (l *frameList) Next(f *Frame) error {
	if len(l.frames) == 0 {
		*f = Frame{}
		if l.err != nil {
			return l.err
		}
		return io.EOF
	}
	*f, l.frames = l.frames[0], l.frames[1:]
	return nil
}

func TestSummarize(t *testing.T) {
	frames := []Frame{
		{Time: 50, Bus: "b", ID: 2, Len: 3},
		{Time: 40, Bus: "a", ID: 2, Extended: true, Len: 1},
		{Time: 60, Bus: "b", ID: 2, FD: true, Len: 64},
		{Time: 70, Bus: "a", ID: 2, Len: 8},
		{Time: 80, Bus: "a", ID: 1, RTR: true, Len: 8},
		{Time: 90, Bus: "a", ID: 1, Len: 2},
		{Time: 95, Bus: "a", ID: 0x80, Error: true, Len: 8},
		{Time: 10, Bus: "b", ID: 2, Len: 1},
	}
	s, err := Summarize(&frameList{frames: frames})
	if err != nil {
		t.Fatal(err)
	}
	want := []StreamSummary{
		{StreamKey: StreamKey{"a", 1, false}, Count: 1, Remote: 1, First: 90, Last: 90, MaxLen: 2},
		{StreamKey: StreamKey{"a", 2, false}, Count: 1, First: 70, Last: 70, MaxLen: 8},
		{StreamKey: StreamKey{"a", 2, true}, Count: 1, First: 40, Last: 40, MaxLen: 1},
		{StreamKey: StreamKey{"b", 2, false}, Count: 3, First: 50, Last: 10, MaxLen: 64, FD: true, Period: 10},
	}
	if !slices.Equal(s.Streams, want) {
		t.Errorf("streams\n got %+v\nwant %+v", s.Streams, want)
	}
	if s.Frames != 8 || s.ErrorFrames != 1 || s.First != 10 || s.Last != 95 || !slices.Equal(s.Buses, []string{"b", "a"}) {
		t.Errorf("summary %+v", s)
	}
	if r := s.Streams[3].Rate(); r != 1e8 {
		t.Errorf("rate %v", r)
	}
	if r := s.Streams[0].Rate(); r != 0 {
		t.Errorf("rate of one frame is %v", r)
	}
}

func TestSummarizeEmptyAndBroken(t *testing.T) {
	s, err := Summarize(&frameList{})
	if err != nil || s.Frames != 0 || len(s.Streams) != 0 {
		t.Errorf("empty: %+v, %v", s, err)
	}
	broken := errors.New("broken")
	s, err = Summarize(&frameList{frames: []Frame{{Bus: "a"}}, err: broken})
	if !errors.Is(err, broken) || s.Frames != 1 {
		t.Errorf("broken: %+v, %v", s, err)
	}
}

func TestSummarizeBoundsStreams(t *testing.T) {
	frames := make([]Frame, maxStreams+1)
	for i := range frames {
		frames[i] = Frame{Bus: "a", ID: uint32(i), Extended: true}
	}
	s, err := Summarize(&frameList{frames: frames})
	if err == nil || len(s.Streams) != maxStreams {
		t.Errorf("%d streams, error %v", len(s.Streams), err)
	}
}

// TestPeriod: the estimate is right within 3 % whatever was done to the stamps.
func TestPeriod(t *testing.T) {
	const n = 4000
	rng := rand.New(rand.NewPCG(1, 2))
	tests := []struct {
		name   string
		period time.Duration
		change func(i int, stamp int64) (int64, bool) // false: frame lost
	}{
		{"exact", 100 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s, true }},
		{"jitter", 100 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s + rng.Int64N(20e6), true }},
		{"cut to seconds", 100 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s / 1e9 * 1e9, true }},
		{"fast, cut to seconds", 2 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s / 1e9 * 1e9, true }},
		{"odd, cut to seconds", 300 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s / 1e9 * 1e9, true }},
		{"slow, cut to seconds", 2500 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s / 1e9 * 1e9, true }},
		{"odd, cut to 10 ms", 25 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s / 1e7 * 1e7, true }},
		{"jitter, cut to 10 ms", 10 * time.Millisecond, func(_ int, s int64) (int64, bool) { return (s + rng.Int64N(2e6)) / 1e7 * 1e7, true }},
		{"every tenth lost", 100 * time.Millisecond, func(i int, s int64) (int64, bool) { return s + rng.Int64N(1e6), i%10 != 0 }},
		{"odd, cut to seconds, 1.5", 1500 * time.Millisecond, func(_ int, s int64) (int64, bool) { return s / 1e9 * 1e9, true }},
		{"pauses", 100 * time.Millisecond, func(i int, s int64) (int64, bool) { return s + int64(i/50)*7e9, true }},
		{"clock set back", 100 * time.Millisecond, func(i int, s int64) (int64, bool) { return s - int64(i/1000)*50e9, true }},
	}
	for _, tt := range tests {
		var frames []Frame
		for i := range n {
			if stamp, ok := tt.change(i, 500e9+int64(i)*int64(tt.period)); ok {
				frames = append(frames, Frame{Bus: "a", Time: stamp})
			}
		}
		s, err := Summarize(&frameList{frames: frames})
		if err != nil {
			t.Fatal(err)
		}
		got := s.Streams[0].Period
		if off := float64(got-tt.period) / float64(tt.period); off > 0.03 || off < -0.03 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.period)
		}
	}
}

func TestPeriodOfFewFrames(t *testing.T) {
	for name, tt := range map[string]struct {
		stamps []int64
		want   time.Duration
	}{
		"one":           {[]int64{5}, 0},
		"two":           {[]int64{5, 8}, 3},
		"two at once":   {[]int64{5, 5}, 0},
		"going back":    {[]int64{8, 5}, 0},
		"first is less": {[]int64{0, 9, 110, 211}, 101}, // the first gap does not count
	} {
		var frames []Frame
		for _, s := range tt.stamps {
			frames = append(frames, Frame{Bus: "a", Time: s})
		}
		s, err := Summarize(&frameList{frames: frames})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Streams[0].Period; got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
