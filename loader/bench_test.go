// SPDX-License-Identifier: Apache-2.0

package loader

import "testing"

// BenchmarkTUN times what it takes to bring a frame through the attached filter from user space.
func BenchmarkTUN(b *testing.B) {
	needRoot(b)
	lab := newLab(b, "")
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
