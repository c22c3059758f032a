// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

const sec = int64(time.Second)

func newGaps(t testing.TB, opts GapOptions) *Gaps {
	t.Helper()
	g, err := NewGaps(opts)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestNewGapsRefuses(t *testing.T) {
	for _, opts := range []GapOptions{
		{Next: MaxCounter + 2},
		{Window: 63}, {Window: 1025}, {Window: -1},
		{Period: -1}, {Period: 1<<63 - 1},
		{MaxHoles: 1}, {MaxHoles: -1}, {MaxHoles: 1<<16 + 1},
	} {
		if _, err := NewGaps(opts); !errors.Is(err, ErrGapOptions) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	if _, err := NewGaps(GapOptions{}); err != nil {
		t.Errorf("zero options: %v", err)
	}
}

// gapStep is one call; exactly one of the first four is set, tick otherwise.
type gapStep struct {
	frame, heartbeat, floor uint64
	at                      int64 // ns
	want                    []Report
}

func TestGapScenarios(t *testing.T) {
	var many []gapStep // more holes than fit: every other counter
	for c := uint64(2); c <= 8; c += 2 {
		many = append(many, gapStep{frame: c})
	}
	for _, c := range []struct {
		name               string
		opts               GapOptions
		steps              []gapStep
		deleted, corrected uint64
		missing            uint64
	}{
		{
			name: "in order",
			steps: []gapStep{
				{frame: 1}, {frame: 2}, {frame: 3, at: 10 * sec}, {at: 100 * sec},
			},
		},
		{
			name: "one deleted, by time",
			steps: []gapStep{
				{frame: 1}, {frame: 3, at: 1}, {at: 2 * sec}, {at: 2*sec + 1, want: []Report{{2, 2, TimedOut}}}, {at: 9 * sec},
			},
			deleted: 1,
		},
		{
			name: "three periods are longer",
			opts: GapOptions{Period: 10 * time.Second},
			steps: []gapStep{
				{frame: 1}, {frame: 3}, {at: 30*sec - 1}, {at: 30 * sec, want: []Report{{2, 2, TimedOut}}},
			},
			deleted: 1,
		},
		{
			name: "two seconds are longer",
			opts: GapOptions{Period: 100 * time.Millisecond},
			steps: []gapStep{
				{frame: 1}, {frame: 3}, {at: 2*sec - 1}, {frame: 4, at: 2 * sec, want: []Report{{2, 2, TimedOut}}},
			},
			deleted: 1,
		},
		{
			name: "leaves the window one by one",
			opts: GapOptions{Window: 64},
			steps: []gapStep{
				{frame: 1}, {frame: 4}, {frame: 65}, {frame: 66, want: []Report{{2, 2, LeftWindow}}},
				{frame: 67, want: []Report{{3, 3, LeftWindow}}}, {frame: 68}, {frame: 69, want: []Report{{5, 5, LeftWindow}}},
			},
			deleted: 3, missing: 59,
		},
		{
			name: "long jump",
			steps: []gapStep{
				{frame: 1}, {frame: 5001, want: []Report{{2, 3977, LeftWindow}}},
			},
			deleted: 3976, missing: 1023,
		},
		{
			name: "late inside its time",
			steps: []gapStep{
				{frame: 1}, {frame: 6}, {frame: 3, at: sec}, {frame: 5, at: sec}, {frame: 2, at: sec},
				{at: 2 * sec, want: []Report{{4, 4, TimedOut}}},
			},
			deleted: 1,
		},
		{
			name: "late when its time is just up",
			steps: []gapStep{
				{frame: 1}, {frame: 3}, {frame: 2, at: 5 * sec}, {at: 9 * sec},
			},
		},
		{
			name: "late after its report",
			steps: []gapStep{
				{frame: 1}, {frame: 4}, {at: 2 * sec, want: []Report{{2, 3, TimedOut}}}, {frame: 2, at: 3 * sec},
			},
			deleted: 2, corrected: 1,
		},
		{
			name: "deleted tail",
			steps: []gapStep{
				{frame: 1}, {heartbeat: 2}, {heartbeat: 4, at: sec}, {heartbeat: 4, at: 2 * sec},
				{at: 3 * sec, want: []Report{{2, 3, TimedOut}}},
			},
			deleted: 2,
		},
		{
			name: "nothing but heartbeats",
			steps: []gapStep{
				{heartbeat: 1}, {heartbeat: 3, at: sec}, {heartbeat: 5, at: 2 * sec},
				{heartbeat: 5, at: 3 * sec, want: []Report{{1, 2, TimedOut}}},
				{heartbeat: 5, at: 4 * sec, want: []Report{{3, 4, TimedOut}}},
			},
			deleted: 4,
		},
		{
			name: "overtaken heartbeat",
			steps: []gapStep{
				{frame: 1}, {heartbeat: 5}, {heartbeat: 3}, {frame: 2}, {frame: 3}, {frame: 4}, {at: 9 * sec},
			},
		},
		{
			name: "tail of a whole epoch, then samples from it",
			steps: []gapStep{
				{frame: 1}, {heartbeat: 1 + EpochSpan}, {frame: 100},
				{at: 2 * sec, want: []Report{{2, 99, TimedOut}, {101, EpochSpan, TimedOut}}}, {frame: 101, at: 3 * sec},
			},
			deleted: EpochSpan - 2, corrected: 1,
		},
		{
			name: "tail does not move the window",
			opts: GapOptions{Window: 64},
			steps: []gapStep{
				{frame: 1}, {heartbeat: 500}, {frame: 65}, {frame: 66, want: []Report{{2, 2, LeftWindow}}},
			},
			deleted: 1, missing: 499 - 1 - 2 - 1,
		},
		{
			name: "new start",
			steps: []gapStep{
				{frame: 1}, {frame: 2}, {floor: 65536}, {frame: 65536}, {at: 9 * sec},
			},
		},
		{
			name: "new start, first samples deleted",
			steps: []gapStep{
				{frame: 1}, {floor: 65536}, {frame: 65539},
				{at: 2 * sec, want: []Report{{65536, 65538, TimedOut}}},
			},
			deleted: 3,
		},
		{
			name: "new start, nothing sealed yet",
			steps: []gapStep{
				{frame: 1}, {floor: 65536}, {heartbeat: 65536}, {at: 9 * sec}, {heartbeat: 65538, at: 9 * sec},
				{at: 11 * sec, want: []Report{{65536, 65537, TimedOut}}},
			},
			deleted: 2,
		},
		{
			name: "frames of the run before arrive behind the start record",
			steps: []gapStep{
				{frame: 1}, {floor: 65536}, {frame: 4}, {frame: 3}, {frame: 65536, want: []Report{{2, 2, LeftWindow}}},
			},
			deleted: 1,
		},
		{
			name: "heartbeat of the run before arrives behind the start record",
			steps: []gapStep{
				{frame: 1}, {floor: 65536}, {heartbeat: 3}, {frame: 65536, want: []Report{{2, 2, LeftWindow}}},
			},
			deleted: 1,
		},
		{
			name: "hole from before the start stays one",
			steps: []gapStep{
				{frame: 1}, {frame: 3}, {floor: 200}, {frame: 200}, {at: 2 * sec, want: []Report{{2, 2, TimedOut}}},
			},
			deleted: 1,
		},
		{
			name: "late frame from below the floor corrects nothing",
			steps: []gapStep{
				{frame: 1}, {floor: 200}, {frame: 200}, {frame: 2}, {at: 9 * sec},
			},
		},
		{
			name: "two starts before a frame, first one's frame late",
			steps: []gapStep{
				{frame: 1}, {floor: 300}, {floor: 200}, {floor: 300}, {frame: 202}, {frame: 301},
				{at: 2 * sec, want: []Report{{200, 201, TimedOut}, {300, 300, TimedOut}}},
			},
			deleted: 3,
		},
		{
			name: "floor that is already passed",
			steps: []gapStep{
				{frame: 100, want: nil}, {floor: 50}, {floor: 101}, {frame: 103},
			},
			missing: 99 + 2,
		},
		{
			name: "resumed",
			opts: GapOptions{Next: 1000},
			steps: []gapStep{
				{frame: 990}, {frame: 1000}, {frame: 1002}, {at: 2 * sec, want: []Report{{1001, 1001, TimedOut}}}, {frame: 999, at: 2 * sec},
			},
			deleted: 1,
		},
		{
			name:    "too many holes",
			opts:    GapOptions{MaxHoles: 3},
			steps:   append(slices.Clone(many[:3]), gapStep{frame: 8, want: []Report{{1, 1, Overflow}}}, gapStep{frame: 1}),
			deleted: 1, corrected: 1, missing: 3,
		},
		{
			name: "too many holes by a split of the oldest",
			opts: GapOptions{MaxHoles: 2},
			steps: []gapStep{
				{frame: 6}, {frame: 8}, {frame: 3, want: []Report{{1, 2, Overflow}}},
			},
			deleted: 2, missing: 3,
		},
		{
			name: "too many holes by a split of a later one",
			opts: GapOptions{MaxHoles: 2},
			steps: []gapStep{
				{frame: 2}, {frame: 8}, {frame: 5, want: []Report{{1, 1, Overflow}}},
				{at: 2 * sec, want: []Report{{3, 4, TimedOut}, {6, 7, TimedOut}}},
			},
			deleted: 5,
		},
		{
			name: "what has left the window is no overflow",
			opts: GapOptions{MaxHoles: 2, Window: 64},
			steps: []gapStep{
				{frame: 2}, {frame: 4}, {frame: 100, want: []Report{{1, 1, LeftWindow}, {3, 3, LeftWindow}, {5, 36, LeftWindow}}},
			},
			deleted: 34, missing: 63,
		},
		{
			name: "time goes back",
			steps: []gapStep{
				{frame: 1, at: 10 * sec}, {frame: 3, at: 1 * sec}, {at: 11 * sec}, {at: 12 * sec, want: []Report{{2, 2, TimedOut}}},
			},
			deleted: 1,
		},
		{
			name: "last counters",
			opts: GapOptions{Next: MaxCounter - 2},
			steps: []gapStep{
				{frame: MaxCounter}, {at: 2 * sec, want: []Report{{MaxCounter - 2, MaxCounter - 1, TimedOut}}},
			},
			deleted: 2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGaps(t, c.opts)
			for i, s := range c.steps {
				var got []Report
				switch {
				case s.frame != 0:
					got = g.Frame(s.frame, s.at, nil)
				case s.heartbeat != 0:
					got = g.Heartbeat(s.heartbeat, s.at, nil)
				case s.floor != 0:
					g.SetFloor(s.floor)
				default:
					got = g.Tick(s.at, nil)
				}
				if !reflect.DeepEqual(got, s.want) {
					t.Fatalf("step %d %+v: reports %v", i, s, got)
				}
			}
			if g.Deleted() != c.deleted || g.Corrected() != c.corrected || g.Missing() != c.missing {
				t.Fatalf("deleted %d, corrected %d, missing %d, want %d, %d, %d",
					g.Deleted(), g.Corrected(), g.Missing(), c.deleted, c.corrected, c.missing)
			}
		})
	}
}

func TestNextDeadline(t *testing.T) {
	g := newGaps(t, GapOptions{})
	if _, ok := g.NextDeadline(); ok {
		t.Fatal("deadline without a hole")
	}
	g.Frame(3, 5*sec, nil)
	g.Frame(5, 6*sec, nil)
	for _, want := range []int64{7 * sec, 8 * sec} {
		ns, ok := g.NextDeadline()
		if !ok || ns != want {
			t.Fatalf("deadline %d, %v, want %d", ns, ok, want)
		}
		if r := g.Tick(ns-1, nil); len(r) != 0 {
			t.Fatalf("reports %v before the deadline", r)
		}
		if r := g.Tick(ns, nil); len(r) != 1 {
			t.Fatalf("reports %v at the deadline", r)
		}
	}
	if _, ok := g.NextDeadline(); ok {
		t.Fatal("deadline after the last hole")
	}
}

// TestFloorsAreBounded: of more floors than fit the highest count, in whatever
// order they come, and one that comes again takes no room.
func TestFloorsAreBounded(t *testing.T) {
	for _, c := range []struct {
		name   string
		floors []uint64 // in thousands
	}{
		{"ascending", []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{"descending", []uint64{12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{"one in the middle last", []uint64{3, 4, 5, 6, 7, 8, 10, 11, 12, 9}},
		{"again and again", []uint64{5, 6, 7, 8, 9, 10, 11, 12, 12, 11, 8, 8, 5, 12}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGaps(t, GapOptions{})
			for _, f := range c.floors {
				g.SetFloor(f * 1000)
			}
			var lost uint64
			for f := uint64(5); f <= 12; f++ { // the highest 8
				g.Frame(f*1000+1, 0, nil) // the first sample of each run is missing
				lost++
				if got := g.Missing() + g.Deleted(); got != lost {
					t.Fatalf("floor %d: %d missing or deleted, want %d", f*1000, got, lost)
				}
			}
		})
	}
}

// TestExcusedRangesAreBounded: late frames from the latest 8 ranges that starts
// have skipped correct nothing.
func TestExcusedRangesAreBounded(t *testing.T) {
	g := newGaps(t, GapOptions{})
	const starts = 12
	for s := uint64(1); s <= starts; s++ {
		g.SetFloor(s * 50)
		g.Frame(s*50, 0, nil)
	}
	for s := uint64(starts); s > starts-8; s-- {
		g.Frame(s*50-1, 0, nil)
		if g.Corrected() != 0 || g.Missing() != 0 {
			t.Fatalf("frame below floor %d: corrected %d, missing %d", s*50, g.Corrected(), g.Missing())
		}
	}
}

// gapModel is the definition, one counter at a time.
type gapModel struct {
	next, origin, highest, window uint64
	hold, now                     int64
	max                           int
	pending                       map[uint64]int64 // deadline
	reported                      map[uint64]bool
	floors                        []uint64
	skipped                       []span
	corrected, deleted            uint64
}

type lost struct {
	counter uint64
	cause   Cause
}

func (m *gapModel) sorted() []uint64 {
	list := make([]uint64, 0, len(m.pending))
	for c := range m.pending {
		list = append(list, c)
	}
	slices.Sort(list)
	return list
}

func (m *gapModel) give(c uint64, cause Cause, out []lost) []lost {
	delete(m.pending, c)
	m.reported[c] = true
	m.deleted++
	return append(out, lost{c, cause})
}

// overflow gives up the lowest run of counters with one deadline if there are
// more runs than holes.
func (m *gapModel) overflow(out []lost) []lost {
	list := m.sorted()
	runs, end := 0, 0
	for i, c := range list {
		if i == 0 || list[i-1]+1 != c || m.pending[list[i-1]] != m.pending[c] {
			runs++
		}
		if runs == 1 {
			end = i + 1
		}
	}
	if runs > m.max {
		for _, c := range list[:end] {
			out = m.give(c, Overflow, out)
		}
	}
	return out
}

func (m *gapModel) leave(out []lost) []lost {
	for _, c := range m.sorted() {
		if m.highest >= m.window && c <= m.highest-m.window {
			out = m.give(c, LeftWindow, out)
		}
	}
	return out
}

func (m *gapModel) tick(now int64, out []lost) []lost {
	m.now = max(m.now, now)
	for _, c := range m.sorted() {
		if m.pending[c] <= m.now {
			out = m.give(c, TimedOut, out)
		}
	}
	return out
}

func (m *gapModel) advance(to uint64, out []lost) []lost {
	var floor uint64
	for _, f := range m.floors {
		if f <= to {
			floor = max(floor, f)
		}
	}
	if floor > m.next {
		m.skipped = append(m.skipped, span{m.next, floor - 1})
	}
	for c := max(m.next, floor); c < to; c++ {
		m.pending[c] = m.now + m.hold
	}
	m.next = to
	return m.leave(m.overflow(out))
}

func (m *gapModel) frame(c uint64, now int64) (out []lost) {
	if _, ok := m.pending[c]; ok {
		delete(m.pending, c)
		out = m.overflow(out)
	} else if m.reported[c] {
		delete(m.reported, c)
		m.corrected++
	}
	m.highest = max(m.highest, c)
	out = m.tick(now, m.leave(out))
	if c >= m.next {
		out = m.advance(c, out)
		m.next = c + 1
		out = m.leave(out)
	}
	return out
}

func (m *gapModel) heartbeat(next uint64, now int64) (out []lost) {
	out = m.tick(now, out)
	if next > m.next {
		out = m.advance(next, out)
	}
	return out
}

// room tells whether one more floor stays inside what Gaps promises to keep.
func (m *gapModel) room() bool {
	open, reach := 0, 0
	for _, f := range m.floors {
		if f > m.next {
			open++
		}
	}
	for _, s := range m.skipped {
		if m.highest < m.window || s.last > m.highest-m.window {
			reach++
		}
	}
	return open+reach < listLength
}

func TestGapsAgainstModel(t *testing.T) {
	runs, steps := 24, 2000
	if raceEnabled {
		runs = 12
	}
	var total Gaps // sums of what the runs met, so that none of it goes untested
	var overflows, floors int
	for seed := range runs {
		r := rand.New(rand.NewPCG(uint64(seed), 0x6A95))
		window := []int{64, 128, 1024}[seed%3]
		holes := []int{2, 3, 8, 128}[seed%4]
		next := uint64(1 + seed%2*100_000)
		g := newGaps(t, GapOptions{Next: next, Window: window, MaxHoles: holes})
		m := &gapModel{
			next: next, origin: next, window: uint64(window), hold: 2 * sec, max: holes,
			pending: map[uint64]int64{}, reported: map[uint64]bool{},
		}
		var shared [WordCount]uint64
		w, err := New(&shared, Options{Size: window, Reference: next})
		if err != nil {
			t.Fatal(err)
		}
		var now int64
		buf := make([]Report, 0, holes+2)
		for step := range steps {
			if r.IntN(3) == 0 {
				now += r.Int64N(sec / 4)
			}
			if r.IntN(200) == 0 {
				now += 2 * sec
			}
			at := now - r.Int64N(2)*r.Int64N(sec) // now and then a stamp that goes back
			var got []Report
			var want []lost
			var what string
			var arg uint64
			switch k := r.IntN(100); {
			case k < 50:
				what, arg = "frame", m.next+uint64(max(0, r.IntN(6)-3)) // in order or a small hole
			case k < 80:
				what, arg = "frame", m.next-min(m.next, 1+r.Uint64N(uint64(window)+8)) // late
			case k < 82:
				what, arg = "frame", m.next+r.Uint64N(uint64(3*window)) // far
			case k < 90:
				what, arg = "heartbeat", m.next+r.Uint64N(5)
			case k < 91:
				what, arg = "heartbeat", m.next+r.Uint64N(uint64(2*window))
			case k < 92 && m.room():
				what, arg = "floor", m.next+r.Uint64N(400)
			default:
				what, arg = "tick", 0
			}
			switch what {
			case "frame":
				if CheckRange(arg, 1) != nil || w.Commit(arg) != Fresh {
					continue
				}
				got, want = g.Frame(arg, at, buf[:0]), m.frame(arg, at)
			case "heartbeat":
				got, want = g.Heartbeat(arg, at, buf[:0]), m.heartbeat(arg, at)
			case "floor":
				g.SetFloor(arg)
				m.floors = append(m.floors, arg)
				floors++
			case "tick":
				got, want = g.Tick(at, buf[:0]), m.tick(at, nil)
			}
			if len(got) > holes+2 {
				t.Fatalf("seed %d step %d: %d reports, more than MaxHoles+2", seed, step, len(got))
			}
			var flat []lost
			for _, rep := range got {
				for c := rep.First; c <= rep.Last; c++ {
					flat = append(flat, lost{c, rep.Cause})
				}
				if rep.Cause == Overflow {
					overflows++
				}
			}
			// Reports of one call come in the order in which their reasons
			// arise, which the model shares, and ascend within a reason.
			if !slices.Equal(flat, want) {
				t.Fatalf("seed %d step %d: %s %d at %d\n got %v\nwant %v", seed, step, what, arg, at, flat, want)
			}
			if g.Missing() != uint64(len(m.pending)) || g.Deleted() != m.deleted || g.Corrected() != m.corrected {
				t.Fatalf("seed %d step %d: %s %d: missing %d, deleted %d, corrected %d, want %d, %d, %d", seed, step, what, arg,
					g.Missing(), g.Deleted(), g.Corrected(), len(m.pending), m.deleted, m.corrected)
			}
			first := int64(-1)
			for _, d := range m.pending {
				if first < 0 || d < first {
					first = d
				}
			}
			if d, ok := g.NextDeadline(); ok != (first >= 0) || ok && d != first {
				t.Fatalf("seed %d step %d: deadline %d, %v, want %d", seed, step, d, ok, first)
			}
		}
		total.deleted += g.deleted
		total.corrected += g.corrected
	}
	if total.deleted < 1000 || total.corrected < 100 || overflows < 100 || floors < 100 {
		t.Fatalf("too little happened: %d deleted, %d corrected, %d overflows, %d floors", total.deleted, total.corrected, overflows, floors)
	}
}

// TestGapsUnderReordering: with 1 % loss and frames reordered by up to 200, the
// default bounds report exactly what was lost, each once, and nothing else.
func TestGapsUnderReordering(t *testing.T) {
	const total = 100_000
	const period = sec / 1000
	r := rand.New(rand.NewPCG(1, 2))
	type frame struct {
		counter uint64
		at      int64
	}
	var sent []frame
	gone := map[uint64]bool{}
	for c := uint64(1); c <= total; c++ {
		if c > 1 && c < total && r.IntN(100) == 0 {
			gone[c] = true
			continue
		}
		sent = append(sent, frame{c, int64(c)*period + r.Int64N(200)*period})
	}
	slices.SortStableFunc(sent, func(a, b frame) int { return int(a.at - b.at) })
	g := newGaps(t, GapOptions{Period: time.Duration(period)})
	buf := make([]Report, 0, 130)
	got := map[uint64]bool{}
	take := func(reports []Report) {
		for _, rep := range reports {
			if rep.Cause == Overflow {
				t.Fatalf("overflow: %+v", rep)
			}
			for c := rep.First; c <= rep.Last; c++ {
				if got[c] || !gone[c] {
					t.Fatalf("counter %d reported, twice: %v, lost: %v", c, got[c], gone[c])
				}
				got[c] = true
			}
		}
	}
	for _, f := range sent {
		take(g.Frame(f.counter, f.at, buf[:0]))
	}
	take(g.Heartbeat(total+1, total*period, buf[:0]))
	take(g.Tick(total*period+10*sec, buf[:0]))
	if len(got) != len(gone) || g.Deleted() != uint64(len(gone)) || g.Corrected() != 0 || g.Missing() != 0 {
		t.Fatalf("reported %d of %d, deleted %d, corrected %d, missing %d", len(got), len(gone), g.Deleted(), g.Corrected(), g.Missing())
	}
}

func TestGapsDoNotAllocate(t *testing.T) {
	g := newGaps(t, GapOptions{})
	buf := make([]Report, 0, 130)
	c := uint64(10)
	if n := testing.AllocsPerRun(1000, func() {
		c += 5 // a hole of four, of which the middle comes late: a split
		g.Frame(c, int64(c), buf[:0])
		g.Frame(c-2, int64(c), buf[:0])
		g.SetFloor(c + 2)
		g.Heartbeat(c+1, int64(c), buf[:0])
		g.Tick(int64(c), buf[:0])
	}); n != 0 {
		t.Fatalf("%v allocations per frame", n)
	}
	if g.Deleted() == 0 {
		t.Fatal("no hole was ever settled")
	}
}

func BenchmarkGaps(b *testing.B) {
	b.Run("order=in", func(b *testing.B) {
		b.ReportAllocs()
		g := newGaps(b, GapOptions{})
		buf := make([]Report, 0, 130)
		for c := uint64(1); c <= uint64(b.N); c++ {
			g.Frame(c, int64(c), buf[:0])
		}
	})
	b.Run("order=swapped", func(b *testing.B) {
		b.ReportAllocs()
		g := newGaps(b, GapOptions{})
		buf := make([]Report, 0, 130)
		for c := uint64(2); c <= uint64(b.N)+1; c++ {
			g.Frame(c^1, int64(c), buf[:0])
		}
	})
	b.Run("order=in/loss=1percent", func(b *testing.B) {
		b.ReportAllocs()
		g := newGaps(b, GapOptions{})
		buf := make([]Report, 0, 130)
		c := uint64(0)
		for i := range b.N {
			c++
			if i%100 == 0 {
				c++
			}
			g.Frame(c, int64(c), buf[:0])
		}
	})
}
