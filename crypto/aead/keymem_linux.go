// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrKeyMemory reports that memory for keys could not be had on the terms that KeyMemory promises.
var ErrKeyMemory = errors.New("no locked memory for keys")

// KeyMemory is where the side-by-side engines keep expanded keys: round keys, IV and powers of H. It lies outside the
// Go heap, so that no garbage collector and no growing stack copies it; it is locked, so that it never reaches a swap
// device; it is left out of core dumps and of forked children; pages without access lie before and behind it. A key
// is overwritten when it is wiped, or when the last reference to it is gone.
//
// What it cannot help: while a kernel works, the registers hold round keys, and where the system stops the thread at that
// moment, for a signal or for a dump of the process, they are stored with it.
//
// The zero value is ready for use. Memory is taken from the system in pieces with room for 48 keys, as it is needed,
// and given back when neither the KeyMemory nor a key of it is referred to any more. All methods are safe for
// concurrent use.
type KeyMemory struct {
	mu   sync.Mutex
	free []*keySlot
	used int
	size int
}

// keyRegion is the size in bytes of one piece, guard pages not counted: whole pages of 4, 16 and 64 KiB.
const keyRegion = 64 << 10

// Usage returns how many keys there are and how many bytes are locked for them.
func (m *KeyMemory) Usage() (keys, lockedBytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, m.size
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

func (m *KeyMemory) grow() (err error) {
	guard := unix.Getpagesize()
	whole, err := unix.Mmap(-1, 0, keyRegion+2*guard, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("map memory: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Munmap(whole)
		}
	}()
	region := whole[guard : guard+keyRegion]
	if err := unix.Madvise(region, unix.MADV_DONTDUMP); err != nil {
		return fmt.Errorf("keep memory out of core dumps: %w", err)
	}
	if err := unix.Madvise(region, unix.MADV_DONTFORK); err != nil {
		return fmt.Errorf("keep memory out of forks: %w", err)
	}
	if err := unix.Mprotect(region, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("open memory between its guard pages: %w", err)
	}
	// Locking counts against RLIMIT_MEMLOCK unless the process has CAP_IPC_LOCK.
	if err := unix.Mlock(region); err != nil {
		return fmt.Errorf("lock %d more bytes (see RLIMIT_MEMLOCK): %w", len(region), err)
	}
	const slot = int(unsafe.Sizeof(keySlot{}))
	for off := len(region)/slot*slot - slot; off >= 0; off -= slot {
		m.free = append(m.free, (*keySlot)(unsafe.Pointer(&region[off])))
	}
	m.size += len(region)
	// Slots point into the mapping, which the collector does not see: keys keep the KeyMemory alive, and it keeps
	// the mapping.
	runtime.AddCleanup(m, unmapKeys, whole)
	return nil
}

func unmapKeys(whole []byte) {
	guard := unix.Getpagesize()
	clear(whole[guard : len(whole)-guard])
	_ = unix.Munmap(whole)
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
