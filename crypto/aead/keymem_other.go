// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package aead

import (
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/secretmem"
)

// ErrKeyMemory reports that memory for keys could not be had on the terms that KeyMemory promises.
var ErrKeyMemory = errors.New("no locked memory for keys")

// KeyMemory is where the side-by-side engines keep expanded keys. They run on Linux only, and so does it.
type KeyMemory struct{}

// Usage returns how many keys there are and how many bytes are locked for them: none.
func (*KeyMemory) Usage() (keys, lockedBytes int) { return 0, 0 }

// Backing returns what there is: nothing.
func (*KeyMemory) Backing() secretmem.Backing { return secretmem.Backing{} }

func (*KeyMemory) give(*keySlot) {}

func newSlotKey(*KeyMemory) (*Key, error) {
	return nil, fmt.Errorf("%w: not on this operating system", ErrKeyMemory)
}
