// SPDX-License-Identifier: Apache-2.0

package secretmem

import (
	"errors"
	"fmt"
)

// ErrMemory reports that memory for secrets could not be had on any of the terms that Region promises.
var ErrMemory = errors.New("no locked memory for secrets")

// Kind is what a region is made of.
type Kind uint8

// Kinds of memory, the better one first.
const (
	// KindNone: nothing has been taken yet.
	KindNone Kind = iota
	// KindSecret is memory of memfd_secret(2).
	KindSecret
	// KindLocked is locked private memory, not in core dumps, zero in forked children. Root can read it.
	KindLocked
)

// String returns the name of a kind as status and log show it.
func (k Kind) String() string {
	switch k {
	case KindNone:
		return "none"
	case KindSecret:
		return "memfd_secret"
	case KindLocked:
		return "locked pages"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// Backing says what memory is made of, and why it is not made of something better.
type Backing struct {
	Kind Kind
	// Refused is why memfd_secret(2) was not to be had, nil if it was.
	Refused error
}

// Region is a piece of memory outside the Go heap, locked in RAM, between pages without access. It is zero when it is new.
type Region struct {
	// Bytes is the memory between the guard pages.
	Bytes []byte
	// Backing says what it is made of.
	Backing Backing

	whole []byte // with the guard pages
}
