// SPDX-License-Identifier: Apache-2.0

//go:build !race

package ring

import "unsafe"

// latestWork is what fillLatestAMD64 is told.
type latestWork struct {
	slots  unsafe.Pointer
	stride uintptr
	mask   uint64
	first  uint64 // position of sample 0
	latest unsafe.Pointer
	size   uintptr // of a latest value
}

// fillLatest is fillLatestPlain. The processor keeps stores in order, so that begin is stored before the value of each stream without
// anything between the two for all of them.
func (p *Producer) fillLatest(d *Draft, tail uint64, newest []uint32, places []place) {
	storeBetween(&p.header.Intent, tail)
	if len(newest) > 0 {
		w := latestWork{slots: d.slots, stride: d.size, mask: d.mask, first: d.first, latest: p.latest, size: p.latestSize}
		fillLatestAMD64(&w, &newest[0], len(newest), &places[:len(newest)][0])
	}
}

// showLatest is showLatestPlain.
func showLatest(latest unsafe.Pointer, places []place) {
	if len(places) > 0 {
		showLatestAMD64(latest, &places[0], len(places))
	}
}

//go:noescape
func fillLatestAMD64(w *latestWork, newest *uint32, n int, places *place)

//go:noescape
func showLatestAMD64(latest unsafe.Pointer, places *place, n int)
