// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

func benchmarkSamples(n int) []Sample {
	batch := make([]Sample, n)
	for i := range batch {
		batch[i] = Sample{Stream: uint32(i % 20), Epoch: 1, Counter: uint64(i), ReceiveTime: 1, Body: make([]byte, 36)}
	}
	return batch
}

// BenchmarkPublish gives the time for one sample; wake says whether a reader is connected, which costs a FUTEX_WAKE a
// batch.
func BenchmarkPublish(b *testing.B) {
	for _, wake := range []bool{false, true} {
		for _, n := range []int{1, 32, 64} {
			b.Run(fmt.Sprintf("batch=%d/wake=%v", n, wake), func(b *testing.B) {
				p := newProducer(b, Config{Streams: testStreams(20)})
				if wake {
					p.listeners.Add(1)
				}
				batch := benchmarkSamples(n)
				b.ReportAllocs()
				b.ResetTimer()
				for i := 0; i < b.N; i += n {
					if err := p.Publish(batch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRead gives the time for one sample out of a full ring.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1, 32, 64} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			p := newProducer(b, Config{Streams: testStreams(20)})
			for range DefaultSlots / 64 {
				if err := p.Publish(benchmarkSamples(64)); err != nil {
					b.Fatal(err)
				}
			}
			r := attach(b, p, Options{})
			out := make([]Sample, n)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				if r.position.Load() == DefaultSlots {
					r.position.Store(0)
				}
				if _, err := r.Next(context.Background(), out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLatest(b *testing.B) {
	p := newProducer(b, Config{Streams: testStreams(20)})
	if err := p.Publish(benchmarkSamples(64)); err != nil {
		b.Fatal(err)
	}
	r := attach(b, p, Options{})
	s := Sample{Body: make([]byte, 36)}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if _, err := r.Latest(3, &s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOneWay gives the time from before Publish in one goroutine to the return of Next in another, which spins.
func BenchmarkOneWay(b *testing.B) {
	p := newProducer(b, Config{Streams: testStreams(1)})
	r := attach(b, p, Options{Spin: time.Minute})
	p.listeners.Store(0) // nobody sleeps
	base := time.Now()
	var total time.Duration
	var wg sync.WaitGroup
	ready := make(chan struct{}, 1)
	count := b.N
	wg.Go(func() {
		out := make([]Sample, 1)
		for range count {
			if _, err := r.Next(context.Background(), out); err != nil {
				b.Error(err)
				return
			}
			total += time.Since(base) - time.Duration(out[0].Counter)
			ready <- struct{}{}
		}
	})
	batch := benchmarkSamples(1)
	b.ResetTimer()
	for range count {
		batch[0].Counter = uint64(time.Since(base))
		if err := p.Publish(batch); err != nil {
			b.Fatal(err)
		}
		<-ready
	}
	wg.Wait()
	b.ReportMetric(float64(total.Nanoseconds())/float64(count), "ns/way")
}
