// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/cellward/cellward/loader"
)

// BenchmarkPipeline gives the time of each step that the kernel has a share in, in ns a frame: the median over batches, so
// that whatever else runs on the machine counts little.
//
//	filter    one frame through the program, by verdict. The kernel's own loop around it, about 30 ns a turn, is part of
//	          the figure.
//	hand-off  one record out of the ring buffer: this module's reader and, as a peer, that of cilium/ebpf, with records
//	          there already. What waking a reader costs is not in it.
func BenchmarkPipeline(b *testing.B) {
	f := newFilter(b)
	for _, c := range f.cases(b) {
		b.Run(fmt.Sprintf("filter/verdict=%s", c.want), func(b *testing.B) { f.measure(b, c) })
	}
	b.Run("hand-off/reader=cellward", func(b *testing.B) {
		var batch [batchSize]loader.Record
		f.measureReader(b, func() (sum uint64) {
			n, err := f.ring.Peek(batch[:])
			if err != nil || n != batchSize {
				b.Fatalf("%d records, want %d: %v", n, batchSize, err)
			}
			for _, r := range batch {
				sum += r.TimeNS()
			}
			f.ring.Release()
			return sum
		})
	})
	b.Run("hand-off/reader=cilium", func(b *testing.B) {
		r := must[*ringbuf.Reader](b)(ringbuf.NewReader(f.maps.Candidates))
		defer r.Close()
		var record ringbuf.Record
		f.measureReader(b, func() (sum uint64) {
			for range batchSize {
				if err := r.ReadInto(&record); err != nil {
					b.Fatal(err)
				}
				sum += loader.Record(record.RawSample).TimeNS()
			}
			return sum
		})
	})
}

// measure times one verdict by the kernel's own clock.
func (f *filter) measure(b *testing.B, c testCase) {
	per := make([]float64, 0, b.N/turn+1)
	f.verdicts(b)
	undo := f.undo(b)
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= turn {
		n := uint64(min(left, turn))
		_, mean, err := f.prog.Benchmark(c.frame, int(n), undo)
		if err != nil {
			b.Fatal(err)
		}
		per = append(per, float64(mean.Nanoseconds()))
		b.StopTimer()
		if got := f.verdicts(b); got[c.want] != n || got.Total() != n {
			b.Fatalf("%d frames, verdicts %v", n, got)
		}
		f.empty(b)
		b.StartTimer()
	}
	report(b, per)
}

// measureReader times a function that takes a batch out of the ring and looks at each record.
func (f *filter) measureReader(b *testing.B, take func() uint64) {
	frame := f.frame(b, protect, epoch, highest+1)
	f.reopen(b) // the other reader may have read meanwhile
	f.empty(b)
	per := make([]float64, 0, b.N/batchSize+1)
	var sum uint64
	b.ReportAllocs()
	b.ResetTimer()
	for left, frames := 0, 0; frames < b.N; frames += batchSize {
		if left == 0 {
			b.StopTimer()
			f.lay(b, frame, turn)
			left = turn
			b.StartTimer()
		}
		began := time.Now()
		sum += take()
		per = append(per, float64(time.Since(began).Nanoseconds())/batchSize)
		left -= batchSize
	}
	b.StopTimer()
	if sum == 0 {
		b.Fatal("records without time stamps")
	}
	report(b, per)
}

// report gives the median as ns/frame.
func report(b *testing.B, per []float64) {
	slices.Sort(per)
	b.ReportMetric(per[len(per)/2], "ns/frame")
	b.ReportMetric(0, "ns/op") // it would be the mean time of everything around the step, too
}
