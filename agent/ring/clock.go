// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Clock reads CLOCK_BOOTTIME, the clock of every time stamp in the ring, in nanoseconds. It is safe for concurrent use.
//
// A system call for each reading would cost more than publishing a batch, and Go reads only CLOCK_MONOTONIC without
// one. The two clocks run alike and differ by the time spent in suspend, so the clock keeps that difference and looks
// it up again every second, and whenever a caller proves it old (NowAfter).
type Clock struct {
	base    time.Time
	offset  atomic.Int64 // boot time at base
	checked atomic.Int64 // monotonic time since base of the last look-up
}

const (
	clockCheckEvery = int64(time.Second)
	// A look-up is exact to a fraction of a microsecond; smaller differences are its own noise and are not taken over,
	// so that readings do not jump back and forth.
	clockNoise = int64(10 * time.Microsecond)
)

// NewClock returns a clock that is ready for use.
func NewClock() *Clock {
	c := &Clock{base: time.Now()}
	c.offset.Store(c.difference())
	return c
}

// Now returns the time since boot, suspend included, in nanoseconds. In the first second after a suspend it may lag by
// the length of the suspend.
func (c *Clock) Now() int64 {
	since := int64(time.Since(c.base))
	if since-c.checked.Load() > clockCheckEvery {
		c.refresh(since)
	}
	return since + c.offset.Load()
}

// NowAfter is Now for a caller that knows a moment in the past, such as the receive time of a frame: a reading before
// it proves a suspend that has not been noticed yet.
func (c *Clock) NowAfter(past int64) int64 {
	now := c.Now()
	if now < past {
		c.refresh(int64(time.Since(c.base)))
		now = c.Now()
	}
	return now
}

func (c *Clock) refresh(since int64) {
	c.checked.Store(since)
	d := c.difference()
	if delta := d - c.offset.Load(); delta > clockNoise || delta < -clockNoise {
		c.offset.Store(d)
	}
}

// difference brackets a reading of CLOCK_BOOTTIME between two of CLOCK_MONOTONIC and keeps the tightest of three.
func (c *Clock) difference() int64 {
	best, tightest := int64(0), int64(1<<62)
	for range 3 {
		before := time.Since(c.base)
		boot := boottime()
		after := time.Since(c.base)
		if width := int64(after - before); width < tightest {
			tightest, best = width, boot-int64(before+after)/2
		}
	}
	return best
}

// boottime reads CLOCK_BOOTTIME directly. The call cannot fail: the clock exists since Linux 2.6.39 and the address is
// valid.
func boottime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return ts.Nano()
}
