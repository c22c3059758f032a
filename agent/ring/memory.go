// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seals is what the producer puts on the memory once it has mapped it: no size change, no new writable mapping and no
// write(2), and nobody may add seals (fcntl(2), F_ADD_SEALS).
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL

// memory is the producer's end: the only writable mapping there will ever be, and a read-only descriptor for readers.
type memory struct {
	bytes []byte
	fd    int // opened O_RDONLY: a description of its own, so that readers share no file offset with a writable one
}

// newMemory returns size bytes of zeroed, populated and sealed shared memory.
func newMemory(size int) (*memory, error) {
	// MFD_NOEXEC_SEAL (Linux 6.3) implies MFD_ALLOW_SEALING and makes the file non-executable for good; older kernels
	// refuse the flag.
	fd, err := unix.MemfdCreate("cellward-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("cellward-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("create shared memory: %w", err)
	}
	// Once the mapping is there the writable descriptor has no further use.
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("size shared memory to %d bytes: %w", size, err)
	}
	// MAP_POPULATE: the first turn around the ring takes no page faults.
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of shared memory: %w", size, err)
	}
	m := &memory{bytes: b, fd: -1}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		m.close()
		return nil, fmt.Errorf("seal shared memory: %w", err)
	}
	// With the mode gone too, a reader of another user cannot even open the file anew for writing.
	if err := unix.Fchmod(fd, 0o400); err != nil {
		m.close()
		return nil, fmt.Errorf("make shared memory read-only: %w", err)
	}
	m.fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		m.close()
		return nil, fmt.Errorf("open shared memory read-only: %w", err)
	}
	return m, nil
}

func (m *memory) close() {
	if m.bytes != nil {
		_ = unix.Munmap(m.bytes)
		m.bytes = nil
	}
	if m.fd >= 0 {
		_ = unix.Close(m.fd)
		m.fd = -1
	}
}

// mapReadOnly maps memory that came from a producer. It refuses memory that could still shrink, because reading behind
// the end of a file is a fatal SIGBUS, and memory that another reader could write.
func mapReadOnly(fd int) ([]byte, error) {
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: get seals: %w", ErrNotSealed, err)
	}
	if got&unix.F_SEAL_SHRINK == 0 || got&(unix.F_SEAL_FUTURE_WRITE|unix.F_SEAL_WRITE) == 0 {
		return nil, fmt.Errorf("%w: seals %#x", ErrNotSealed, got)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("get size of shared memory: %w", err)
	}
	if st.Size < int64(headerSize) || st.Size > maxSize {
		return nil, damaged("file_size", "memory has %d bytes", st.Size)
	}
	b, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of shared memory: %w", st.Size, err)
	}
	return b, nil
}

// pageRound rounds n up to whole pages, the unit in which memory is mapped.
func pageRound(n int) int { return roundUp(n, os.Getpagesize()) }
