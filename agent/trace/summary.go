// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// maxStreams bounds the streams of one summary: twice what a gateway takes. A
// log with more is no log of a vehicle.
const maxStreams = 1 << 13

// maxGaps is how many gaps of a stream are kept for its median.
const maxGaps = 512

// StreamKey names the stream of a frame: one identifier on one bus.
type StreamKey struct {
	Bus      string
	ID       uint32
	Extended bool
}

// Key returns the stream of f. Error frames have none.
func (f *Frame) Key() StreamKey {
	return StreamKey{Bus: f.Bus, ID: f.ID, Extended: f.Extended}
}

// StreamSummary describes the frames of one stream.
type StreamSummary struct {
	StreamKey
	Count  uint64 // data frames
	Remote uint64 // remote frames, which nothing below takes into account
	First  int64  // time stamp of the first data frame in the file, in ns
	Last   int64  // time stamp of the last data frame in the file, in ns
	MaxLen int    // longest body in bytes
	FD     bool   // at least one CAN FD frame

	// Period is the typical time between two frames, 0 if the stream has too
	// few frames to tell. It holds for periodic streams, also where the time
	// stamps of the log are coarser than the period, as long as the log spans
	// several steps of its time stamps.
	Period time.Duration
}

// Rate returns frames per second, 0 if the period is not known.
func (s *StreamSummary) Rate() float64 {
	if s.Period <= 0 {
		return 0
	}
	return float64(time.Second) / float64(s.Period)
}

// Summary describes a log.
type Summary struct {
	Frames      uint64          // all frames
	ErrorFrames uint64          // frames with Error set, which belong to no stream
	Buses       []string        // in order of first appearance
	Streams     []StreamSummary // by bus name, identifier, then 11 before 29 bits
	First, Last int64           // lowest and highest time stamp in ns
}

// Summarize reads src to its end. Memory is bounded whatever the length of the
// log. On an error it returns what was read up to then as well.
func Summarize(src Source) (*Summary, error) {
	s := &Summary{}
	streams := make(map[StreamKey]*streamScan)
	buses := make(map[string]bool)
	var grain, previous int64
	var f Frame
	err := src.Next(&f)
	for ; err == nil; err = src.Next(&f) {
		if s.Frames == 0 {
			s.First, s.Last = f.Time, f.Time
		}
		s.First, s.Last = min(s.First, f.Time), max(s.Last, f.Time)
		if step := f.Time - previous; s.Frames != 0 && step > 0 {
			grain = gcd(step, grain)
		}
		previous = f.Time
		s.Frames++
		if !buses[f.Bus] {
			buses[f.Bus] = true
			s.Buses = append(s.Buses, f.Bus)
		}
		if f.Error {
			s.ErrorFrames++
			continue
		}
		scan := streams[f.Key()]
		if scan == nil {
			if len(streams) == maxStreams {
				err = fmt.Errorf("more than %d streams", maxStreams)
				break
			}
			scan = &streamScan{StreamSummary: StreamSummary{StreamKey: f.Key()}, sample: rand.NewPCG(0, 0)}
			streams[f.Key()] = scan
		}
		scan.add(&f)
	}
	for _, scan := range streams {
		scan.Period = scan.period(grain)
		s.Streams = append(s.Streams, scan.StreamSummary)
	}
	slices.SortFunc(s.Streams, func(a, b StreamSummary) int {
		return cmp.Or(cmp.Compare(a.Bus, b.Bus), cmp.Compare(a.ID, b.ID), compareBool(a.Extended, b.Extended))
	})
	if err != io.EOF {
		return s, fmt.Errorf("summarize log: %w", err)
	}
	return s, nil
}

// gcd returns the greatest common divisor; gcd(a, 0) is a.
func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// gap is a run of frames under one time stamp and the time to the next stamp.
// Where stamps are fine a run is one frame and ns is the gap as usual. Where
// they are coarse (a candump log cut to seconds) the run is all frames of that
// second, so that ns per frame is still the period.
type gap struct {
	ns     int64
	frames uint32
}

func (g gap) perFrame() float64 { return float64(g.ns) / float64(g.frames) }

type streamScan struct {
	StreamSummary
	run    uint32
	runs   uint64 // finished runs
	first  gap    // gap of the first run, which the start of the log may have cut
	gaps   []gap  // random sample of the others
	sample *rand.PCG
}

func (s *streamScan) add(f *Frame) {
	if f.RTR {
		s.Remote++
		return
	}
	s.FD = s.FD || f.FD
	s.MaxLen = max(s.MaxLen, int(f.Len))
	s.Count++
	switch {
	case s.Count == 1:
		s.First, s.run = f.Time, 1
	case f.Time == s.Last && s.run < math.MaxUint32:
		s.run++
	case f.Time > s.Last:
		s.keep(gap{ns: f.Time - s.Last, frames: s.run})
		s.run = 1
	default:
		s.run = 1 // a step back says nothing about the period
	}
	s.Last = f.Time
}

// keep takes a random sample of all gaps (reservoir sampling, algorithm R).
// Every n-th gap would not do: coarse stamps make gaps alternate. The generator
// starts the same way each time, and so the summary of a log is always the same.
func (s *streamScan) keep(g gap) {
	s.runs++
	switch {
	case s.runs == 1:
		s.first = g
	case len(s.gaps) < maxGaps:
		s.gaps = append(s.gaps, g)
	default:
		if at := s.sample.Uint64() % (s.runs - 1); at < maxGaps {
			s.gaps[at] = g
		}
	}
}

// period is the mean over the gaps near their median: the median makes it
// robust against pauses and lost frames, the mean takes out the grain of the
// time stamps. Near is within a factor of 1.5, which the gap around a lost
// frame is not, or within one grain of the log's time stamps.
func (s *streamScan) period(grain int64) time.Duration {
	gaps := s.gaps
	if len(gaps) == 0 {
		if s.runs == 0 {
			return 0
		}
		gaps = []gap{s.first}
	}
	slices.SortFunc(gaps, func(a, b gap) int { return cmp.Compare(a.perFrame(), b.perFrame()) })
	median := gaps[len(gaps)/2].perFrame()
	var ns, frames float64
	for _, g := range gaps {
		p := g.perFrame()
		off := math.Abs(float64(g.ns) - median*float64(g.frames))
		if p >= median/1.5 && p <= median*1.5 || off <= float64(grain) {
			ns += float64(g.ns)
			frames += float64(g.frames)
		}
	}
	return time.Duration(math.Round(ns / frames))
}
