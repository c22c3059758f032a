// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race

package agent

import (
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

func (c *core) lookUpInOrder(batch []loader.Record, n int, since int64) int {
	return c.lookUpInOrderPlain(batch, n, since)
}

func layDownInOrder(span *ring.Span, candidates []candidate, text []spdu.TextFD, padding *spdu.PaddingFD) int {
	return layDownInOrderPlain(span, candidates, text, padding)
}

func (c *core) settleInOrder() { c.settleInOrderPlain() }

// fetchesAhead says that layDownInOrder asks for the places of the next batch.
const fetchesAhead = false
