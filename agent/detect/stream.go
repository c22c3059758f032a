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
	pace Pace
	// The counters of the run are those from first on that are below end. An end of 0: no run was heard; math.MaxUint64: none is known
	// that follows it.
	first, end uint64
	// By how much the latest frame came later than the highest sample of the run, and than the first sample with its source time. The
	// sample of every day is all three, so that it changes neither.
	cameBefore, movedBefore int64

	credit, burst int64 // ns of sampling
	period        int64
	mux           *muxes
	held          bool
	// above is the ms that are just too few for a period of sampling: half as much again does not make up for it.
	above int32

	floors          [floorsAhead]uint64 // of runs that may begin, ascending; 0: none
	freeze, silence int64
	since           int64 // from when on a frame is expected, if that is after the last one came; 0: not yet
}

// New returns the times of a stream that was not heard yet.
func New(o Options) *Stream {
	p := int64(max(o.Period, 0))
	s := &Stream{
		pace: Pace{Next: 1}, period: p, above: int32(min(max(0, 2*p-1)/(3*Millisecond), never)), freeze: max(minFreeze, p+p/2),
		silence: jitter + late*p, burst: max(minBurst, rateBurst*p), mux: newMuxes(o.Signals, p),
	}
	s.fold()
	return s
}

// Pace returns what the stream's sample of every day is held against. It is the stream's own for as long as that lasts.
func (s *Stream) Pace() *Pace { return &s.pace }

// Hold has Pace leave every sample to Sample, because there is something else to be done with them, or no more.
func (s *Stream) Hold(on bool) {
	s.held = on
	s.fold()
}

// fold sets Pace.Above. Whatever changes what it is made of calls it.
func (s *Stream) fold() {
	s.pace.Above = s.above
	if s.mux != nil || s.held || s.end != math.MaxUint64 || !s.steady() {
		s.pace.Above = never
	}
}

// steady says that nothing has to be made up for: the node has not sent too fast for long, and the last frame that came was the next
// one of a clock that goes on.
func (s *Stream) steady() bool {
	return s.credit == s.burst && s.cameBefore == 0 && s.movedBefore == 0
}

// Begins tells that the node has started again, or entered an epoch, with counters from floor on: its source time begins anew there.
func (s *Stream) Begins(floor uint64) {
	if floor <= s.first || floor < s.pace.Next {
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
	if s.end != 0 {
		s.end = min(s.end, floor)
		s.fold()
	}
}

// Sample takes a verified sample. source is its source time in milliseconds since the start of the node's run, modulo 2^32, receive
// when the filter has seen it, which is not negative. It allocates nothing.
func (s *Stream) Sample(counter uint64, source uint32, receive int64, body []byte) Finding {
	if s.mux != nil {
		s.mux.touch(body, receive)
	}
	// What is held or multiplexed is not slow for that, nor a run that another will follow.
	if counter < s.end && s.steady() && s.pace.takes(counter, source, receive, s.above) {
		return 0
	}
	return s.judge(counter, source, receive)
}

// judge takes a sample by the rules.
func (s *Stream) judge(counter uint64, source uint32, receive int64) (f Finding) {
	s.hear(receive)
	if counter < s.first || counter >= s.end {
		s.begin(counter, source, receive)
	} else {
		f = s.compare(counter, source, receive)
	}
	s.fold()
	return f
}

// compare takes a sample of the run by the rules.
func (s *Stream) compare(counter uint64, source uint32, receive int64) (f Finding) {
	p := &s.pace
	advance := int64(int32(source - uint32(p.Source))) // wraps as the source time does
	taken := p.Source + advance
	if counter >= p.Next {
		if advance < 0 {
			// Nothing can be said of its delay before its clock is known anew.
			p.Next = counter + 1
			s.came(receive)
			s.learn(source, receive)
			return Backward
		}
		f = s.charge(counter-p.Next+1, advance*Millisecond, receive)
		p.Next = counter + 1
		s.came(max(p.Seen-s.cameBefore, receive))
		first := p.Seen - s.movedBefore
		switch {
		case advance != 0:
			p.Source = taken
			s.moved(receive)
		case receive-first > s.freeze:
			return f | Frozen
		default:
			// As late as the first one with this time: how long ago that came is the business of a frozen clock.
			receive = first
		}
	}
	level := Level(receive, taken)
	if level-p.Fastest > MaxDelay {
		f |= Delayed
	}
	p.Fastest = min(p.Fastest, level)
	return f
}

// charge takes the time that some samples may have taken off what the node may still seal at once. What the node's own clock or the
// gateway's says has passed, whichever is more, is put there, half as much again: a burst that a bus has held up is none of the node.
// What is put there is bounded against overflow alone: by no less than a burst, or the node of a slow stream would never make up for
// a sample that was lost.
func (s *Stream) charge(samples uint64, advance, receive int64) Finding {
	passed := min(max(advance, receive-(s.pace.Seen-s.cameBefore)), max(maxElapsed, s.burst))
	s.credit = min(s.credit+passed+passed/2-int64(min(samples, maxAdvance))*s.period, s.burst)
	if s.credit < 0 {
		s.credit = 0
		return TooFast
	}
	return 0
}

// begin takes the first sample of a run. One of a run before says nothing about the present one.
func (s *Stream) begin(counter uint64, source uint32, receive int64) {
	if s.end != 0 && counter < s.first {
		return
	}
	passed := 0
	for passed < len(s.floors) && s.floors[passed] != 0 && s.floors[passed] <= counter {
		s.first = s.floors[passed]
		passed++
	}
	n := copy(s.floors[:], s.floors[passed:])
	clear(s.floors[n:])
	s.end = math.MaxUint64
	if next := s.floors[0]; next != 0 {
		s.end = next
	}
	s.pace.Next, s.credit = counter+1, s.burst
	s.came(receive)
	s.learn(source, receive)
}

// learn begins the comparison of the clocks.
func (s *Stream) learn(source uint32, receive int64) {
	s.pace.Source = int64(source)
	s.pace.Fastest = Level(receive, s.pace.Source)
	s.moved(receive)
}

// came notes when the highest sample of the run came, moved when the first one with its source time did. Neither is later than the
// last frame that was heard.
func (s *Stream) came(at int64)  { s.cameBefore = s.pace.Seen - at }
func (s *Stream) moved(at int64) { s.movedBefore = s.pace.Seen - at }

// hear notes when a frame came. fold must follow.
func (s *Stream) hear(receive int64) {
	if later := receive - s.pace.Seen; later > 0 {
		s.pace.Seen = receive
		s.cameBefore += later
		s.movedBefore += later
	}
}

// Heard takes note of a verified frame.
func (s *Stream) Heard(receive int64) {
	s.hear(receive)
	s.fold()
}

// Seen returns when the last frame came, 0 if none did.
func (s *Stream) Seen() int64 { return s.pace.Seen }

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
	s.since = max(s.since, s.pace.Seen)
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
	if s.mux == nil || now-max(s.since, s.pace.Seen) > s.silence {
		return nil // none, or the whole stream is silent
	}
	return s.mux.late(now)
}
