// SPDX-License-Identifier: Apache-2.0

package ring

import "unsafe"

// The latest values of a batch, step by step. On amd64 the two loops are in assembly (latest_amd64.s), with a fifth of the
// instructions; a test compares the two.

// fillLatestPlain copies samples to their streams' latest values, all but the markers. newest are the samples, of which each stream has
// one at most. Up to tail, slots are written. It notes in places where the values are.
func (p *Producer) fillLatestPlain(d *Draft, tail uint64, newest []uint32, places []place) {
	p.announceLatest(d, tail, newest, places)
	p.copyLatest(d, newest, places)
}

// announceLatest declares which latest values are about to be overwritten, and up to where slots are.
func (p *Producer) announceLatest(d *Draft, tail uint64, newest []uint32, places []place) {
	for k, i := range newest {
		position := d.first + uint64(i)
		places[k] = place(uintptr(d.at(position).Stream) * p.latestSize)
		places[k].value(p.latest).Begin = position + 1
	}
	storeBetween(&p.header.Intent, tail)
}

func (p *Producer) copyLatest(d *Draft, newest []uint32, places []place) {
	for k, x := range places {
		s, to := d.at(d.first+uint64(newest[k])), &x.value(p.latest).Slot
		// Every slot has room for a body of 8 bytes, which is what classic CAN carries: with it, all is 48 bytes behind the marker.
		type words [slotHeadWords]uint64
		*(*words)(unsafe.Add(unsafe.Pointer(to), 8)) = *(*words)(unsafe.Add(unsafe.Pointer(s), 8))
		// More of it goes in whole words, for which there is room in both places.
		for at := uintptr(8); at < uintptr(s.Length); at += 8 {
			*(*uint64)(unsafe.Add(unsafe.Pointer(to), uintptr(slotHeadSize)+at)) = *(*uint64)(unsafe.Add(unsafe.Pointer(s), uintptr(slotHeadSize)+at))
		}
	}
}

// showLatestPlain ends what fillLatest has begun, behind the tail.
func showLatestPlain(latest unsafe.Pointer, places []place) {
	for _, x := range places {
		v := x.value(latest)
		v.Slot.Marker = v.Begin
	}
}
