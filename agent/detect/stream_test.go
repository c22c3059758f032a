// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cellward/cellward/agent/policy"
)

const (
	ms     = int64(time.Millisecond)
	second = int64(time.Second)
	period = 100 * time.Millisecond
)

// feed is a node with a clock that tells ms since its start.
type feed struct {
	s       *Stream
	counter uint64
	source  int64 // ms
	now     int64
}

func newFeed() *feed { return &feed{s: New(Options{Period: period}), now: 50 * second} }

// next sends the sample that comes next, a period later on both clocks.
func (f *feed) next() Finding {
	f.counter++
	f.source += 100
	f.now += 100 * ms
	return f.s.Sample(f.counter, uint32(f.source), f.now, nil)
}

func (f *feed) good(t *testing.T, n int) {
	t.Helper()
	for range n {
		if got := f.next(); got != 0 {
			t.Fatalf("sample %d: %04b", f.counter, got)
		}
	}
}

func TestDelay(t *testing.T) {
	f := newFeed()
	f.good(t, 100)
	for _, c := range []struct {
		delay int64
		want  Finding
	}{{0, 0}, {2 * second, 0}, {2*second + ms, Delayed}, {5 * second, Delayed}, {0, 0}} {
		f.counter++
		f.source += 100
		f.now += 100 * ms
		if got := f.s.Sample(f.counter, uint32(f.source), f.now+c.delay, nil); got != c.want {
			t.Errorf("late by %v: %04b, want %04b", time.Duration(c.delay), got, c.want)
		}
	}
	// One that comes behind later ones is as late as it is.
	f.good(t, 10)
	if got := f.s.Sample(f.counter-8, uint32(f.source-800), f.now+3*second, nil); got != Delayed {
		t.Errorf("overtaken and late: %04b", got)
	}
}

// TestDrift lets the node's clock lose 200 ppm for a day, which is no delay, and then 0.1 %.
func TestDrift(t *testing.T) {
	s := New(Options{Period: 10 * time.Second})
	now, source, counter := second, int64(0), uint64(0)
	step := func(ppm int64) Finding {
		counter++
		source += 10_000
		now += 10*second + 10*second*ppm/1e6
		return s.Sample(counter, uint32(source), now, nil)
	}
	for range 8640 {
		if got := step(199); got != 0 {
			t.Fatalf("at %v: %04b", time.Duration(now), got)
		}
	}
	for i := range 8640 {
		if step(1000)&Delayed != 0 {
			if i < 200 || i > 300 {
				t.Errorf("noticed after %d samples", i) // 2 s in steps of 8 ms
			}
			return
		}
	}
	t.Error("never noticed")
}

func TestClock(t *testing.T) {
	f := newFeed()
	f.good(t, 50)
	for i := range 20 {
		f.counter++
		f.now += 100 * ms
		want := Finding(0)
		if i >= 5 { // above 500 ms
			want = Frozen
		}
		if got := f.s.Sample(f.counter, uint32(f.source), f.now, nil); got != want {
			t.Errorf("sample %d of a clock that stands still: %04b, want %04b", i+1, got, want)
		}
	}
	f.source += 2000
	f.good(t, 50)
	f.source -= 5000
	if got := f.next(); got != Backward {
		t.Errorf("back by 5 s: %04b", got)
	}
	f.good(t, 50) // its clock is known anew
	// A sample that was overtaken has an earlier time by nature.
	if got := f.s.Sample(f.counter-3, uint32(f.source-300), f.now, nil); got != 0 {
		t.Errorf("overtaken: %04b", got)
	}
}

func TestSourceTimeWraps(t *testing.T) {
	f := newFeed()
	f.source = math.MaxUint32 - 2000
	f.good(t, 100)
}

// TestRestart begins the source time anew at a floor that was told, and only there; what comes late from the run before says nothing.
func TestRestart(t *testing.T) {
	f := newFeed()
	f.good(t, 100)
	f.s.Begins(70_000)
	f.good(t, 3)
	old, oldSource := f.counter, f.source
	f.counter, f.source = 69_999, 0
	f.now += second
	f.good(t, 100)
	if got := f.s.Sample(old+1, uint32(oldSource+100), f.now, nil); got != 0 {
		t.Errorf("late from the run before: %04b", got)
	}
	f.good(t, 1)
	f.s.Begins(70_000) // known
	f.s.Begins(10)     // behind
	f.good(t, 1)
	// Without a floor the same is a clock that went back.
	f.counter, f.source = 80_000, 0
	if got := f.next(); got&Backward == 0 {
		t.Errorf("no start was told: %04b", got)
	}
	for floor := uint64(200_000); floor < 200_010; floor++ { // more than are kept
		f.s.Begins(floor)
	}
}

func TestRate(t *testing.T) {
	f := newFeed()
	f.good(t, 50)
	// A second's worth that a bus has held up comes at once: the node has sealed at its rate.
	f.now += 3 * second
	for range 30 {
		f.counter++
		f.source += 100
		if got := f.s.Sample(f.counter, uint32(f.source), f.now, nil); got&TooFast != 0 {
			t.Fatalf("held up: %04b", got)
		}
	}
	f.good(t, 50)
	n := 0
	for range 1000 { // four times the rate
		f.counter++
		f.source += 25
		f.now += 25 * ms
		if f.s.Sample(f.counter, uint32(f.source), f.now, nil)&TooFast != 0 {
			n++
		}
	}
	if n < 500 {
		t.Errorf("%d of 1000 are too many", n)
	}
}

func TestSilence(t *testing.T) {
	s := New(Options{Period: period})
	if s.Late(10*second).Silent || !s.Late(12*second).Silent {
		t.Error("one that is expected and never comes is late after a second")
	}
	s.Excuse(20 * second)
	if s.Late(20*second+ms).Silent || s.Seen() != 0 {
		t.Error("excused")
	}
	s.Heard(30 * second)
	for _, c := range []struct {
		after  int64
		silent bool
	}{{0, false}, {1300 * ms, false}, {1300*ms + 1, true}, {60 * second, true}} {
		if got := s.Late(30*second + c.after).Silent; got != c.silent {
			t.Errorf("after %v: %v", time.Duration(c.after), got)
		}
	}
	slow := New(Options{Period: 10 * time.Second})
	slow.Heard(second)
	if slow.Late(32*second).Silent || !slow.Late(32*second+1).Silent {
		t.Error("3 periods of 10 s")
	}
}

// muxed describes an array of n parts.
func muxed(n uint32, order policy.ByteOrder, start, length int) []policy.Signal {
	all := []policy.Signal{{Name: "part", StartBit: start, Length: length, ByteOrder: order}}
	for v := range n {
		all = append(all, policy.Signal{Name: "value", StartBit: 32, Length: 8, ByteOrder: policy.LittleEndian,
			Multiplexor: &policy.Multiplexor{Signal: "part", Values: []uint32{v * 3}}})
	}
	return all
}

func TestMultiplexor(t *testing.T) {
	s := New(Options{Period: period, Signals: muxed(4, policy.LittleEndian, 0, 8)})
	now, counter := second, uint64(0)
	round := func(parts ...byte) {
		for _, p := range parts {
			now += 100 * ms
			counter++
			s.Sample(counter, uint32(now/ms), now, []byte{p, 0, 0, 0, 0})
		}
	}
	round(0, 3, 6, 9)
	for range 20 {
		round(0, 3, 6, 9)
		if o := s.Late(now); o.Missing != 0 || o.Silent {
			t.Fatalf("whole: %+v", o)
		}
	}
	first := 0
	for i := range 10 {
		round(0, 3, 9, 200)
		if s.Late(now).Missing == 1 && first == 0 {
			first = i + 1
		}
	}
	if first != 6 { // 3 turns of 400 ms and 1 s
		t.Errorf("noticed in turn %d", first)
	}
	if got := s.LateParts(now); !slices.Equal(got, []uint32{6}) {
		t.Errorf("parts that are late: %v", got)
	}
	if got := s.LateParts(now + 5*second); got != nil {
		t.Errorf("parts of a stream that is silent: %v", got)
	}
	if o := s.Late(now + 5*second); !o.Silent || o.Missing != 0 {
		t.Errorf("a stream that is silent: %+v", o)
	}
	s.Excuse(now + 5*second)
	if o := s.Late(now + 5*second); o.Missing != 0 || o.Silent {
		t.Errorf("excused: %+v", o)
	}
	if New(Options{Period: period, Signals: muxed(1, policy.LittleEndian, 0, 8)}).mux != nil {
		t.Error("one part is no array")
	}
}

// TestSelector compares the selector with policy.Signal, which reads bit by bit.
func TestSelector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := policy.Signal{
			Name: "part", Length: rapid.IntRange(1, 32).Draw(t, "length"), StartBit: rapid.IntRange(0, 80).Draw(t, "start"),
			ByteOrder: rapid.SampledFrom([]policy.ByteOrder{policy.LittleEndian, policy.BigEndian}).Draw(t, "order"),
		}
		body := rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "body")
		x := selectorOf(&g)
		got, ok := x.read(body)
		want, fits := g.Raw(body)
		if ok != fits || ok && uint64(got) != want {
			t.Fatalf("%+v: %x %v, want %x %v", g, got, ok, want, fits)
		}
	})
}

func TestDoesNotAllocate(t *testing.T) {
	f := &feed{s: New(Options{Period: period, Signals: muxed(4, policy.LittleEndian, 0, 8)}), now: second}
	body := make([]byte, 8)
	if n := testing.AllocsPerRun(1000, func() {
		f.counter++
		f.source += 100
		f.now += 100 * ms
		f.s.Sample(f.counter, uint32(f.source), f.now, body)
	}); n != 0 {
		t.Errorf("%v allocations a sample", n)
	}
}

func BenchmarkSample(b *testing.B) {
	for _, c := range []struct {
		name    string
		signals []policy.Signal
	}{{"plain", nil}, {"multiplexed", muxed(32, policy.LittleEndian, 0, 8)}} {
		b.Run(c.name, func(b *testing.B) {
			f := &feed{s: New(Options{Period: period, Signals: c.signals}), now: second}
			body := make([]byte, 8)
			b.ReportAllocs()
			for b.Loop() {
				f.counter++
				f.source += 100
				f.now += 100 * ms
				f.s.Sample(f.counter, uint32(f.source), f.now, body)
			}
		})
	}
}

// TestPlain wants a stream that asks whether a sample is plain to be, after each, as one that goes by the rules alone.
func TestPlain(t *testing.T) {
	plain := 0
	rapid.Check(t, func(rt *rapid.T) {
		o := Options{Period: rapid.SampledFrom(periods()).Draw(rt, "period")}
		fast, slow := New(o), New(o)
		step := max(int64(o.Period), ms)
		counter, source, now := uint64(rapid.IntRange(100, 103).Draw(rt, "first")), int64(0), 50*second
		for range rapid.IntRange(1, 60).Draw(rt, "samples") {
			if rapid.IntRange(0, 19).Draw(rt, "start") == 0 {
				floor := counter + uint64(rapid.IntRange(0, 50).Draw(rt, "floor"))
				fast.Begins(floor)
				slow.Begins(floor)
			}
			counter += rapid.SampledFrom([]uint64{1, 1, 1, 1, 1, 1, 2, 40, 0, math.MaxUint64}).Draw(rt, "counter")
			source += rapid.SampledFrom([]int64{step / ms, step / ms, step / ms, 0, 1, -5, 5000, 1 << 31}).Draw(rt, "source")
			now += rapid.SampledFrom([]int64{step, step, step, 0, -1, ms, 3 * second, 40 * second}).Draw(rt, "receive")
			if fast.Pace().Plain(counter, uint32(source), now) {
				plain++
				if want := slow.judge(counter, uint32(source), now); want != 0 {
					rt.Fatalf("plain, and by the rules %04b", want)
				}
			} else {
				slow.judge(counter, uint32(source), now)
				fast.judge(counter, uint32(source), now)
			}
			if *fast != *slow {
				rt.Fatalf("%+v, want %+v", *fast, *slow)
			}
		}
	})
	if plain == 0 {
		t.Error("no sample was plain")
	}
}
