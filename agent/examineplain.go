// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"

	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/crypto/spdu"
)

// The loop over the samples of a batch in order, step by step. On amd64 it is in assembly (examine_amd64.s), detect.Pace.Plain
// included; a test compares the two.

// examineInOrderPlain says of samples that they are plain, up to the first that is not, and returns how many are. paces go by
// candidate.index; there are as many texts as candidates, or more.
func examineInOrderPlain(paces []*detect.Pace, candidates []candidate, text []spdu.TextFD) int {
	for i := range candidates {
		x := &candidates[i]
		if !paces[x.index].Plain(x.counter(), binary.LittleEndian.Uint32(text[i][spdu.TextFrontFD:]), x.time) {
			return i
		}
	}
	return len(candidates)
}
