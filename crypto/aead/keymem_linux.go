// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/cellward/cellward/crypto/secretmem"
)

// ErrKeyMemory reports that memory for keys could not be had on the terms that KeyMemory promises.
var ErrKeyMemory = errors.New("no locked memory for keys")

// KeyMemory is where the side-by-side engines keep expanded keys: round keys, IV and powers of H. It lies in regions of
// crypto/secretmem: outside the Go heap, locked, in no core dump and no child, between pages without access, and where the
// kernel has memfd_secret(2) beyond the reach of root and the kernel's own. A key is overwritten when it is wiped, or when
// the last reference to it is gone.
//
// What it cannot help: while a kernel works, the registers hold round keys, and where the system stops the thread at that
// moment, for a signal or for a dump of the process, they are stored with it. What signals have stored secretmem.Collect overwrites.
//
// The zero value is ready for use. Memory is taken from the system in pieces with room for 48 keys, as it is needed,
// and given back when neither the KeyMemory nor a key of it is referred to any more. All methods are safe for
// concurrent use.
type KeyMemory struct {
	mu   sync.Mutex
	free []*keySlot
	used int
	size int

	backing secretmem.Backing
}

// keyRegion is the size in bytes of one piece, guard pages not counted: whole pages of 4, 16 and 64 KiB.
const keyRegion = 64 << 10

// Usage returns how many keys there are and how many bytes are locked for them.
func (m *KeyMemory) Usage() (keys, lockedBytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, m.size
}

// Backing says what the memory is made of: of several pieces that differ, the worst. Its kind is secretmem.KindNone while
// there are none.
func (m *KeyMemory) Backing() secretmem.Backing {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.backing
}

// take returns a slot that is all zero.
func (m *KeyMemory) take() (*keySlot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.free) == 0 {
		if err := m.grow(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeyMemory, err)
		}
	}
	s := m.free[len(m.free)-1]
	m.free = m.free[:len(m.free)-1]
	m.used++
	return s, nil
}

// give overwrites a slot and takes it back.
func (m *KeyMemory) give(s *keySlot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*s = keySlot{}
	m.free = append(m.free, s)
	m.used--
}

func (m *KeyMemory) grow() error {
	r, err := secretmem.NewRegion(keyRegion)
	if err != nil {
		return err
	}
	const slot = int(unsafe.Sizeof(keySlot{}))
	for off := len(r.Bytes)/slot*slot - slot; off >= 0; off -= slot {
		m.free = append(m.free, (*keySlot)(unsafe.Pointer(&r.Bytes[off])))
	}
	m.size += len(r.Bytes)
	if r.Backing.Kind > m.backing.Kind {
		m.backing = r.Backing
	}
	// Slots point into the mapping, which the collector does not see: keys keep the KeyMemory alive, and it keeps
	// the mapping.
	runtime.AddCleanup(m, (*secretmem.Region).Free, r)
	return nil
}

// slotRef is what the cleanup of a key has in hand.
type slotRef struct {
	mem  *KeyMemory
	slot *keySlot
}

func (r slotRef) give() { r.mem.give(r.slot) }

// newSlotKey returns a key whose slot is still to be filled.
func newSlotKey(m *KeyMemory) (*Key, error) {
	s, err := m.take()
	if err != nil {
		return nil, err
	}
	k := &Key{slot: s, mem: m}
	k.dropped = runtime.AddCleanup(k, slotRef.give, slotRef{m, s})
	return k, nil
}
