// SPDX-License-Identifier: Apache-2.0

package secretmem

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewRegion maps size bytes, rounded up to whole pages. Both kinds count against RLIMIT_MEMLOCK unless the process has
// CAP_IPC_LOCK. The error wraps ErrMemory.
func NewRegion(size int) (*Region, error) {
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	whole, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("%w: map memory: %w", ErrMemory, err)
	}
	r := &Region{Bytes: whole[page : page+size : page+size], Backing: Backing{Kind: KindSecret}, whole: whole}
	if r.Backing.Refused = r.secret(); r.Backing.Refused != nil {
		r.Backing.Kind = KindLocked
		if err := r.lock(); err != nil {
			_ = unix.Munmap(whole)
			return nil, fmt.Errorf("%w: %w; before that: %w", ErrMemory, err, r.Backing.Refused)
		}
	}
	// Every page is taken now: one that cannot be had later would end the process with a signal.
	clear(r.Bytes)
	return r, nil
}

// secret puts memory of memfd_secret(2) between the guard pages (Linux 5.14, mm/secretmem.c). The kernel locks it and
// leaves it out of core dumps by itself.
func (r *Region) secret() error {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_secret: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(len(r.Bytes))); err != nil {
		return fmt.Errorf("memfd_secret: set size: %w", err)
	}
	at := unsafe.Pointer(unsafe.SliceData(r.Bytes))
	// The library's mapper keeps a table of what it has mapped, in which whole stands; the exchange of its middle is not for it.
	if _, err := unix.MmapPtr(fd, 0, at, uintptr(len(r.Bytes)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		return fmt.Errorf("memfd_secret: map %d more bytes (see RLIMIT_MEMLOCK): %w", len(r.Bytes), err)
	}
	// The mapping is shared, as all of this kind are: a child must not have it at all.
	if err := unix.Madvise(r.Bytes, unix.MADV_DONTFORK); err != nil {
		return fmt.Errorf("memfd_secret: keep memory out of forks: %w", err)
	}
	return nil
}

// lock makes the middle of the reservation the second kind of memory.
func (r *Region) lock() error {
	// What a half-made first kind has left there goes.
	at := unsafe.Pointer(unsafe.SliceData(r.Bytes))
	if _, err := unix.MmapPtr(-1, 0, at, uintptr(len(r.Bytes)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED); err != nil {
		return fmt.Errorf("map memory: %w", err)
	}
	if err := unix.Madvise(r.Bytes, unix.MADV_DONTDUMP); err != nil {
		return fmt.Errorf("keep memory out of core dumps: %w", err)
	}
	if err := unix.Madvise(r.Bytes, unix.MADV_WIPEONFORK); err != nil {
		return fmt.Errorf("wipe memory in forks: %w", err)
	}
	if err := unix.Mlock(r.Bytes); err != nil {
		return fmt.Errorf("lock %d more bytes (see RLIMIT_MEMLOCK): %w", len(r.Bytes), err)
	}
	return nil
}

// Free overwrites the region and gives it back. Nothing may refer to its bytes any more.
func (r *Region) Free() {
	if r.whole == nil {
		return
	}
	clear(r.Bytes)
	_ = unix.Munmap(r.whole)
	r.whole, r.Bytes = nil, nil
}
