// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fakeClock moves only when told, or by the sleep asked for and lag on top.
type fakeClock struct {
	now    time.Duration
	lag    time.Duration
	sleeps []time.Duration
}

func (c *fakeClock) Now() time.Duration { return c.now }

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.sleeps = append(c.sleeps, d)
	c.now += d + c.lag
	return ctx.Err()
}

func TestPacerDue(t *testing.T) {
	const s = int64(time.Second)
	tests := []struct {
		name   string
		speed  float64
		stamps []int64
		want   []time.Duration
	}{
		{"as recorded", 1, []int64{5 * s, 6 * s, 6 * s, 9 * s}, []time.Duration{0, time.Second, time.Second, 4 * time.Second}},
		{"twice as fast", 2, []int64{5 * s, 6 * s, 9 * s}, []time.Duration{0, time.Second / 2, 2 * time.Second}},
		{"half as fast", 0.5, []int64{5 * s, 6 * s}, []time.Duration{0, 2 * time.Second}},
		{"no pacing", 0, []int64{5 * s, 6 * s, 1 * s, 900 * s}, []time.Duration{0, 0, 0, 0}},
		{"long gaps stay", 1, []int64{0, 86400 * s}, []time.Duration{0, 24 * time.Hour}},
		{"out of order clamps", 1, []int64{0, 10, 5, 15, 9, 20}, []time.Duration{0, 10, 10, 15, 15, 20}},
		{"one second back clamps", 1, []int64{s, 2 * s, s, 3 * s}, []time.Duration{0, time.Second, time.Second, 2 * time.Second}},
		{"clock set back", 1, []int64{900 * s, 901 * s, 2 * s, 3 * s, 5 * s}, []time.Duration{0, time.Second, time.Second, 2 * time.Second, 4 * time.Second}},
		{"clock set back, twice as fast", 2, []int64{900 * s, 902 * s, 0, 4 * s}, []time.Duration{0, time.Second, time.Second, 3 * time.Second}},
		{"overflow", 1, []int64{-1, math.MaxInt64, 0, math.MaxInt64}, []time.Duration{0, math.MaxInt64, math.MaxInt64, math.MaxInt64}},
		{"overflow by slowness", 1e-9, []int64{0, 1000 * s}, []time.Duration{0, math.MaxInt64}},
	}
	for _, tt := range tests {
		p, err := NewPacer(tt.speed, &fakeClock{})
		if err != nil {
			t.Fatal(err)
		}
		var got []time.Duration
		for _, stamp := range tt.stamps {
			got = append(got, p.Due(stamp))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestPacerNeverGoesBack: whatever the stamps, send times rise.
func TestPacerNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, err := NewPacer(rapid.Float64Range(0, 1e6).Draw(rt, "speed"), &fakeClock{})
		if err != nil {
			rt.Fatal(err)
		}
		last := time.Duration(0)
		for _, stamp := range rapid.SliceOf(rapid.Int64()).Draw(rt, "stamps") {
			due := p.Due(stamp)
			if due < last {
				rt.Fatalf("due %v after %v", due, last)
			}
			last = due
		}
	})
}

func TestPacerWaits(t *testing.T) {
	clock := &fakeClock{now: time.Hour}
	p, err := NewPacer(1, clock)
	if err != nil {
		t.Fatal(err)
	}
	wait := func(stamp int64) {
		t.Helper()
		if err := p.Wait(context.Background(), stamp); err != nil {
			t.Fatal(err)
		}
	}
	wait(100)
	wait(150)
	clock.now += 30 // 20 ns of work too much: behind at 160, in time again for 200
	wait(160)
	wait(200)
	if want := []time.Duration{50, 20}; !slices.Equal(clock.sleeps, want) {
		t.Errorf("slept %v, want %v", clock.sleeps, want)
	}
	if clock.now != time.Hour+100 {
		t.Errorf("clock at %v", clock.now-time.Hour)
	}
}

// TestPacerDoesNotDrift: sleeping too long each time must not add up.
func TestPacerDoesNotDrift(t *testing.T) {
	clock := &fakeClock{lag: 60 * time.Microsecond}
	p, err := NewPacer(1, clock)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(1000) {
		if err := p.Wait(context.Background(), i*int64(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	if want := 999*time.Millisecond + clock.lag; clock.now != want {
		t.Errorf("clock at %v, want %v", clock.now, want)
	}
}

func TestPacerStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, speed := range []float64{0, 1} {
		p, err := NewPacer(speed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("speed %v: %v", speed, err)
		}
		if err := p.Wait(ctx, int64(time.Hour)); !errors.Is(err, context.Canceled) {
			t.Errorf("speed %v: %v", speed, err)
		}
	}
}

func TestPacerRefusesSpeed(t *testing.T) {
	for _, speed := range []float64{-1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := NewPacer(speed, nil); !errors.Is(err, ErrSpeed) {
			t.Errorf("speed %v: %v", speed, err)
		}
	}
}

func TestSystemClockSleeps(t *testing.T) {
	p, err := NewPacer(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if err := p.Wait(context.Background(), i*int64(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	// Not a bound on speed: less would mean that it did not wait.
	if passed := p.clock.Now() - p.start; passed < 2*time.Millisecond {
		t.Errorf("only %v passed", passed)
	}
}

func TestPacerDoesNotAllocate(t *testing.T) {
	p, err := NewPacer(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	stamp := int64(0)
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Wait(context.Background(), stamp); err != nil {
			t.Fatal(err)
		}
		stamp += 1000
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
