// SPDX-License-Identifier: Apache-2.0

//go:build !race

//lint:file-ignore U1000 the constants are those of examine_amd64.s

package agent

import (
	"unsafe"

	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/crypto/spdu"
)

// Offsets for examine_amd64.s in detect.Pace, and what that goes by.
const (
	paceNext    = unsafe.Offsetof(detect.Pace{}.Next)
	paceEnd     = unsafe.Offsetof(detect.Pace{}.End)
	paceSource  = unsafe.Offsetof(detect.Pace{}.Source)
	paceLeast   = unsafe.Offsetof(detect.Pace{}.Least)
	paceSeen    = unsafe.Offsetof(detect.Pace{}.Seen)
	paceFastest = unsafe.Offsetof(detect.Pace{}.Fastest)

	paceMaxDelay    = detect.MaxDelay
	paceMillisecond = detect.Millisecond
	paceSlowdown    = uint64(detect.Slowdown)
)

// examineInOrder is examineInOrderPlain. It stores no pointers.
func examineInOrder(paces []*detect.Pace, candidates []candidate, text []spdu.TextFD) int {
	if len(candidates) == 0 || len(paces) == 0 {
		return 0
	}
	return examineAMD64(&paces[0], len(paces), &candidates[0], &text[:len(candidates)][0], len(candidates))
}

//go:noescape
func examineAMD64(paces **detect.Pace, streams int, candidates *candidate, text *spdu.TextFD, n int) (done int)
