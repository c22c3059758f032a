// SPDX-License-Identifier: Apache-2.0

package secretmem

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"
)

// SlotSize is the size in bytes of a slot of an Arena, and so of the largest value in a Box.
const SlotSize = 64

// Arena holds values of up to SlotSize bytes in regions of one page each, with a slot for each value. A slot is overwritten
// when it is freed. The zero value is ready for use and takes its first page with the first value; its pages go back when
// neither the arena nor a box of it is referred to any more. All methods are safe for concurrent use.
type Arena struct {
	mu      sync.Mutex
	free    []unsafe.Pointer
	backing Backing
	used    int
	size    int
}

// Usage returns how many values there are and how many bytes are locked for them.
func (a *Arena) Usage() (values, lockedBytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used, a.size
}

// Backing says what the arena's pages are made of: of several that differ, the worst.
func (a *Arena) Backing() Backing {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.backing
}

func (a *Arena) take() (unsafe.Pointer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.free) == 0 {
		if err := a.grow(); err != nil {
			return nil, err
		}
	}
	p := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	a.used++
	return p, nil
}

func (a *Arena) give(p unsafe.Pointer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*(*[SlotSize]byte)(p) = [SlotSize]byte{}
	a.free = append(a.free, p)
	a.used--
}

func (a *Arena) grow() error {
	r, err := NewRegion(os.Getpagesize())
	if err != nil {
		return err
	}
	for off := len(r.Bytes) - SlotSize; off >= 0; off -= SlotSize {
		a.free = append(a.free, unsafe.Pointer(&r.Bytes[off]))
	}
	a.size += len(r.Bytes)
	if r.Backing.Kind > a.backing.Kind {
		a.backing = r.Backing
	}
	// Slots point into the mapping, which the collector does not see: boxes keep the arena alive, and it keeps the mapping.
	runtime.AddCleanup(a, (*Region).Free, r)
	return nil
}

// Box is one value in an arena. It is overwritten when it is freed, or when the last reference to the box is gone. A box
// that is nil or freed reads as zero. It prints as "[redacted]". Get and Free must not run at the same time.
type Box[T any] struct {
	p       *T
	arena   *Arena
	dropped runtime.Cleanup
}

// slotRef is what the cleanup of a box has in hand.
type slotRef struct {
	arena *Arena
	slot  unsafe.Pointer
}

func (r slotRef) give() { r.arena.give(r.slot) }

// NewBox takes a slot for a value of at most SlotSize bytes without pointers; another type panics. The value is zero. The
// error wraps ErrMemory.
func NewBox[T any](a *Arena) (*Box[T], error) {
	var zero T
	if unsafe.Sizeof(zero) > SlotSize {
		panic(fmt.Sprintf("secretmem: %T does not fit a slot", zero))
	}
	if a == nil {
		return nil, fmt.Errorf("%w: no arena", ErrMemory)
	}
	p, err := a.take()
	if err != nil {
		return nil, err
	}
	b := &Box[T]{p: (*T)(p), arena: a}
	b.dropped = runtime.AddCleanup(b, slotRef.give, slotRef{a, p})
	return b, nil
}

// Get returns the value in place. The pointer is good until Free, and only while the box is referred to: keep the box, not the
// pointer. Whoever copies what it points at makes a copy that nobody wipes.
func (b *Box[T]) Get() *T {
	if b == nil || b.p == nil {
		return new(T)
	}
	return b.p
}

// Arena returns where the value lies, for others that are to lie there; nil for a box that is nil or freed.
func (b *Box[T]) Arena() *Arena {
	if b == nil {
		return nil
	}
	return b.arena
}

// Free overwrites the value and gives its slot back. Freeing twice, or nil, does no harm.
func (b *Box[T]) Free() {
	if b == nil || b.p == nil {
		return
	}
	b.dropped.Stop()
	b.arena.give(unsafe.Pointer(b.p))
	b.p, b.arena, b.dropped = nil, nil, runtime.Cleanup{}
}

// Format writes "[redacted]" for every verb.
func (b *Box[T]) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[redacted]")) }
