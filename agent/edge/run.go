// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cellward/cellward/agent/trace"
)

// Times of the protocol.
const (
	startRepeats   = 3
	startSpacing   = 10 * time.Millisecond
	startSilence   = 50 * time.Millisecond
	heartbeatRound = time.Second
)

// readAhead is how many frames may be read before they are due.
const readAhead = 4 * Batch

// Feed runs the sealer: it announces the start, seals every frame of src when it is due, sends heartbeat rounds, and after
// the last frame a final one, so that even the last sample cannot be deleted unnoticed. speed is a factor on the time
// stamps' pace; 0 sends as fast as it goes; live sources want 0. It returns nil at the end of src or when ctx ends.
func (s *Sealer) Feed(ctx context.Context, src trace.Source, speed float64) error {
	pacer, err := trace.NewPacer(speed, nil)
	if err != nil {
		return err
	}
	if err := s.announce(ctx); err != nil {
		return errorUnlessDone(ctx, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frames := make(chan trace.Frame, readAhead)
	ended := make(chan error, 1)
	go func() {
		defer close(frames)
		ended <- pump(ctx, src, frames)
	}()
	if err := s.seal(ctx, pacer, frames); err != nil {
		return errorUnlessDone(ctx, err)
	}
	if ctx.Err() == nil {
		if err := <-ended; err != nil {
			return err
		}
	}
	return s.Heartbeat()
}

// pump reads src until its end or until ctx ends.
func pump(ctx context.Context, src trace.Source, frames chan<- trace.Frame) error {
	for {
		var f trace.Frame
		if err := src.Next(&f); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read frames: %w", err)
		}
		select {
		case frames <- f:
		case <-ctx.Done():
			return nil
		}
	}
}

// announce sends the start three times and then keeps still, so that the gateway knows the start before its first sample.
func (s *Sealer) announce(ctx context.Context) error {
	for i := range startRepeats {
		if i > 0 {
			if err := sleep(ctx, startSpacing); err != nil {
				return err
			}
		}
		if err := s.AnnounceStart(); err != nil {
			return err
		}
	}
	return sleep(ctx, startSilence)
}

// seal sends frames when they are due and heartbeat rounds in between, until frames is closed or ctx ends.
func (s *Sealer) seal(ctx context.Context, pacer *trace.Pacer, frames <-chan trace.Frame) error {
	begun := time.Now()
	rounds := time.NewTicker(heartbeatRound)
	defer rounds.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		// What is queued waits for company only while frames are at hand.
		if s.Full() || (s.queued > 0 && len(frames) == 0) {
			if err := s.Flush(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return s.Flush()
		case <-rounds.C:
			if err := s.Heartbeat(); err != nil {
				return err
			}
		case f, more := <-frames:
			if !more {
				return s.Flush()
			}
			if wait := pacer.Due(f.Time) - time.Since(begun); wait > 0 {
				if err := s.await(ctx, timer, rounds.C, wait); err != nil {
					return err
				}
			}
			if err := s.Seal(&f); err != nil {
				return err
			}
		}
	}
}

// await lets wait pass; heartbeat rounds go on meanwhile.
func (s *Sealer) await(ctx context.Context, timer *time.Timer, rounds <-chan time.Time, wait time.Duration) error {
	if err := s.Flush(); err != nil {
		return err
	}
	timer.Reset(wait)
	for {
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-rounds:
			if err := s.Heartbeat(); err != nil {
				return err
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errorUnlessDone drops the error that only says that ctx has ended.
func errorUnlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
