// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race

package agent

import (
	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/crypto/spdu"
)

func examineInOrder(paces []*detect.Pace, candidates []candidate, text []spdu.TextFD) int {
	return examineInOrderPlain(paces, candidates, text)
}
