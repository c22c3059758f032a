// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"math"
	"math/bits"
	"time"
)

// Pace is what the sample of every day is held against, in one cache line, for whoever asks of many samples one after another. The
// Stream that it belongs to keeps it; nobody else changes it but by Plain, or as Plain does.
//
// Whatever else stands in a sample's way for longer is folded into Above, so that asking takes few comparisons.
type Pace struct {
	// Next is the counter behind the highest of the run.
	Next uint64
	// Source is the source time of the highest sample in ms, unwrapped: the low 32 bits are as they were sent.
	Source int64
	// Seen is when the last frame came; 0: none did.
	Seen int64
	// Fastest is the least Level of all samples of the run.
	Fastest int64
	// Above is what the source time must go on by more than, in ms, and not negative. It never does by more than math.MaxInt32, which
	// leaves every sample to Stream.Sample.
	Above int32
	_     [28]byte
}

const (
	// MaxDelay is the largest Level over the fastest one that is no delay, in ns.
	MaxDelay = int64(2 * time.Second)
	// Slowdown is the part of 2^64 that 1 - 200 ppm is.
	Slowdown = math.MaxUint64 - math.MaxUint64/driftPart
	// Millisecond is the unit of source times in ns.
	Millisecond = int64(time.Millisecond)

	driftPart = 5000 // 200 ppm
	never     = math.MaxInt32
)

// Level is how far the gateway's clock is ahead of the node's, in ns, when a sample comes at receive (not negative) that was taken at
// source ms. The gateway's clock counts as if it lost 200 ppm: by so much more the levels would grow if the node's clock loses, which
// is no delay. So all samples that are as fast as the fastest one, however long ago that was, have at most its level, and the least
// one is all that must be kept to tell how late a sample is.
func Level(receive, source int64) int64 {
	slowed, _ := bits.Mul64(uint64(receive), Slowdown)
	return int64(slowed) - source*Millisecond
}

// Plain is Stream.Sample for the sample of every day: the next one of the run, later than all that were heard, from a clock that goes
// on, of a node that has not sent too fast for long, with a delay that is allowed. There is nothing wrong with it. For any other Plain
// returns false and changes nothing, and Sample has to be asked; so it does for every one of a stream that is multiplexed or held.
func (p *Pace) Plain(counter uint64, source uint32, receive int64) bool {
	return p.takes(counter, source, receive, p.Above)
}

func (p *Pace) takes(counter uint64, source uint32, receive int64, above int32) bool {
	advance := int32(source - uint32(p.Source)) // wraps as the source time does
	if counter != p.Next || receive < p.Seen || advance <= above {
		return false
	}
	taken := p.Source + int64(advance)
	level := Level(receive, taken)
	if level-p.Fastest > MaxDelay {
		return false
	}
	p.Next, p.Source, p.Seen, p.Fastest = counter+1, taken, receive, min(p.Fastest, level)
	return true
}
