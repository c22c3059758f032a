// SPDX-License-Identifier: Apache-2.0

package secretmem

import "testing"

func BenchmarkRegion(b *testing.B) {
	for b.Loop() {
		r, err := NewRegion(1)
		if err != nil {
			b.Fatal(err)
		}
		r.Free()
	}
}
