// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package secretmem

import "fmt"

// NewRegion refuses: the terms of Region can be had on Linux only.
func NewRegion(int) (*Region, error) {
	return nil, fmt.Errorf("%w: not on this operating system", ErrMemory)
}

// Free does nothing.
func (*Region) Free() {}
