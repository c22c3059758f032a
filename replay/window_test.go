// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// mem is a window's memory as the kernel and the agent share it.
type mem struct {
	words [WordCount]uint64
	hint  uint64
}

func (m *mem) open(t testing.TB, size int, reference uint64) *Window {
	t.Helper()
	w, err := New(&m.words, Options{Size: size, Hint: &m.hint, Reference: reference})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// filterCheck is what the kernel filter does with the words, step by step: the
// hint, then one word, each loaded once.
func filterCheck(m *mem, size, counter uint64) Verdict {
	hint := atomic.LoadUint64(&m.hint)
	if counter <= hint && hint-counter >= size {
		return TooOld
	}
	word := atomic.LoadUint64(&m.words[counter>>5&63])
	switch d := int32(uint32(counter>>11) - uint32(word>>32)); {
	case d < 0:
		return TooOld
	case d == 0 && word>>(counter&31)&1 != 0:
		return Seen
	}
	return Fresh
}

func TestNewRefuses(t *testing.T) {
	for _, size := range []int{-64, 1, 63, 65, 100, 1023, 1025, 1088, 2048} {
		var m mem
		if _, err := New(&m.words, Options{Size: size}); !errors.Is(err, ErrSize) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	var m mem
	if _, err := New(&m.words, Options{Reference: MaxCounter + 1}); !errors.Is(err, ErrWords) {
		t.Errorf("reference above 2^48-1: %v", err)
	}
	// A name far below 0 or above 2^37-1, seen from the reference.
	m.words[3] = 0xFFFF0000_00000001
	if _, err := New(&m.words, Options{Reference: 1}); !errors.Is(err, ErrWords) {
		t.Errorf("word below counter 0: %v", err)
	}
	m.words[3] = 0x00000001_00000001
	if _, err := New(&m.words, Options{Reference: MaxCounter}); !errors.Is(err, ErrWords) {
		t.Errorf("word above 2^48-1: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for size := MinSize; size <= MaxSize; size += 64 {
		var m mem
		w := m.open(t, size, 0)
		if w.Size() != size {
			t.Fatalf("size %d, want %d", w.Size(), size)
		}
		top := uint64(5000)
		w.Commit(top)
		if v := w.Check(top - uint64(size) + 1); v != Fresh {
			t.Errorf("size %d: last counter inside is %v", size, v)
		}
		if v := w.Check(top - uint64(size)); v != TooOld {
			t.Errorf("size %d: first counter outside is %v", size, v)
		}
	}
	var m mem
	if w, err := New(&m.words, Options{}); err != nil || w.Size() != 1024 {
		t.Fatalf("zero options: %v, %v", w, err)
	}
}

// TestEdges walks through the edges that other implementations must agree on.
func TestEdges(t *testing.T) {
	type step struct {
		counter uint64
		want    Verdict
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"zero and one", []step{{0, TooOld}, {1, Fresh}, {1, Seen}, {0, TooOld}, {2, Fresh}}},
		{"window edge", []step{{5000, Fresh}, {5000 - 1023, Fresh}, {5000 - 1023, Seen}, {5000 - 1024, TooOld}, {5000 - 1025, TooOld}}},
		{"jump 1023", []step{{100, Fresh}, {1123, Fresh}, {100, Seen}, {101, Fresh}, {99, TooOld}}},
		{"jump 1024", []step{{100, Fresh}, {1124, Fresh}, {100, TooOld}, {101, Fresh}, {101, Seen}}},
		{"jump 2048 into the same word", []step{{100, Fresh}, {101, Fresh}, {2148, Fresh}, {100, TooOld}, {2149, Fresh}, {2148, Seen}, {2147, Fresh}, {2149 - 1023, Fresh}, {2149 - 1024, TooOld}}},
		{"jump 2^32", []step{{7, Fresh}, {7 + 1<<32, Fresh}, {7, TooOld}, {7 + 1<<32, Seen}, {8 + 1<<32, Fresh}, {6 + 1<<32, Fresh}}},
		{"jump 2^43, where names repeat", []step{{7, Fresh}, {7 + 1<<43, Fresh}, {7 + 1<<43, Seen}, {7, TooOld}, {6 + 1<<43, Fresh}}},
		{"largest counter", []step{{MaxCounter, Fresh}, {MaxCounter, Seen}, {MaxCounter + 1, TooOld}, {^uint64(0), TooOld}, {MaxCounter - 1023, Fresh}, {MaxCounter - 1024, TooOld}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m mem
			w := m.open(t, 1024, 0)
			for i, s := range c.steps {
				before := m
				if v := w.Check(s.counter); v != s.want {
					t.Fatalf("step %d: Check(%d) = %v, want %v", i, s.counter, v, s.want)
				}
				if m != before {
					t.Fatalf("step %d: Check(%d) changed memory", i, s.counter)
				}
				if v := w.Commit(s.counter); v != s.want {
					t.Fatalf("step %d: Commit(%d) = %v, want %v", i, s.counter, v, s.want)
				}
				if s.want != Fresh && m != before {
					t.Fatalf("step %d: refused Commit(%d) changed memory", i, s.counter)
				}
			}
		})
	}
}

// TestLayout fixes the words that the kernel filter and other implementations
// read.
func TestLayout(t *testing.T) {
	var m mem
	w := m.open(t, 1024, 0)
	const c = 0x123456789AB // above 2^40, so that the name is long
	w.Commit(c)
	w.Commit(c - 1)
	name := uint64(c) >> 11 & 0xFFFFFFFF
	want := name<<32 | 1<<(c&31) | 1<<((c-1)&31)
	for i, word := range m.words {
		switch {
		case i == c>>5&63 && word != want:
			t.Errorf("word %d = %#016x, want %#016x", i, word, want)
		case i != c>>5&63 && word != 0:
			t.Errorf("word %d = %#016x, want 0", i, word)
		}
	}
	if m.hint != c {
		t.Errorf("hint %d, want %d", m.hint, uint64(c))
	}
}

// TestWireGuardCounter has the behaviour of the counter tests that WireGuard
// publishes, for our window sizes. Their counters start at 0 and ours at 1;
// their window reaches COUNTER_WINDOW_SIZE behind the highest, ours Size-1;
// their REJECT_AFTER_MESSAGES is the first counter beyond a key, ours the
// epoch's limit base + 2^32.
func TestWireGuardCounter(t *testing.T) {
	const base = 1
	const reject = base + EpochSpan
	for _, size := range []int{64, 128, 1024} {
		reach := uint64(size - 1)
		limit := reach + 1
		var m mem
		var w *Window
		start := func() {
			m = mem{}
			w = m.open(t, size, base)
		}
		accept := func(n uint64) bool {
			return CheckRange(n+1, base) == nil && w.Commit(n+1) == Fresh
		}
		t.Run(fmt.Sprintf("size=%d/sequence", size), func(t *testing.T) {
			start()
			for i, s := range []struct {
				n    uint64
				want bool
			}{
				{0, true}, {1, true}, {1, false}, {9, true}, {8, true}, {7, true}, {7, false},
				{limit, true}, {limit - 1, true}, {limit - 1, false}, {limit - 2, true},
				{2, true}, {2, false},
				{limit + 16, true}, {3, false}, {limit + 16, false},
				{limit * 4, true}, {limit*4 - (limit - 1), true}, {10, false},
				{limit*4 - limit, false}, {limit*4 - (limit + 1), false},
				{limit*4 - (limit - 2), true}, {limit*4 + 1 - limit, false}, {0, false},
				{reject, false}, {reject - 1, true}, {reject, false}, {reject - 1, false},
				{reject - 2, true}, {reject + 1, false}, {reject + 2, false},
				{reject - 2, false}, {reject - 3, true}, {0, false},
			} {
				if got := accept(s.n); got != s.want {
					t.Fatalf("step %d: %d accepted = %v, want %v", i+1, s.n, got, s.want)
				}
			}
		})
		up := func(from, to uint64) (list []uint64) {
			for n := from; n <= to; n++ {
				list = append(list, n)
			}
			return list
		}
		down := func(from, to uint64) []uint64 {
			list := up(to, from)
			for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
				list[i], list[j] = list[j], list[i]
			}
			return list
		}
		for _, c := range []struct {
			name    string
			fresh   []uint64
			yes, no []uint64 // then accepted, then refused, in this order
		}{
			{"up, then the last inside", up(1, reach), []uint64{0}, []uint64{0}},
			{"up from 2", up(2, reach+1), []uint64{1}, []uint64{0}},
			{"down", down(reach+1, 1), nil, nil},
			{"down, one more", down(reach+2, 2), nil, []uint64{0}},
			{"down, one ahead", down(reach, 1), []uint64{reach + 1}, []uint64{0}},
			{"down, last first", down(reach, 1), []uint64{0, reach + 1}, nil},
		} {
			t.Run(fmt.Sprintf("size=%d/%s", size, c.name), func(t *testing.T) {
				start()
				for _, n := range append(c.fresh, c.yes...) {
					if !accept(n) {
						t.Fatalf("%d refused", n)
					}
				}
				for _, n := range c.no {
					if accept(n) {
						t.Fatalf("%d accepted", n)
					}
				}
			})
		}
	}
}

// model is the definition of a window: the set of all committed counters.
type model struct {
	seen    map[uint64]struct{}
	highest uint64
	size    uint64
}

func (m *model) check(c uint64) Verdict {
	if c == 0 || c > MaxCounter || c <= m.highest && m.highest-c >= m.size {
		return TooOld
	}
	if _, ok := m.seen[c]; ok {
		return Seen
	}
	return Fresh
}

func (m *model) commit(c uint64) {
	m.seen[c] = struct{}{}
	m.highest = max(m.highest, c)
	if len(m.seen) > 8192 { // forget what is outside: the answer there is TooOld
		for s := range m.seen {
			if m.highest-s >= m.size {
				delete(m.seen, s)
			}
		}
	}
}

// TestWindowAgainstModel takes millions of random steps, each beside the model
// and beside the filter's reading of the same words. Before and after each
// store of a commit the agent may be killed: the window is then opened again
// from a copy of the memory as it was at that point.
func TestWindowAgainstModel(t *testing.T) {
	steps := 3_000_000
	if raceEnabled {
		steps = 300_000 // the detector costs a factor of ten and has nothing to find in one goroutine
	}
	for i, run := range []struct {
		size int
		base uint64
	}{
		{64, 1},
		{128, 1<<32 - 3000},
		{512, 1<<43 - 5000}, // names pass 2^32
		{1024, 1},
		{1024, 1<<42 - 2000}, // names pass the sign bit
		{1024, MaxCounter - 40_000_000},
	} {
		t.Run(fmt.Sprintf("size=%d/base=%#x", run.size, run.base), func(t *testing.T) {
			walk(t, rand.New(rand.NewPCG(uint64(i), 0x6479)), run.size, run.base, steps/6)
		})
	}
}

func walk(t *testing.T, r *rand.Rand, size int, base uint64, steps int) {
	var m mem
	w := m.open(t, size, base)
	naive := &model{seen: map[uint64]struct{}{}, size: uint64(size)}
	kills, commits := 0, 0
	for step := range steps {
		high := max(naive.highest, base)
		var c uint64
		switch k := r.Uint32N(100); {
		case k < 55:
			c = high + 1
		case k < 80:
			c = high - min(high, r.Uint64N(uint64(size)+8)) // around the whole window
		case k < 90:
			c = high + r.Uint64N(40)
		case k < 93:
			c = high - min(high, uint64(size)-1+r.Uint64N(3)) // its edge
		case k < 95:
			c = high - min(high, r.Uint64N(8192)) // earlier turns of the ring
		case k < 96:
			c = high + []uint64{31, 32, 1023, 1024, 2047, 2048, 2049}[r.IntN(7)]
		default:
			c = high - min(high, r.Uint64N(64))
		}
		want := naive.check(c)
		if got := w.Check(c); got != want {
			t.Fatalf("step %d: Check(%d) = %v, want %v (highest %d)", step, c, got, want, naive.highest)
		}
		if c != 0 && c <= MaxCounter { // the filter refuses others as counter_range
			// The filter sees what the agent sees, as far as words can tell:
			// it must never drop a fresh counter, and never pass one that is
			// seen.
			if f := filterCheck(&m, uint64(size), c); (f == Fresh) != (want == Fresh) {
				t.Fatalf("step %d: filter says %v of %d, agent %v", step, f, c, want)
			}
		}
		before := m
		if got := w.Commit(c); got != want {
			t.Fatalf("step %d: Commit(%d) = %v, want %v", step, c, got, want)
		}
		if want != Fresh {
			if m != before {
				t.Fatalf("step %d: refused Commit(%d) changed memory", step, c)
			}
			continue
		}
		commits++
		changed := 0
		for i := range m.words {
			if m.words[i] != before.words[i] {
				changed++
			}
		}
		if changed != 1 {
			t.Fatalf("step %d: Commit(%d) changed %d words", step, c, changed)
		}
		switch kill := r.Uint32N(300); kill {
		case 0: // killed before the word was stored: the commit never happened
			m = before
			w = reopen(t, r, &m, size, naive)
			kills++
			continue
		case 1: // killed between word and hint
			m.hint = before.hint
			naive.commit(c)
			w = reopen(t, r, &m, size, naive)
			kills++
		case 2: // killed after both, or the hint's line came first
			naive.commit(c)
			w = reopen(t, r, &m, size, naive)
			kills++
		default:
			naive.commit(c)
		}
		if w.Highest() != naive.highest || m.hint != naive.highest {
			t.Fatalf("step %d: highest %d, hint %d, want %d", step, w.Highest(), m.hint, naive.highest)
		}
	}
	if commits < steps/4 || kills < steps/1000 {
		t.Fatalf("only %d commits and %d kills in %d steps", commits, kills, steps)
	}
}

// reopen opens the window again from its memory alone and looks at every counter
// around it.
func reopen(t *testing.T, r *rand.Rand, m *mem, size int, naive *model) *Window {
	t.Helper()
	// Any counter near will do as the reference, below or above.
	ref := naive.highest + r.Uint64N(1<<33)
	ref -= min(ref, r.Uint64N(1<<34))
	w := m.open(t, size, min(ref, MaxCounter))
	if w.Highest() != naive.highest || m.hint != naive.highest {
		t.Fatalf("reopened: highest %d, hint %d, want %d", w.Highest(), m.hint, naive.highest)
	}
	if r.IntN(16) == 0 {
		for d := range uint64(2*size) + 4 {
			c := naive.highest + 2 - min(d, naive.highest+2)
			if got, want := w.Check(c), naive.check(c); got != want {
				t.Fatalf("reopened: Check(%d) = %v, want %v (highest %d)", c, got, want, naive.highest)
			}
		}
	}
	return w
}

// TestWindowProperty lets rapid look for short sequences that differ from the
// model, anywhere in the 48 bits.
func TestWindowProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := 64 * rapid.IntRange(1, 16).Draw(t, "size/64")
		base := rapid.Uint64Range(1, MaxCounter-EpochSpan).Draw(t, "base")
		var m mem
		open := func() *Window {
			w, err := New(&m.words, Options{Size: size, Hint: &m.hint, Reference: base})
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		w := open()
		naive := &model{seen: map[uint64]struct{}{}, size: uint64(size)}
		offset := rapid.OneOf(
			rapid.Uint64Range(0, EpochSpan),
			rapid.Uint64Range(0, 4096),
			rapid.SampledFrom([]uint64{0, 1, 31, 32, 63, 64, 1022, 1023, 1024, 1025, 2047, 2048, 2049, EpochSpan - 1, EpochSpan}),
		)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			c := base + offset.Draw(t, "offset")
			if rapid.IntRange(0, 9).Draw(t, "kill") == 0 {
				w = open()
			}
			want := naive.check(c)
			if f := filterCheck(&m, uint64(size), c); (f == Fresh) != (want == Fresh) {
				t.Fatalf("filter says %v of %d, model %v", f, c, want)
			}
			if got := w.Commit(c); got != want {
				t.Fatalf("Commit(%d) = %v, want %v", c, got, want)
			}
			if want == Fresh {
				naive.commit(c)
			}
			if w.Highest() != naive.highest {
				t.Fatalf("highest %d, want %d", w.Highest(), naive.highest)
			}
		}
	})
}

// TestUntouchedWords: a filter that knows only the rule of names must pass
// every counter of a new window, wherever in the 48 bits the epoch begins.
func TestUntouchedWords(t *testing.T) {
	for _, base := range []uint64{1, 1 << 32, 1<<41 - 1, 1 << 41, 1<<42 - 1, 1 << 42, 1<<43 - 1, 1 << 43, 1 << 47, MaxCounter - EpochSpan} {
		var m mem
		w := m.open(t, 1024, base)
		if w.Highest() != 0 {
			t.Fatalf("base %#x: new window has highest %d", base, w.Highest())
		}
		for c := base; c < base+4096; c++ {
			if f := filterCheck(&m, 1024, c); f != Fresh {
				t.Fatalf("base %#x: filter says %v of %d", base, f, c)
			}
		}
		if f := filterCheck(&m, 1024, base+EpochSpan); f != Fresh {
			t.Fatalf("base %#x: filter says %v of the epoch's last", base, f)
		}
		if v := w.Commit(base); v != Fresh || w.Highest() != base {
			t.Fatalf("base %#x: %v, highest %d", base, v, w.Highest())
		}
		if again := m.open(t, 1024, base); again.Highest() != base {
			t.Fatalf("base %#x: found highest %d again", base, again.Highest())
		}
	}
}

// TestForeignWord: a word from a later turn inside the window can only come from
// damaged memory and is refused, not overwritten.
func TestForeignWord(t *testing.T) {
	var m mem
	w := m.open(t, 1024, 0)
	w.Commit(5000)
	const c = 4500
	m.words[c>>5&63] = uint64(c>>11+1)<<32 | 1
	before := m
	if v := w.Commit(c); v != TooOld || m != before {
		t.Fatalf("Commit = %v, memory changed: %v", v, m != before)
	}
}

// TestFilterBesideAgent runs filters on the words while the agent commits. A
// counter whose commit had returned before the filter began is never fresh to
// it, and one that was not committed yet is never refused.
func TestFilterBesideAgent(t *testing.T) {
	const size = 1024
	const total = 200_000
	var m mem
	w := m.open(t, size, 1)
	var done atomic.Uint64 // all counters up to here are committed
	var stop atomic.Bool
	var wg sync.WaitGroup
	for seed := range uint64(2) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(seed, 1))
			for !stop.Load() {
				d := done.Load()
				if d == 0 {
					continue
				}
				c := d - min(d-1, r.Uint64N(2*size))
				if v := filterCheck(&m, size, c); v == Fresh {
					t.Errorf("filter passes %d, committed up to %d", c, d)
					return
				}
				// total+1 and above are never committed.
				c = total + 1 + r.Uint64N(4096)
				if v := filterCheck(&m, size, c); v != Fresh {
					t.Errorf("filter says %v of %d, which never came", v, c)
					return
				}
			}
		}()
	}
	for c := uint64(1); c <= total; c += 2 {
		// Out of order by one, so that words are stored again behind the top.
		if w.Commit(c+1) != Fresh || w.Commit(c) != Fresh {
			t.Errorf("commit of %d refused", c)
			break
		}
		done.Store(c + 1)
		if c%4096 == 1 {
			time.Sleep(time.Microsecond) // let the readers run on one CPU too
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestRuns takes runs of frames in order through CommitRun and, one by one, through Commit: words and hint are the same after
// each run, and Follows says yes to the next counter alone.
func TestRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, base := range []uint64{1, 31, 2040, 1 << 41, MaxCounter - 5000} {
		var a, b mem
		runs, single := a.open(t, MaxSize, base), b.open(t, MaxSize, base)
		runs.Commit(base)
		single.Commit(base)
		for next := base + 1; next < base+4500; {
			if r.IntN(4) == 0 { // a gap, and a late frame
				next += r.Uint64N(100)
				runs.Commit(next + 1)
				single.Commit(next + 1)
				runs.Commit(next)
				single.Commit(next)
				next += 2
			}
			for _, c := range []uint64{next - 1, next + 1, next + 32, 0} {
				if runs.Follows(c) {
					t.Fatalf("%d follows %d", c, next-1)
				}
			}
			if !runs.Follows(next) {
				t.Fatalf("%d does not follow", next)
			}
			last := next + r.Uint64N(100)
			runs.CommitRun(last)
			for ; next <= last; next++ {
				single.Commit(next)
			}
			if a != b || runs.Highest() != single.Highest() {
				t.Fatalf("up to %d: %#x, hint %d, want %#x, hint %d", last, a.words, a.hint, b.words, b.hint)
			}
		}
	}
	// Above the highest counter nothing was committed, whatever the words say there.
	for _, highest := range []uint64{40, 63} {
		var m mem
		w := m.open(t, MaxSize, 1)
		w.Commit(highest)
		m.words[1] |= 1 << 20 // counter 52
		m.words[2] = 1<<32 | 5
		w.CommitRun(70)
		if highest == 40 && m.words[1] != 1<<32-1<<8 || m.words[2] != 1<<7-1 {
			t.Errorf("up to 70 from %d: %#x", highest, m.words[:3])
		}
	}
}

func TestWindowDoesNotAllocate(t *testing.T) {
	var m mem
	w := m.open(t, 1024, 0)
	c := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		c++
		if w.Check(c) != Fresh || w.Commit(c) != Fresh {
			t.Fatal(c)
		}
	}); n != 0 {
		t.Fatalf("%v allocations per frame", n)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprintf("size=%d/order=in", size), func(b *testing.B) {
			b.ReportAllocs()
			var m mem
			w := m.open(b, size, 0)
			for c := uint64(1); c <= uint64(b.N); c++ {
				if w.Commit(c) != Fresh {
					b.Fatal(c)
				}
			}
		})
		b.Run(fmt.Sprintf("size=%d/order=swapped", size), func(b *testing.B) {
			b.ReportAllocs()
			var m mem
			w := m.open(b, size, 0)
			for c := uint64(2); c <= uint64(b.N)+1; c++ {
				if w.Commit(c^1) != Fresh {
					b.Fatal(c)
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	b.ReportAllocs()
	var m mem
	w := m.open(b, 1024, 0)
	for c := uint64(1); c <= 4096; c++ {
		w.Commit(c)
	}
	for i := range b.N {
		if w.Check(4096-uint64(i&1023)) != Seen {
			b.Fatal(i)
		}
	}
}
