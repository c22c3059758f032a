// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// periods are those that streams are tried with: as fast as source times can tell, faster, as batteries have them, and as slow as there
// are.
func periods() []time.Duration {
	return []time.Duration{0, 300 * time.Microsecond, time.Millisecond, 7 * time.Millisecond, period, time.Minute, 24 * time.Hour}
}

// rules states the rules of a stream that is not multiplexed anew, one after another and without regard to time: everything that it
// keeps is the thing itself, and the clocks are compared by their least difference, and when that was.
type rules struct {
	heard           bool
	first, end      uint64
	counter         uint64
	source          uint32
	taken           int64 // source time in ns, since that of the first sample
	moved, came     int64
	base, baseAt    int64
	credit, seen    int64
	floors          []uint64
	burst, p, stuck int64
	// narrow says that the last sample was about as late as is allowed: then a nanosecond's rounding decides.
	narrow bool
}

func newRules(period time.Duration) *rules {
	p := int64(period)
	return &rules{burst: max(2*second, 32*p), p: p, stuck: max(500*ms, p+p/2)}
}

func (r *rules) begins(floor uint64) {
	if floor == 0 || floor <= r.first || floor <= r.counter || len(r.floors) == floorsAhead && floor > r.floors[floorsAhead-1] {
		return
	}
	var all []uint64
	for _, f := range r.floors {
		if f == floor {
			return
		}
		if f > floor && (len(all) == 0 || all[len(all)-1] < floor) {
			all = append(all, floor)
		}
		all = append(all, f)
	}
	if len(all) == len(r.floors) {
		all = append(all, floor)
	}
	r.floors = all[:min(len(all), floorsAhead)]
	if r.heard {
		r.end = min(r.end, floor)
	}
}

func (r *rules) sample(counter uint64, source uint32, receive int64) (f Finding) {
	r.seen, r.narrow = max(r.seen, receive), false
	if !r.heard || counter < r.first || counter >= r.end {
		r.begin(counter, source, receive)
		return 0
	}
	advance := int64(int32(source-r.source)) * ms
	taken := r.taken + advance
	if counter > r.counter {
		if advance < 0 {
			r.counter, r.came = counter, receive
			r.learn(source, receive)
			return Backward
		}
		passed := min(max(advance, receive-r.came), max(int64(time.Hour), r.burst))
		r.credit = min(r.credit+passed+passed/2-int64(min(counter-r.counter, 1<<16))*r.p, r.burst)
		if r.credit < 0 {
			r.credit = 0
			f |= TooFast
		}
		r.counter, r.came = counter, max(r.came, receive)
		if advance != 0 {
			r.source, r.taken, r.moved = source, taken, receive
		} else if receive-r.moved > r.stuck {
			return f | Frozen
		} else {
			receive = r.moved
		}
	}
	d := receive - taken
	allowed := r.allowed(receive)
	if d < allowed {
		r.base, r.baseAt = d, receive
	} else if d-allowed > 2*second {
		f |= Delayed
	}
	r.narrow = max(d-allowed-2*second, 2*second-d+allowed) <= 3
	return f
}

// allowed is the least difference of the clocks as it may have become.
func (r *rules) allowed(at int64) int64 { return r.base + (at-r.baseAt)/5000 }

func (r *rules) begin(counter uint64, source uint32, receive int64) {
	if r.heard && counter < r.first {
		return
	}
	for len(r.floors) > 0 && r.floors[0] <= counter {
		r.first, r.floors = r.floors[0], r.floors[1:]
	}
	r.heard, r.end = true, math.MaxUint64
	if len(r.floors) > 0 {
		r.end = r.floors[0]
	}
	r.counter, r.came, r.credit = counter, receive, r.burst
	r.learn(source, receive)
}

func (r *rules) learn(source uint32, receive int64) {
	r.source, r.taken, r.moved, r.base, r.baseAt = source, 0, receive, receive, receive
}

// snapshot is what a process of these rules hands over.
func (r *rules) snapshot() (b []byte) {
	span := uint64(0)
	if r.heard {
		span = r.end - r.first
	}
	for _, v := range []uint64{r.first, span, r.counter, uint64(r.source)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, v := range []int64{r.taken, r.moved, r.came, r.base, r.baseAt, r.credit, r.seen} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	for i := range floorsAhead {
		v := uint64(0)
		if i < len(r.floors) {
			v = r.floors[i]
		}
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// restore takes up what a process has handed over.
func (r *rules) restore(b []byte) {
	var w [numbers]uint64
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	r.first, r.heard, r.end, r.counter, r.source = w[0], w[1] != 0, w[0]+w[1], w[2], uint32(w[3])
	r.taken, r.moved, r.came, r.base, r.baseAt, r.credit, r.seen = int64(w[4]), int64(w[5]), int64(w[6]), int64(w[7]), int64(w[8]), int64(w[9]), int64(w[10])
	r.floors = nil
	for _, f := range w[11:] {
		if f != 0 {
			r.floors = append(r.floors, f)
		}
	}
}

// differs says where a stream stands otherwise than the rules, but for some ns of rounding in the least difference of the clocks.
func (r *rules) differs(s *Stream) bool {
	p := &s.pace
	if r.heard != (s.end != 0) || r.first != s.first || r.heard && r.end != s.end || r.counter+1 != p.Next || r.source != uint32(p.Source) ||
		r.moved != p.Seen-s.movedBefore || r.came != p.Seen-s.cameBefore || r.heard && r.credit != s.credit || r.seen != p.Seen {
		return true
	}
	for i, f := range s.floors {
		if i < len(r.floors) && f != r.floors[i] || i >= len(r.floors) && f != 0 {
			return true
		}
	}
	// A sample of the gateway's time now and the node's time of its highest sample.
	over, want := Level(p.Seen, p.Source)-p.Fastest, r.seen-r.taken-r.allowed(r.seen)
	return r.heard && max(over-want, want-over) > 3
}

// TestRules compares what is found with the rules, on both ways of asking and over a change of processes in between: from one by the
// rules to this one, and back.
func TestRules(t *testing.T) {
	seen := make(map[Finding]int)
	plain, handed, narrow := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		o := Options{Period: rapid.SampledFrom(periods()).Draw(rt, "period")}
		s, r := New(o), newRules(o.Period)
		step := max(int64(o.Period), ms)
		// Mostly as it should be, or mostly not.
		usual := rapid.SampledFrom([]int{10, 60, 97}).Draw(rt, "usual")
		odd := func(what string) bool { return rapid.IntRange(0, 99).Draw(rt, what) >= usual }
		counter, source, now := uint64(rapid.IntRange(0, 300).Draw(rt, "first")), rapid.Uint32().Draw(rt, "source"), 50*second
		for range rapid.IntRange(1, 120).Draw(rt, "samples") {
			c, x, at := counter+1, source+uint32(step/ms), now+step
			if odd("counter") {
				c = (counter + rapid.SampledFrom([]uint64{2, 3, 40, 1000, 100_000, 0, math.MaxUint64, math.MaxUint64 - 4}).Draw(rt, "by")) & (1<<48 - 1)
			}
			if odd("source time") {
				x = source + uint32(rapid.SampledFrom([]int64{0, 0, 1, step / ms / 2, 2 * step / ms, 3 * step / ms, -5, 2000, 5000, 1 << 31}).Draw(rt, "by"))
			}
			if odd("receive") {
				at = max(0, now+rapid.SampledFrom([]int64{0, 0, -1, 1, ms, step - 1, step + 1, step / 2, 600 * ms, 2*second + step - 1, 2*second + step,
					2*second + step + ms, 5 * second, 2 * int64(time.Hour), -2 * second}).Draw(rt, "by"))
			}
			if odd("start") {
				floor := counter + uint64(rapid.IntRange(0, 60).Draw(rt, "floor"))
				s.Begins(floor)
				r.begins(floor)
			}
			if odd("heard") {
				s.Heard(at)
				r.seen = max(r.seen, at)
			}
			if odd("held") {
				s.Hold(rapid.Bool().Draw(rt, "on"))
			}
			switch rapid.IntRange(0, 60).Draw(rt, "hand over") {
			case 0:
				was := *r
				r.restore(s.Snapshot())
				if r.differs(s) {
					rt.Fatalf("from %+v comes %+v, which was %+v", *s, *r, was)
				}
				handed++
			case 1:
				s = New(o)
				if err := s.Restore(r.snapshot(), r.seen); err != nil {
					rt.Fatal(err)
				}
				handed++
			}
			got := Finding(0)
			if s.Pace().Plain(c, x, at) {
				plain++
			} else {
				got = s.Sample(c, x, at, nil)
			}
			want := r.sample(c, x, at)
			if r.narrow {
				got, want = got&^Delayed, want&^Delayed
				narrow++
			}
			if got != want || r.differs(s) {
				rt.Fatalf("sample %d, taken at %d, come at %d: %04b, want %04b; %+v, want %+v", c, x, at, got, want, *s, *r)
			}
			for f := Delayed; f <= TooFast; f <<= 1 {
				if want&f != 0 {
					seen[f]++
				}
			}
			if c > counter || odd("follow") {
				counter, source, now = c, x, at
			}
		}
	})
	for _, f := range []Finding{Delayed, Frozen, Backward, TooFast} {
		if seen[f] == 0 {
			t.Errorf("no sample was found to be %04b", f)
		}
	}
	if plain == 0 || handed == 0 {
		t.Errorf("%d were plain, %d times processes changed", plain, handed)
	}
	t.Logf("%v; %d plain, %d processes changed, %d as late as is allowed", seen, plain, handed, narrow)
}

// TestRulesInOrder lets clocks run for a long time that differ by up to 300 ppm, with delays, so that the least difference is found
// again and again and is as it would be by the rules all along.
func TestRulesInOrder(t *testing.T) {
	plain, delayed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		o := Options{Period: rapid.SampledFrom([]time.Duration{10 * time.Millisecond, time.Second, time.Minute}).Draw(rt, "period")}
		s, r := New(o), newRules(o.Period)
		ppm := rapid.Int64Range(-300, 300).Draw(rt, "ppm")
		late := rapid.SampledFrom([]int64{ms, 1900 * ms, 2100 * ms}).Draw(rt, "late")
		source, now := rapid.Int64Range(0, math.MaxUint32).Draw(rt, "source"), rapid.Int64Range(0, int64(1e6*time.Second)).Draw(rt, "now")
		for i, n := uint64(0), uint64(rapid.IntRange(1, 300).Draw(rt, "samples")); i < n; i++ {
			source += int64(o.Period) / ms
			now += int64(o.Period) + int64(o.Period)*ppm/1e6
			at := now + rapid.Int64Range(0, late).Draw(rt, "by")
			got := Finding(0)
			if s.Pace().Plain(i, uint32(source), at) {
				plain++
			} else {
				got = s.Sample(i, uint32(source), at, nil)
			}
			want := r.sample(i, uint32(source), at)
			if r.narrow {
				got, want = got&^Delayed, want&^Delayed
			}
			if got != want || r.differs(s) {
				rt.Fatalf("sample %d: %04b, want %04b; %+v, want %+v", i, got, want, *s, *r)
			}
			if want&Delayed != 0 {
				delayed++
			}
		}
	})
	if plain == 0 || delayed == 0 {
		t.Errorf("%d were plain, %d delayed", plain, delayed)
	}
}

// TestPaceLeaves wants whatever has to be looked at by Sample to be left to it, and nothing else.
func TestPaceLeaves(t *testing.T) {
	if size := unsafe.Sizeof(Pace{}); size != 64 || unsafe.Offsetof(Stream{}.pace) != 0 || unsafe.Sizeof(Stream{})%64 != 0 {
		t.Errorf("%d bytes, which are not a cache line of their own", size)
	}
	f := newFeed()
	ask := func(what string, want bool) {
		t.Helper()
		was := *f.s
		f.counter++
		f.source += 100
		f.now += 100 * ms
		if got := f.s.Pace().Plain(f.counter, uint32(f.source), f.now); got != want {
			t.Errorf("%s: plain %v", what, got)
		} else if !want {
			if was != *f.s {
				t.Errorf("%s: changed by asking", what)
			}
			f.s.Sample(f.counter, uint32(f.source), f.now, nil)
		}
	}
	ask("the first", false)
	ask("the next", true)
	f.s.Hold(true)
	ask("held", false)
	ask("held still", false)
	f.s.Hold(false)
	ask("held no more", true)
	f.s.Begins(f.counter + 2)
	ask("the last of a run", false)
	ask("the first of one that began", false)
	ask("the next of it", true)
	f.counter, f.source, f.now = f.counter+10, f.source+1000, f.now+1000*ms
	ask("behind ten that are missing", false)
	ask("the next behind them", true)
	f.now -= 2 * 100 * ms
	ask("overtaking", false)
	f.now += 2 * 100 * ms
	ask("behind a frame that was overtaken", false)
	ask("in order again", true)
	f.s.Heard(f.now + ms)
	ask("behind something else that was heard", false)
	ask("as ever", true)
	f.s.credit -= 60 * ms
	f.s.fold()
	ask("from a node that has sent too fast", false)
	for range 2 {
		f.next()
	}
	ask("and has made up for it", true)
	m := &feed{s: New(paged()), now: 50 * second}
	m.s.Sample(1, 100, m.now, []byte{0, 0, 0})
	if m.s.Pace().Plain(2, 200, m.now+100*ms) {
		t.Error("multiplexed, and plain")
	}
	if got := m.s.Sample(2, 200, m.now+100*ms, []byte{1, 0, 0}); got != 0 {
		t.Errorf("multiplexed: %04b", got)
	}
}
