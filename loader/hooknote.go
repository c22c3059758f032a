// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"structs"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// notePin is the name of the pinned note in a bus's folder. There is one where the hook has nothing of its own to pin.
const notePin = "hook"

const noteVersion = 1

// hookNote says where a filter is that cannot be pinned. A bpffs holds no files, so it lies in a map of one entry.
type hookNote struct {
	_         structs.HostLayout
	Version   uint32
	Ifindex   uint32 // 0: nowhere
	MadeQdisc uint32 // 1: the qdisc was not there before us
	Program   uint32 // id of the program that was set last; 0: not noted
	Cookie    uint64 // of the network namespace, SO_NETNS_COOKIE: never given twice
	Inode     uint64 // of the network namespace, by which it is searched for
}

func noteSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: notePin, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(hookNote{})), MaxEntries: 1}
}

func newNote() (*ebpf.Map, error) {
	m, err := ebpf.NewMap(noteSpec())
	if err != nil {
		return nil, fmt.Errorf("create note of the hook: %w", err)
	}
	return m, nil
}

func openNote(pins string) (*ebpf.Map, error) {
	path := filepath.Join(pins, notePin)
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return nil, fmt.Errorf("open pinned note of the hook: %w", err)
	}
	if err := noteSpec().Compatible(m); err != nil {
		return nil, errors.Join(fmt.Errorf("open pinned note %s: %w: %w", path, ErrLayout, err), m.Close())
	}
	return m, nil
}

func readNote(m *ebpf.Map) (n hookNote, err error) {
	if err := lookup(m, 0, &n); err != nil {
		return n, err
	}
	if n.Version > noteVersion {
		return n, fmt.Errorf("read note of the hook: %w: version %d, want %d", ErrLayout, n.Version, noteVersion)
	}
	return n, nil
}

func writeNote(m *ebpf.Map, n hookNote) error {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&n)), unsafe.Sizeof(n))
	if err := m.Update(uint32(0), b, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("write note of the hook: %w", err)
	}
	return nil
}

// noteOf returns the note of a program at an interface of the calling thread's network namespace.
func noteOf(index int, program ebpf.ProgramID) (hookNote, error) {
	n := hookNote{Version: noteVersion, Ifindex: uint32(index), Program: uint32(program)}
	var err error
	if n.Cookie, err = netnsCookie(); err != nil {
		return n, err
	}
	n.Inode, err = netnsInode("/proc/thread-self/ns/net")
	return n, err
}

// netns finds the note's network namespace: that of the calling thread (nil), one with a name, or that of some process.
// ErrElsewhere means that it is none of these, or that this process may not enter it: it is gone, or held by an open file alone.
// done closes it.
func (n hookNote) netns() (ns *Netns, done func(), err error) {
	cookie, err := netnsCookie()
	if err != nil {
		return nil, nil, err
	}
	if cookie == n.Cookie {
		return nil, func() {}, nil
	}
	for _, pattern := range []string{"/run/netns/*", "/proc/[0-9]*/ns/net"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, nil, fmt.Errorf("look for network namespace: %w", err)
		}
		for _, path := range paths {
			if inode, err := netnsInode(path); err != nil || inode != n.Inode {
				continue // also a process that has ended meanwhile
			}
			ns, err := OpenNetns(path)
			if err != nil {
				continue
			}
			// An inode number can be given again, a cookie cannot.
			err = ns.Do(func() error {
				cookie, err = netnsCookie()
				return err
			})
			if err == nil && cookie == n.Cookie {
				return ns, func() { _ = ns.Close() }, nil
			}
			_ = ns.Close()
		}
	}
	return nil, nil, fmt.Errorf("find network namespace %d: %w", n.Inode, ErrElsewhere)
}

// netnsCookie returns the number that the kernel (from 5.14) gives to each network namespace of a boot.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for network namespace: %w", err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return 0, fmt.Errorf("ask for network namespace: %w", err)
	}
	return cookie, nil
}

func netnsInode(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("ask for network namespace: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("ask for network namespace: %s has no inode", path)
	}
	return st.Ino, nil
}
