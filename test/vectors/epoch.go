// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/cellward/cellward/agent/epoch"
)

// nextEpoch is the choice of a node's next epoch number.
type nextEpoch struct {
	Floor      uint32   `json:"floor"`
	Acceptable []uint32 `json:"acceptable"`
	Next       uint32   `json:"next"` // 0: no number is left
}

func makeNextEpochs(f *file) error {
	for _, c := range []nextEpoch{
		{Floor: 0, Acceptable: []uint32{}},
		{Floor: 1, Acceptable: []uint32{1}},
		{Floor: 255, Acceptable: []uint32{255}},
		{Floor: 256, Acceptable: []uint32{256}},
		{Floor: 256, Acceptable: []uint32{1}},
		{Floor: 511, Acceptable: []uint32{256}},
		{Floor: 512, Acceptable: []uint32{257, 258}},
		{Floor: 66050, Acceptable: []uint32{3}},
		{Floor: 66051, Acceptable: []uint32{66050, 66051}},
		{Floor: 0xFFFFFFFE, Acceptable: []uint32{0xFFFFFFFE}},
		{Floor: 0xFFFFFFFE, Acceptable: []uint32{0xFFFFFEFF}},
		{Floor: 0xFFFFFFFF, Acceptable: []uint32{}},
	} {
		n := &epoch.Node{Floor: c.Floor}
		for _, number := range c.Acceptable {
			n.Epochs = append(n.Epochs, &epoch.Epoch{Number: number})
		}
		// The only error is that no number is left.
		if next, err := n.NextEpoch(); err == nil {
			c.Next = next
		}
		f.NextEpochs = append(f.NextEpochs, c)
	}
	return nil
}
