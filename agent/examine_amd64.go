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
	paceSource  = unsafe.Offsetof(detect.Pace{}.Source)
	paceAbove   = unsafe.Offsetof(detect.Pace{}.Above)
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
	return examineAMD64(&paces[0], &candidates[0], &text[:len(candidates)][0], len(candidates))
}

// A candidate's index is never that of something that came from outside: it is the lane's, which has it from its stream. So it needs no
// check against the number of streams.
//
//go:noescape
func examineAMD64(paces **detect.Pace, candidates *candidate, text *spdu.TextFD, n int) (done int)
