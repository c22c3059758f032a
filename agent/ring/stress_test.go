// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStress lets readers of different speeds follow a producer around a small ring. The race detector does not look
// at mapped memory, so the checksum in each body is what finds a torn sample there; what it does see is the private
// state on both sides.
func TestStress(t *testing.T) {
	const streams, bodyMax, total = 3, 36, 200_000
	p := newProducer(t, Config{Streams: testStreams(streams), Slots: 64, BodyMax: bodyMax})
	// Stamping costs far more than publishing: done ahead, the producer runs as fast as it can between two refills.
	var wg sync.WaitGroup
	var missedByAnybody atomic.Uint64
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // a reader that hangs fails instead
	defer cancel()
	for i, room := range []int{1, 16, 64} {
		r := attach(t, p, Options{})
		wg.Go(func() {
			batch := make([]Sample, room)
			delivered, next := uint64(0), uint64(0)
			for next < total {
				n, err := r.Next(ctx, batch)
				if err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				for j := range batch[:n] {
					if err := verify(&batch[j], streams, bodyMax); err != nil {
						t.Errorf("reader %d: %v", i, err)
						return
					}
					if batch[j].Position < next {
						t.Errorf("reader %d: position %d after %d", i, batch[j].Position, next)
						return
					}
					next = batch[j].Position + 1
				}
				delivered += uint64(n)
			}
			if delivered+r.Missed() != total {
				t.Errorf("reader %d: delivered %d, missed %d, published %d", i, delivered, r.Missed(), total)
			}
			missedByAnybody.Add(r.Missed())
		})
	}
	latest := attach(t, p, Options{})
	stop := make(chan struct{})
	var whole uint64
	wg.Go(func() {
		var s Sample
		newest := make([]uint64, streams)
		for i := uint32(0); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			stream := i % streams
			ok, err := latest.Latest(stream, &s)
			if errors.Is(err, ErrLatestBusy) || err == nil && !ok {
				continue
			}
			if err == nil {
				err = verify(&s, streams, bodyMax)
			}
			if err == nil && s.Position < newest[stream] {
				err = fmt.Errorf("position %d after %d", s.Position, newest[stream])
			}
			if err != nil {
				t.Errorf("latest value: %v", err)
				return
			}
			newest[stream] = s.Position
			whole++
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	var batch []Sample
	for next := uint64(0); next < total; {
		n := min(1+rng.IntN(256), int(total-next))
		batch = stampedBatch(batch, next, n, streams, bodyMax)
		for part := batch; len(part) > 0; {
			size := min(1+rng.IntN(32), len(part))
			if err := p.Publish(part[:size]); err != nil {
				t.Fatal(err)
			}
			part = part[size:]
		}
		next += uint64(n)
	}
	close(stop)
	wg.Wait()
	if missedByAnybody.Load() == 0 {
		t.Error("no reader was ever overtaken: the test shows nothing about overruns")
	}
	if whole == 0 {
		t.Error("the latest value was never read whole")
	}
}
