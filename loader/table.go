// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// table is an mmapable BPF array as a Go slice. T must have the layout of the map's values.
type table[T any] struct {
	mem     []byte
	entries []T
}

// bpfFMmapable is BPF_F_MMAPABLE of include/uapi/linux/bpf.h.
const bpfFMmapable = 1 << 10

// mapTable maps the values of m into memory. The mapping holds its own reference to the map.
func mapTable[T any](m *ebpf.Map) (*table[T], error) {
	var entry T
	if m.Type() != ebpf.Array || m.Flags()&bpfFMmapable == 0 {
		return nil, fmt.Errorf("map %s into memory: not an mmapable array", m)
	}
	// The kernel lays values out at multiples of 8 bytes.
	if size := unsafe.Sizeof(entry); size%8 != 0 || size != uintptr(m.ValueSize()) {
		return nil, fmt.Errorf("map %s into memory: entries have %d bytes, want %d", m, m.ValueSize(), size)
	}
	n := int(m.MaxEntries())
	page := os.Getpagesize()
	size := (n*int(unsafe.Sizeof(entry)) + page - 1) / page * page
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", m, err)
	}
	return &table[T]{mem: mem, entries: unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), n)}, nil
}

func (t *table[T]) close() error {
	if t == nil || t.mem == nil {
		return nil
	}
	mem := t.mem
	t.mem, t.entries = nil, nil
	if err := unix.Munmap(mem); err != nil {
		return fmt.Errorf("unmap table: %w", err)
	}
	return nil
}
