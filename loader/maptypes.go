// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// ErrNoTypes says that a map has no BTF, so that nobody knows what its values are made of.
var ErrNoTypes = errors.New("map has no type information")

// mapInfo is the front of struct bpf_map_info (include/uapi/linux/bpf.h), up to the ids that the library does not tell.
type mapInfo struct {
	typ, id, keySize, valueSize, maxEntries, flags uint32
	name                                           [16]byte
	ifindex, vmlinuxValueType                      uint32
	netnsDev, netnsInode                           uint64
	btf, btfKey, btfValue, _                       uint32
}

// mapTypes returns the types of a map's keys and values as the BTF says that the kernel holds for it, whoever has made it. Needs
// CAP_SYS_ADMIN.
func mapTypes(m *ebpf.Map) (key, value btf.Type, err error) {
	var info mapInfo
	attr := struct {
		fd, size uint32
		info     uint64
	}{uint32(m.FD()), uint32(unsafe.Sizeof(info)), uint64(uintptr(unsafe.Pointer(&info)))}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_OBJ_GET_INFO_BY_FD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(&info)
	if errno != 0 {
		return nil, nil, fmt.Errorf("ask for map: %w", errno)
	}
	if info.btf == 0 || info.btfValue == 0 {
		return nil, nil, ErrNoTypes
	}
	handle, err := btf.NewHandleFromID(btf.ID(info.btf))
	if err != nil {
		return nil, nil, fmt.Errorf("open types of map: %w", err)
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return nil, nil, fmt.Errorf("read types of map: %w", err)
	}
	if key, err = types.TypeByID(btf.TypeID(info.btfKey)); err != nil {
		return nil, nil, fmt.Errorf("read types of map: %w", err)
	}
	if value, err = types.TypeByID(btf.TypeID(info.btfValue)); err != nil {
		return nil, nil, fmt.Errorf("read types of map: %w", err)
	}
	for _, t := range []struct {
		t    btf.Type
		size uint32
	}{{key, m.KeySize()}, {value, m.ValueSize()}} {
		if n, err := btf.Sizeof(t.t); err != nil || n != int(t.size) {
			return nil, nil, fmt.Errorf("read types of map: %w: a type of %d bytes for %d", ErrNoTypes, n, t.size)
		}
	}
	return key, value, nil
}

// arrayBytes maps the values of an array into memory, or reads them where it cannot be mapped; stride is from one to the next. done gives
// the memory back.
func arrayBytes(m *ebpf.Map, write bool) (b []byte, stride int, done func(), err error) {
	size := int(m.ValueSize())
	stride = (size + 7) &^ 7
	if m.Flags()&bpfFMmapable != 0 {
		page, prot := os.Getpagesize(), unix.PROT_READ
		if write {
			prot |= unix.PROT_WRITE
		}
		n := stride * int(m.MaxEntries())
		mem, err := unix.Mmap(m.FD(), 0, (n+page-1)/page*page, prot, unix.MAP_SHARED)
		if err != nil {
			return nil, 0, nil, fmt.Errorf("map %s into memory: %w", m, err)
		}
		return mem[:n], stride, func() { _ = unix.Munmap(mem) }, nil
	}
	if write {
		return nil, 0, nil, fmt.Errorf("map %s into memory: not an mmapable array", m)
	}
	b = make([]byte, stride*int(m.MaxEntries()))
	for i := range m.MaxEntries() {
		v, err := m.LookupBytes(i)
		if err != nil {
			return nil, 0, nil, fmt.Errorf("read entry %d of map %s: %w", i, m, err)
		}
		copy(b[int(i)*stride:], v)
	}
	return b, stride, func() {}, nil
}
