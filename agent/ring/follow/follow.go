// SPDX-License-Identifier: Apache-2.0

// Package follow is the reader that people run: it follows a ring and writes its samples in one of the formats. It
// imports agent/ring and agent/ring/format.
package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/ring/format"
)

// Config says what to read and how to write it. The zero value but for Out reads everything at the default socket as
// text.
type Config struct {
	Socket string // empty: ring.DefaultSocket
	From   ring.From
	Output format.Kind
	Decode bool // add physical values
	// Streams limits the output to streams with one of these names or ids (decimal, or hexadecimal with 0x). Empty: all.
	Streams []string
	// Count ends the reading after so many samples. 0: no end.
	Count uint64
	// Reconnect waits for the next producer when one is gone, instead of ending.
	Reconnect bool
	// Stats writes the counts to Err at the end: a line of text, or an object when Output is format.JSON.
	Stats bool
	Out   io.Writer // samples
	Err   io.Writer // warnings and counts; nil: nowhere
}

// Stats counts what a run has done.
type Stats struct {
	Read       uint64  `json:"read"`    // samples taken from the ring
	Written    uint64  `json:"written"` // those that Streams selects, up to Count
	Missed     uint64  `json:"missed"`  // samples that were overwritten before they could be read
	Reconnects uint64  `json:"reconnects"`
	Latency    Latency `json:"latency_ns"`
}

// String is the line that Config.Stats writes.
func (s Stats) String() string {
	return fmt.Sprintf("read %d, written %d, missed %d, reconnects %d, latency p50 %v, p99 %v, max %v", s.Read, s.Written,
		s.Missed, s.Reconnects, time.Duration(s.Latency.P50), time.Duration(s.Latency.P99), time.Duration(s.Latency.Max))
}

const batchSize = 256

// Run follows the ring until Count is reached, the context ends, or the producer ends in an orderly way; these are no
// errors. A producer that is gone otherwise is one (ring.ErrProducerGone), unless Reconnect is set.
func Run(ctx context.Context, cfg Config) (Stats, error) {
	if cfg.Err == nil {
		cfg.Err = io.Discard
	}
	out, err := format.New(cfg.Out, cfg.Output, format.Options{WallOffset: wallOffset(), Decode: cfg.Decode})
	if err != nil {
		return Stats{}, err
	}
	f := &follower{cfg: cfg, out: out, clock: ring.NewClock()}
	r, err := ring.Dial(ctx, cfg.Socket, ring.Options{From: cfg.From, Reconnect: cfg.Reconnect})
	switch {
	case err == nil:
		defer func() { _ = r.Close() }()
		f.reader = r
		err = f.run(ctx)
		f.stats.Missed, f.stats.Reconnects, f.stats.Latency = r.Missed(), r.Reconnects(), f.latency.summary()
	case ctx.Err() == nil:
		return Stats{}, err
	default:
		// The context has ended while the ring was asked for. That is an end like any other: nothing was read.
		err = nil
	}
	if cfg.Stats {
		err = errors.Join(err, f.report())
	}
	return f.stats, err
}

type follower struct {
	cfg      Config
	reader   *ring.Reader
	out      *format.Writer
	clock    *ring.Clock
	selected []bool // by stream index; nil: all
	stats    Stats
	latency  histogram
	silent   bool // a stale heartbeat has been reported
}

func (f *follower) run(ctx context.Context) error {
	generation := f.reader.Generation()
	if err := f.prepare(); err != nil {
		return err
	}
	batch := make([]ring.Sample, batchSize)
	for {
		n, err := f.reader.Next(ctx, batch)
		switch {
		case err == nil:
		case errors.Is(err, ring.ErrProducerStale):
			f.warnStale(err)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ring.ErrProducerGone):
			if st, statusErr := f.reader.Status(); statusErr == nil && st.Closed {
				return nil
			}
			return err
		default:
			return err
		}
		// The moment of the return, for all samples that it returned. A receive time after it would prove that the
		// clock has missed a suspend.
		returned := f.clock.NowAfter(batch[n-1].ReceiveTime)
		f.silent = false
		if g := f.reader.Generation(); g != generation {
			generation = g
			if err := f.prepare(); err != nil {
				return err
			}
		}
		done, err := f.write(batch[:n], returned)
		if flushErr := f.out.Flush(); flushErr != nil {
			return flushErr
		}
		if done || err != nil {
			return err
		}
	}
}

// write formats the selected samples of a batch and reports whether Count is reached.
func (f *follower) write(batch []ring.Sample, returned int64) (done bool, err error) {
	for i := range batch {
		s := &batch[i]
		f.stats.Read++
		if f.selected != nil && !f.selected[s.Stream] {
			continue
		}
		if err := f.out.Append(s, returned); err != nil {
			return false, err
		}
		f.latency.add(returned - s.ReceiveTime)
		if f.stats.Written++; f.stats.Written == f.cfg.Count {
			return true, nil
		}
	}
	return false, nil
}

// prepare takes over the stream table of a ring.
func (f *follower) prepare() error {
	streams := f.reader.Streams()
	if err := f.out.SetStreams(streams); err != nil {
		return err
	}
	f.selected = nil
	if len(f.cfg.Streams) == 0 {
		return nil
	}
	f.selected = make([]bool, len(streams))
	for _, want := range f.cfg.Streams {
		found := false
		id, isNumber := parseID(want)
		for i := range streams {
			if streams[i].Name == want || isNumber && streams[i].ID == id {
				f.selected[i], found = true, true
			}
		}
		if !found {
			return fmt.Errorf("select stream %q: the ring has no such name or id; it has %s", want, list(streams))
		}
	}
	return nil
}

func parseID(s string) (uint32, bool) {
	id, err := strconv.ParseUint(s, 0, 32)
	return uint32(id), err == nil
}

// list names the streams of a ring, the first few of many.
func list(streams []ring.Stream) string {
	const most = 8
	var names []string
	for i := range streams[:min(len(streams), most)] {
		names = append(names, fmt.Sprintf("%q (%d)", streams[i].Name, streams[i].ID))
	}
	if len(streams) > most {
		names = append(names, fmt.Sprintf("and %d more", len(streams)-most))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// warnStale says once per silence that the producer is silent; reading goes on.
func (f *follower) warnStale(err error) {
	if f.silent {
		return
	}
	f.silent = true
	age := "unknown"
	if st, statusErr := f.reader.Status(); statusErr == nil {
		age = st.Heartbeat.Round(time.Millisecond).String()
	}
	_, _ = fmt.Fprintf(f.cfg.Err, "warning: %v (%s old)\n", err, age)
}

func (f *follower) report() error {
	line := []byte(f.stats.String())
	if f.cfg.Output == format.JSON {
		var err error
		if line, err = f.stats.json(); err != nil {
			return fmt.Errorf("write counts: %w", err)
		}
	}
	if _, err := f.cfg.Err.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write counts: %w", err)
	}
	return nil
}

// wallOffset returns the time of day at boot, in nanoseconds since 1970: the ring's clock counts from boot. It is looked
// up once, so that the times of one run keep their distances when the time of day is set.
func wallOffset() int64 {
	clock := ring.NewClock()
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &ts) // cannot fail: the clock always exists
	return ts.Nano() - clock.Now()
}
