// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"fmt"
	"time"
)

const (
	minHold         = 2 * time.Second // a hole stays open at least this long ...
	holdPeriods     = 3               // ... and at least so many sampling periods
	defaultMaxHoles = 128
	limitMaxHoles   = 1 << 16
	listLength      = 8 // floors and excused ranges that are kept
)

// ErrGapOptions reports options of which no account can be kept.
var ErrGapOptions = errors.New("gap options out of range")

// Cause tells why a hole was given up.
type Cause uint8

// The causes.
const (
	LeftWindow Cause = iota + 1 // the replay window has passed it: it can never come
	TimedOut                    // it was open for max(2 s, 3 periods)
	Overflow                    // more holes than MaxHoles were open: settled early
)

// String returns the cause in lower case.
func (c Cause) String() string {
	switch c {
	case LeftWindow:
		return "left window"
	case TimedOut:
		return "timed out"
	case Overflow:
		return "overflow"
	}
	return "unknown"
}

// Report names a range of deleted samples, both ends included.
type Report struct {
	First, Last uint64 // counters
	Cause       Cause
}

// Count returns the number of samples in the range.
func (r Report) Count() uint64 { return r.Last - r.First + 1 }

// GapOptions configure a Gaps.
type GapOptions struct {
	// Next is the first counter to be accounted for: the base of the epoch of a
	// new stream, Window.Highest()+1 of one that is resumed. Everything below
	// is no hole. 0 means 1.
	Next uint64
	// Window is the size of the stream's replay window; 0 means 1,024.
	Window int
	// Period is the sampling period; 0 means that only the 2 s apply.
	Period time.Duration
	// MaxHoles bounds the ranges that are open at a time, 2 to 65,536; 0 means
	// 128. Memory is 24 bytes for each, allocated once.
	MaxHoles int
}

// hole is a range of counters that were sealed and have not verified.
type hole struct {
	first, last uint64
	deadline    int64 // in ns: deleted from then on
}

// span is a range of counters that are no holes.
type span struct{ first, last uint64 }

// Gaps keeps account of the samples of one stream that are missing.
//
// A counter is noticed to be missing when a later one verifies (Frame) or when a
// heartbeat names a later next counter (Heartbeat): either proves that it was
// sealed. It is a deleted sample, and reported once, when the replay window has
// passed it or when it was missing for max(2 s, 3 periods). A late frame closes
// its hole; if the hole was reported before, the frame corrects the report and
// Corrected counts it, so Deleted minus Corrected is the true loss. Counters
// that a node skipped by starting again (SetFloor) are no holes.
//
// Times are CLOCK_BOOTTIME in nanoseconds and given by the caller; one that goes
// back counts as the latest seen. A call costs O(1), but O(log MaxHoles) to find
// a late frame's hole and O(MaxHoles) moves in memory to close one. No method
// allocates, provided that the slice of reports has room: at most MaxHoles+2 are
// appended by one call.
//
// One goroutine at a time may use a Gaps. Every input must come from traffic
// that has verified: whoever could name counters without a key could invent
// deletions.
type Gaps struct {
	next    uint64 // lowest counter that is neither verified nor noticed nor excused
	origin  uint64 // counters below were never accounted for
	highest uint64 // highest verified counter
	window  uint64
	hold    int64
	now     int64

	// Open holes in a ring, ascending in counter and, since holes are noticed
	// in that order, in deadline too.
	ring       []hole
	head, open int

	// Floors of starts of which no counter was named so far, ascending.
	floors  [listLength]uint64
	nFloors int
	// The latest ranges that starts have skipped, ascending: a frame from there
	// is late but corrects no report.
	excused  [listLength]span
	nExcused int

	missing   uint64
	deleted   uint64
	corrected uint64
}

// NewGaps returns the account of one stream.
func NewGaps(opts GapOptions) (*Gaps, error) {
	if opts.Next == 0 {
		opts.Next = 1
	}
	if opts.Window == 0 {
		opts.Window = MaxSize
	}
	if opts.MaxHoles == 0 {
		opts.MaxHoles = defaultMaxHoles
	}
	switch {
	case opts.Next > MaxCounter+1:
		return nil, fmt.Errorf("open gap account: %w: next counter %d", ErrGapOptions, opts.Next)
	case opts.Window < MinSize || opts.Window > MaxSize:
		return nil, fmt.Errorf("open gap account: %w: window %d", ErrGapOptions, opts.Window)
	case opts.Period < 0 || opts.Period > 1<<62/holdPeriods:
		return nil, fmt.Errorf("open gap account: %w: period %v", ErrGapOptions, opts.Period)
	case opts.MaxHoles < 2 || opts.MaxHoles > limitMaxHoles:
		return nil, fmt.Errorf("open gap account: %w: %d holes", ErrGapOptions, opts.MaxHoles)
	}
	return &Gaps{
		next:   opts.Next,
		origin: opts.Next,
		window: uint64(opts.Window),
		hold:   int64(max(minHold, holdPeriods*opts.Period)),
		ring:   make([]hole, opts.MaxHoles),
	}, nil
}

// Frame takes a verified frame, for which Window.Commit has just returned Fresh,
// and appends what is now deleted to out. A late frame closes its hole even if
// its time is up, unless an earlier call has reported it.
func (g *Gaps) Frame(counter uint64, now int64, out []Report) []Report {
	if g.Follows(counter) {
		g.Run(counter, now)
		return out
	}
	if counter < g.next {
		var filled bool
		if filled, out = g.fill(counter, out); !filled && !g.isExcused(counter) {
			g.corrected++
		}
	}
	g.highest = max(g.highest, counter)
	// Settle before a new hole is put into the list, so that no hole is called
	// an overflow whose end had come anyway.
	out = g.Tick(now, g.leave(out))
	if counter >= g.next {
		out = g.advance(counter, out)
		g.next = counter + 1
		out = g.leave(out)
	}
	return out
}

// Follows says that counter is next in order and nothing is missing. Run takes
// it then, and as many behind it as have verified.
func (g *Gaps) Follows(counter uint64) bool { return counter == g.next && g.open == 0 }

// Run does what Frame does for each counter from the next one, of which Follows
// has just been true, up to last. now is the latest time of any of them. Floors
// that the frames pass stay in their list, where they have no effect any more.
func (g *Gaps) Run(last uint64, now int64) {
	g.next = last + 1
	g.highest = last
	g.now = max(g.now, now)
}

// Heartbeat takes the next counter of the stream as a verified heartbeat names
// it: all below have been sealed, so those that have not come are missing. One
// that was overtaken names nothing new.
func (g *Gaps) Heartbeat(next uint64, now int64, out []Report) []Report {
	out = g.Tick(now, out)
	if next > g.next {
		out = g.advance(next, out)
	}
	return out
}

// Tick lets time pass without a frame and appends the holes whose time is up to
// out. NextDeadline says when that has an effect.
func (g *Gaps) Tick(now int64, out []Report) []Report {
	g.now = max(g.now, now)
	for g.open > 0 && g.at(0).deadline <= g.now {
		out = g.settle(TimedOut, out)
	}
	return out
}

// SetFloor tells that the node has started again, or entered an epoch, with
// counters from floor on: those between the last one before and floor were never
// sealed. The last 8 floors are kept. It closes no hole that was noticed before:
// the frame behind such a hole proves that its samples existed. Frames and
// heartbeats of the run before may still come, and still show holes below.
func (g *Gaps) SetFloor(floor uint64) {
	if floor <= g.next {
		return
	}
	i := g.nFloors
	for i > 0 && g.floors[i-1] >= floor {
		if g.floors[i-1] == floor {
			return
		}
		i--
	}
	if g.nFloors == listLength {
		// The lowest belongs to the oldest start, of which the gateway knows
		// nothing any more.
		if i == 0 {
			return
		}
		copy(g.floors[:], g.floors[1:i])
		g.floors[i-1] = floor
		return
	}
	copy(g.floors[i+1:], g.floors[i:g.nFloors])
	g.floors[i] = floor
	g.nFloors++
}

// Missing returns the number of samples in open holes.
func (g *Gaps) Missing() uint64 { return g.missing }

// Deleted returns the number of samples reported as deleted so far, those that a
// late frame corrected included.
func (g *Gaps) Deleted() uint64 { return g.deleted }

// Corrected returns the number of frames that came after their report.
func (g *Gaps) Corrected() uint64 { return g.corrected }

// Retune goes on with another window and period, as [GapOptions] has them, and appends what is now deleted to out. No hole is held
// for longer than the new time from now on: those that are open would otherwise hide later ones, which are due before them.
func (g *Gaps) Retune(window int, period time.Duration, out []Report) ([]Report, error) {
	if window < MinSize || window > MaxSize || period < 0 || period > 1<<62/holdPeriods {
		return out, fmt.Errorf("change gap account: %w: window %d, period %v", ErrGapOptions, window, period)
	}
	g.window, g.hold = uint64(window), int64(max(minHold, holdPeriods*period))
	for i := range g.open {
		h := g.at(i)
		h.deadline = min(h.deadline, g.now+g.hold)
	}
	return g.leave(out), nil
}

// Now returns the latest time that was seen.
func (g *Gaps) Now() int64 { return g.now }

// NextDeadline returns the time at which the oldest open hole counts as
// deleted; ok is false if none is open.
func (g *Gaps) NextDeadline() (ns int64, ok bool) {
	if g.open == 0 {
		return 0, false
	}
	return g.at(0).deadline, true
}

// advance notices every counter from next up to but not including to, as far as
// a start did not skip it.
func (g *Gaps) advance(to uint64, out []Report) []Report {
	first := g.next
	g.next = to
	// The floor that counts is the highest one not above to. Equal is enough:
	// a heartbeat that names the floor as next says that nothing was sealed.
	spent := 0
	for spent < g.nFloors && g.floors[spent] <= to {
		spent++
	}
	if spent > 0 {
		floor := g.floors[spent-1]
		g.nFloors = copy(g.floors[:], g.floors[spent:g.nFloors])
		if floor > first {
			g.excuse(span{first, floor - 1})
			first = floor
		}
	}
	if first >= to {
		return out
	}
	return g.notice(first, to-1, out)
}

// notice adds the hole first..last, above all others.
func (g *Gaps) notice(first, last uint64, out []Report) []Report {
	deadline := g.now + g.hold
	g.missing += last - first + 1
	if g.open > 0 {
		if h := g.at(g.open - 1); h.last+1 == first && h.deadline == deadline {
			h.last = last
			return out
		}
	}
	if g.open == len(g.ring) {
		out = g.settle(Overflow, out)
	}
	g.open++
	*g.at(g.open - 1) = hole{first, last, deadline}
	return out
}

// fill takes counter out of the hole that it is in, if any.
func (g *Gaps) fill(counter uint64, out []Report) (bool, []Report) {
	lo, hi := 0, g.open // the first hole whose last is not below counter
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if g.at(mid).last < counter {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == g.open || g.at(lo).first > counter {
		return false, out
	}
	g.missing--
	h := g.at(lo)
	switch {
	case h.first == h.last:
		g.remove(lo)
	case h.first == counter:
		h.first++
	case h.last == counter:
		h.last--
	default:
		low := hole{h.first, counter - 1, h.deadline}
		h.first = counter + 1
		if g.open < len(g.ring) {
			g.insert(lo, low)
			return true, out
		}
		// The list is full. The oldest part goes, which is low itself if the
		// hole is the oldest.
		if lo == 0 {
			return true, g.report(low, Overflow, out)
		}
		out = g.settle(Overflow, out)
		g.insert(lo-1, low)
	}
	return true, out
}

// leave settles what the replay window has passed, counter by counter.
func (g *Gaps) leave(out []Report) []Report {
	if g.highest < g.window {
		return out
	}
	limit := g.highest - g.window // the highest counter that is too old
	for g.open > 0 {
		h := g.at(0)
		if h.first > limit {
			break
		}
		if h.last > limit {
			out = g.report(hole{h.first, limit, h.deadline}, LeftWindow, out)
			h.first = limit + 1
			break
		}
		out = g.settle(LeftWindow, out)
	}
	return out
}

// settle reports the oldest hole and closes it.
func (g *Gaps) settle(cause Cause, out []Report) []Report {
	out = g.report(*g.at(0), cause, out)
	g.head = g.index(1)
	g.open--
	return out
}

func (g *Gaps) report(h hole, cause Cause, out []Report) []Report {
	r := Report{h.first, h.last, cause}
	g.missing -= r.Count()
	g.deleted += r.Count()
	return append(out, r)
}

// excuse remembers a skipped range, above all others, in place of the oldest if
// there are too many: a late frame from that one would count as a correction,
// which harms no report, and the window hardly reaches so far.
func (g *Gaps) excuse(s span) {
	if g.nExcused == listLength {
		g.nExcused = copy(g.excused[:], g.excused[1:])
	}
	g.excused[g.nExcused] = s
	g.nExcused++
}

func (g *Gaps) isExcused(counter uint64) bool {
	if counter < g.origin {
		return true
	}
	for _, s := range g.excused[:g.nExcused] {
		if s.first <= counter && counter <= s.last {
			return true
		}
	}
	return false
}

// at returns hole i, counted from the oldest.
func (g *Gaps) at(i int) *hole { return &g.ring[g.index(i)] }

func (g *Gaps) index(i int) int {
	if i += g.head; i >= len(g.ring) {
		i -= len(g.ring)
	}
	return i
}

// insert puts h in front of hole i.
func (g *Gaps) insert(i int, h hole) {
	g.open++
	for j := g.open - 1; j > i; j-- {
		*g.at(j) = *g.at(j - 1)
	}
	*g.at(i) = h
}

// remove takes out hole i and keeps the order.
func (g *Gaps) remove(i int) {
	for j := i; j < g.open-1; j++ {
		*g.at(j) = *g.at(j + 1)
	}
	g.open--
}
