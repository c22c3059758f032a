// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race

package ring

import "unsafe"

// fillLatest is fillLatestPlain.
func (p *Producer) fillLatest(d *Draft, tail uint64, newest []uint32, places []place) {
	p.fillLatestPlain(d, tail, newest, places)
}

// showLatest is showLatestPlain.
func showLatest(latest unsafe.Pointer, places []place) { showLatestPlain(latest, places) }
