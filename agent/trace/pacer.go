// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrSpeed is returned for a speed factor that is negative or not a number.
var ErrSpeed = errors.New("speed factor is not zero or above")

// jumpBack is how far a time stamp must lie below the highest one so far to
// count as a new start of the clock rather than as frames out of order.
const jumpBack = int64(time.Second)

// Clock is what a Pacer waits by.
type Clock interface {
	// Now returns the time since any fixed point; it never goes back.
	Now() time.Duration
	// Sleep returns after d, or earlier with the error of a context that ended.
	Sleep(ctx context.Context, d time.Duration) error
}

// Pacer turns time stamps, in file order, into send times. It is not safe for
// concurrent use.
//
// Gaps are kept as they are, however long, divided by the speed factor. Send
// times never go back: a stamp below the highest one so far is due at once,
// and the stamps after it stay on the old time line. A stamp more than one
// second below starts a new time line there and then, as canplayer of
// can-utils does; otherwise the rest of a log whose clock was set back would
// go out in one burst.
type Pacer struct {
	speed   float64
	clock   Clock
	started bool
	start   time.Duration // of the clock, at the first frame
	origin  int64         // time stamp of the start of the time line
	offset  time.Duration // when that was due
	highest int64         // highest time stamp of the time line
	due     time.Duration
}

// NewPacer returns a pacer: speed 1 is as recorded, 2 twice as fast, 0 does
// not wait at all. A nil clock is the system's monotonic clock.
func NewPacer(speed float64, clock Clock) (*Pacer, error) {
	if !(speed >= 0) || math.IsInf(speed, 1) {
		return nil, fmt.Errorf("make pacer: %w: %v", ErrSpeed, speed)
	}
	if clock == nil {
		clock = newSystemClock()
	}
	return &Pacer{speed: speed, clock: clock}, nil
}

// Due takes the time stamp of the next frame in ns and returns when it is due,
// counted from the first frame. It does not wait.
func (p *Pacer) Due(stamp int64) time.Duration {
	switch {
	case p.speed == 0:
		return 0
	case !p.started:
		p.started = true
		p.start = p.clock.Now()
		p.origin, p.highest = stamp, stamp
	case stamp > p.highest:
		p.highest = stamp
		p.due = p.offset + p.scale(saturatingSub(stamp, p.origin))
		if p.due < p.offset {
			p.due = math.MaxInt64
		}
	case saturatingSub(p.highest, stamp) > jumpBack:
		p.origin, p.highest = stamp, stamp
		p.offset = p.due
	}
	return p.due
}

// Wait takes the time stamp of the next frame in ns and returns when it is
// due. A pacer that is behind does not wait and catches up. The context ends
// the wait, and its error is returned.
func (p *Pacer) Wait(ctx context.Context, stamp int64) error {
	due := p.Due(stamp)
	if p.speed != 0 {
		if d := due - (p.clock.Now() - p.start); d > 0 {
			if err := p.clock.Sleep(ctx, d); err != nil {
				return fmt.Errorf("wait for send time: %w", err)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait for send time: %w", err)
	}
	return nil
}

func (p *Pacer) scale(ns int64) time.Duration {
	if p.speed == 1 {
		return time.Duration(ns)
	}
	scaled := float64(ns) / p.speed
	if scaled >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(scaled)
}

func saturatingSub(a, b int64) int64 {
	d := a - b
	if a > b && d < 0 {
		return math.MaxInt64
	}
	return d
}

// systemClock sleeps on one timer, so that waiting does not allocate.
type systemClock struct {
	start time.Time
	timer *time.Timer
}

func newSystemClock() *systemClock {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &systemClock{start: time.Now(), timer: timer}
}

func (c *systemClock) Now() time.Duration { return time.Since(c.start) }

func (c *systemClock) Sleep(ctx context.Context, d time.Duration) error {
	c.timer.Reset(d)
	select {
	case <-c.timer.C:
		return nil
	case <-ctx.Done():
		c.timer.Stop()
		return ctx.Err()
	}
}
