// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"
	"time"
)

// BenchmarkFilter times verdicts by BPF_PROG_TEST_RUN. The kernel's own loop around the program, about 30 ns
// a turn, is part of the figure.
func BenchmarkFilter(b *testing.B) {
	sample := header{version: 1, epoch: liveEpoch, counter: 10001}
	cases := []struct {
		name  string
		frame *CANFrame
		want  Verdict
	}{
		{"passed", fdFrame(0x200, 48, sample), Passed},
		{"malformed", fdFrame(idSample, 48, header{epoch: liveEpoch}), Malformed},
		{"unknown_epoch", fdFrame(idSample, 48, header{version: 1, epoch: 0x99}), UnknownEpoch},
		{"replay", fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10000}), Replay},
		{"candidate", fdFrame(idSample, 48, sample), Candidate},
	}
	for _, c := range cases {
		b.Run("verdict="+c.name, func(b *testing.B) {
			const chunk = 1 << 17 // 13 MB of records, below three quarters of the ring
			f := newTestFilter(b, 1<<25, 4096)
			fixture(b, f)
			data := append(make([]byte, 14, 14+CANFDMTU), c.frame.view(CANFDMTU)...)
			data[13] = EthPCANFD
			b.ReportAllocs()
			b.ResetTimer()
			var spent time.Duration
			for left := b.N; left > 0; {
				n := min(left, chunk)
				_, per, err := f.prog.Benchmark(data, n, nil)
				if err != nil {
					b.Fatal(err)
				}
				spent += per * time.Duration(n)
				left -= n
				f.candidates.next = f.candidates.prod.Load()
				f.candidates.Release()
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "ns/frame")
			if got := f.counts(); got[c.want] != uint64(b.N) || got.Total() != uint64(b.N) {
				b.Fatalf("%d frames, verdicts %v", b.N, got)
			}
		})
	}
}

// BenchmarkTUN times what it takes to bring a frame through the attached filter from user space.
func BenchmarkTUN(b *testing.B) {
	needRoot(b)
	lab := newLab(b)
	for name, id := range map[string]uint32{"passed": 0x200, "replay": idSample} {
		b.Run("verdict="+name, func(b *testing.B) {
			frame := fdFrame(id, 48, header{version: 1, epoch: liveEpoch, counter: 10000})
			b.ReportAllocs()
			for b.Loop() {
				ok(b, lab.device.WriteCAN(frame, CANFDMTU))
			}
		})
	}
}
