// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSeals tries everything that could write, shorten or remap the memory, with the descriptor that readers get and
// with one that is opened anew for writing, which only the owner and root can do.
func TestSeals(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
	if err := p.Publish(stampedBatch(nil, 0, 3, 1, 36)); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(p.memory.bytes)
	size := len(before)

	got, err := unix.FcntlInt(uintptr(p.memory.fd), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		t.Fatalf("seals %#x, want at least %#x, %v", got, seals, err)
	}
	fds := map[string]int{"as handed over": p.memory.fd}
	rw, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", p.memory.fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil: // root passes the file's mode
		defer unix.Close(rw)
		fds["opened for writing"] = rw
	case !errors.Is(err, unix.EACCES):
		t.Fatalf("open for writing: %v", err)
	}
	if _, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", p.memory.fd), unix.O_RDWR|unix.O_TRUNC, 0); err == nil {
		t.Error("opened with truncation")
	}
	for name, fd := range fds {
		for what, try := range map[string]func() error{
			"pwrite":       func() error { _, err := unix.Pwrite(fd, []byte{1}, 0); return err },
			"truncate":     func() error { return unix.Ftruncate(fd, int64(size)-1) },
			"truncate all": func() error { return unix.Ftruncate(fd, 0) },
			"grow":         func() error { return unix.Ftruncate(fd, int64(size)+4096) },
			"punch a hole": func() error {
				return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
			},
			"allocate":  func() error { return unix.Fallocate(fd, 0, int64(size), 4096) },
			"seal more": func() error { _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); return err },
			"map writable": func() error {
				m, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
				if err == nil {
					_ = unix.Munmap(m)
				}
				return err
			},
			"make a mapping writable": func() error {
				m, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
				if err != nil {
					t.Fatalf("%s: map read-only: %v", name, err)
				}
				defer unix.Munmap(m)
				return unix.Mprotect(m, unix.PROT_READ|unix.PROT_WRITE)
			},
			"free pages of a mapping": func() error {
				m, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
				if err != nil {
					t.Fatalf("%s: map read-only: %v", name, err)
				}
				defer unix.Munmap(m)
				return unix.Madvise(m, unix.MADV_REMOVE)
			},
		} {
			if err := try(); err == nil {
				t.Errorf("%s: %s succeeded", name, what)
			}
		}
	}
	if !bytes.Equal(p.memory.bytes, before) {
		t.Error("the memory changed")
	}
	// The producer itself still writes.
	if err := p.Publish(stampedBatch(nil, 3, 1, 1, 36)); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(p.memory.bytes, before) {
		t.Error("publishing left no trace")
	}
}

// TestRefuseUnsealed: a reader does not trust memory that somebody could shorten or write.
func TestRefuseUnsealed(t *testing.T) {
	p := newProducer(t, Config{Streams: testStreams(1), Slots: 4})
	content := p.memory.bytes
	for name, c := range map[string]struct {
		seals int
		ok    bool
	}{
		"none":         {0, false},
		"shrink only":  {unix.F_SEAL_SHRINK, false},
		"write only":   {unix.F_SEAL_FUTURE_WRITE, false},
		"both":         {unix.F_SEAL_SHRINK | unix.F_SEAL_FUTURE_WRITE, true},
		"no more ever": {unix.F_SEAL_SHRINK | unix.F_SEAL_WRITE, true},
	} {
		mem, err := mapReadOnly(sealedCopy(t, content, c.seals))
		if err == nil {
			if _, err := newView(mem); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			_ = unix.Munmap(mem)
		}
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrNotSealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Files that are no memfd have no seals at all.
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if _, err := mapReadOnly(pipe[0]); !errors.Is(err, ErrNotSealed) {
		t.Errorf("pipe: %v", err)
	}
	if _, err := mapReadOnly(sealedCopy(t, content[:headerSize-1], seals)); !errors.Is(err, ErrLayout) {
		t.Errorf("memory shorter than a header: %v", err)
	}
}
