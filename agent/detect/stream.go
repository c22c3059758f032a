// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"math"
	"time"

	"github.com/cellward/cellward/agent/policy"
)

// Finding is a set of what is wrong with the time of a sample.
type Finding uint8

// The findings.
const (
	// Delayed: the sample took over 2 s longer than the fastest one, where the difference of the clocks may grow by 200 ppm.
	Delayed Finding = 1 << iota
	// Frozen: the source time is that of a sample before it, which came long ago.
	Frozen
	// Backward: the source time is before that of a sample with a lower counter.
	Backward
	// TooFast: the node has sealed more samples than half as much again as the sampling rate allows.
	TooFast
)

// Bounds.
const (
	maxDelay    = int64(2 * time.Second)
	driftPart   = 5000 // 200 ppm
	minFreeze   = int64(500 * time.Millisecond)
	jitter      = int64(time.Second) // what queues on the way may add
	late        = 3                  // periods
	rateBurst   = 32
	minBurst    = int64(2 * time.Second)
	maxAdvance  = 1 << 16 // samples of one step that are charged for
	maxElapsed  = int64(time.Hour)
	floorsAhead = 4
)

// Options say what is expected of a stream.
type Options struct {
	// Period is the time between two samples.
	Period time.Duration
	// Signals are those of its bodies. If some are multiplexed, each value of the multiplexor is expected in its turn.
	Signals []policy.Signal
}

// Stream is the times of one stream. One goroutine at a time may use it. Times are CLOCK_BOOTTIME in ns, counters and source times
// those of verified samples.
type Stream struct {
	// The run of the node: counters from first to first+span-1. A span of 0: none was heard.
	first, span uint64

	counter uint64 // highest of the run
	source  uint32 // its source time in ms
	elapsed int64  // the same, unwrapped, in ns
	moved   int64  // when the first sample with this source time came
	came    int64  // when the highest one came
	base    int64  // least difference of the clocks, as it was at baseAt
	baseAt  int64
	credit  int64 // ns of sampling

	burst int64
	due   int64 // 2 periods: what 3 times the time that has passed must make up for

	seen int64 // when the last frame came; 0: none
	mux  *muxes

	// What a sample of every day does not need.
	floors                  [floorsAhead]uint64 // of runs that may begin, ascending; 0: none
	period, freeze, silence int64
	since                   int64 // from when on a frame is expected, if that is after seen; 0: not yet
}

// New returns the times of a stream that was not heard yet.
func New(o Options) *Stream {
	p := int64(max(o.Period, 0))
	return &Stream{
		period: p, due: 2 * p, freeze: max(minFreeze, p+p/2), silence: jitter + late*p, burst: max(minBurst, rateBurst*p),
		mux: newMuxes(o.Signals, p),
	}
}

// Begins tells that the node has started again, or entered an epoch, with counters from floor on: its source time begins anew there.
func (s *Stream) Begins(floor uint64) {
	if floor <= s.first || floor <= s.counter {
		return
	}
	i := 0
	for i < len(s.floors) && s.floors[i] != 0 && s.floors[i] < floor {
		i++
	}
	if i == len(s.floors) || s.floors[i] == floor {
		return
	}
	copy(s.floors[i+1:], s.floors[i:len(s.floors)-1])
	s.floors[i] = floor
	if s.span != 0 {
		s.span = min(s.span, floor-s.first)
	}
}

// Plain is Sample for the sample of every day: the next one of the run, later than all that were heard, from a clock that goes on, of a
// node that has not sent too fast for long, with a delay that is allowed. There is nothing wrong with it. Any other, and every one that
// is multiplexed, is left to Sample; nothing changes by asking.
func (s *Stream) Plain(counter uint64, source uint32, receive int64) bool {
	return s.mux == nil && s.plain(counter, source, receive)
}

func (s *Stream) plain(counter uint64, source uint32, receive int64) bool {
	delta := int64(int32(source-s.source)) * int64(time.Millisecond)
	if counter != s.counter+1 || counter-s.first >= s.span || receive < s.seen || 3*delta < s.due || delta <= 0 || s.credit != s.burst {
		return false
	}
	taken := s.elapsed + delta
	d := receive - taken
	// receive is not before baseAt: a division of natural numbers takes half as long.
	over := d - s.base - int64(uint64(receive-s.baseAt)/driftPart)
	if over > maxDelay {
		return false
	}
	if over < 0 {
		s.base, s.baseAt = d, receive
	}
	s.counter, s.source, s.elapsed, s.moved, s.came, s.seen = counter, source, taken, receive, receive, receive
	return true
}

// Sample takes a verified sample. source is its source time in milliseconds since the start of the node's run, modulo 2^32, receive
// when the filter has seen it. It allocates nothing.
func (s *Stream) Sample(counter uint64, source uint32, receive int64, body []byte) Finding {
	if s.mux != nil {
		s.mux.touch(body, receive)
	}
	if s.plain(counter, source, receive) {
		return 0
	}
	return s.judge(counter, source, receive)
}

// judge takes a sample by the rules.
func (s *Stream) judge(counter uint64, source uint32, receive int64) (f Finding) {
	s.Heard(receive)
	if counter-s.first >= s.span {
		s.begin(counter, source, receive)
		return 0
	}
	delta := int32(source - s.source) // wraps as the source time does
	taken := s.elapsed + int64(delta)*int64(time.Millisecond)
	if counter > s.counter {
		if delta < 0 {
			// Nothing can be said of its delay before its clock is known anew.
			s.counter, s.came = counter, receive
			s.learn(source, receive)
			return Backward
		}
		f = s.charge(counter-s.counter, int64(delta)*int64(time.Millisecond), receive)
		s.counter, s.came = counter, max(s.came, receive)
		switch {
		case delta != 0:
			s.source, s.elapsed, s.moved = source, taken, receive
		case receive-s.moved > s.freeze:
			return f | Frozen
		default:
			// As late as the first one with this time: how long ago that came is the business of a frozen clock.
			receive = s.moved
		}
	}
	d := receive - taken
	if allowed := s.base + (receive-s.baseAt)/driftPart; d < allowed {
		s.base, s.baseAt = d, receive
	} else if d-allowed > maxDelay {
		f |= Delayed
	}
	return f
}

// charge takes the time that some samples may have taken off what the node may still seal at once. What the node's own clock or the
// gateway's says has passed, whichever is more, is put there, half as much again: a burst that a bus has held up is none of the node.
func (s *Stream) charge(samples uint64, delta, receive int64) Finding {
	passed := min(max(delta, receive-s.came), maxElapsed)
	s.credit = min(s.credit+passed+passed/2-int64(min(samples, maxAdvance))*s.period, s.burst)
	if s.credit < 0 {
		s.credit = 0
		return TooFast
	}
	return 0
}

// begin takes the first sample of a run. One of a run before says nothing about the present one.
func (s *Stream) begin(counter uint64, source uint32, receive int64) {
	if s.span != 0 && counter < s.first {
		return
	}
	passed := 0
	for passed < len(s.floors) && s.floors[passed] != 0 && s.floors[passed] <= counter {
		s.first = s.floors[passed]
		passed++
	}
	n := copy(s.floors[:], s.floors[passed:])
	clear(s.floors[n:])
	s.span = math.MaxUint64 - s.first
	if next := s.floors[0]; next != 0 {
		s.span = next - s.first
	}
	s.counter, s.came, s.credit = counter, receive, s.burst
	s.learn(source, receive)
}

// learn begins the comparison of the clocks.
func (s *Stream) learn(source uint32, receive int64) {
	s.source, s.elapsed, s.moved, s.base, s.baseAt = source, 0, receive, receive, receive
}

// Heard takes note of a verified frame.
func (s *Stream) Heard(receive int64) {
	s.seen = max(s.seen, receive)
}

// Seen returns when the last frame came, 0 if none did.
func (s *Stream) Seen() int64 { return s.seen }

// Excuse says that nothing can be expected to have come up to now.
func (s *Stream) Excuse(now int64) {
	s.since = max(s.since, now)
	if s.mux != nil {
		s.mux.excuse(now)
	}
}

// Overdue is what should have come.
type Overdue struct {
	// Silent: no frame for 3 periods, and 1 s for jitter.
	Silent bool
	// Missing is how many values of the multiplexor did not come for 3 turns of all of them, and 1 s for jitter, while others did. Only
	// those are expected that have come since the agent was started.
	Missing int
}

// Late says what is overdue.
func (s *Stream) Late(now int64) (o Overdue) {
	s.since = max(s.since, s.seen)
	if s.since == 0 {
		s.since = now
	}
	if now-s.since > s.silence {
		return Overdue{Silent: true}
	}
	if s.mux != nil {
		o.Missing = s.mux.missing(now)
	}
	return o
}

// LateParts returns the values of the multiplexor that Overdue.Missing counts, in ascending order; nil if none. It allocates, and
// changes nothing.
func (s *Stream) LateParts(now int64) []uint32 {
	if s.mux == nil || now-max(s.since, s.seen) > s.silence {
		return nil // none, or the whole stream is silent
	}
	return s.mux.late(now)
}
