// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The header of a record in a BPF ring buffer: u32 length and flags, u32 for the kernel
// (include/uapi/linux/bpf.h, kernel/bpf/ringbuf.c).
const (
	ringHeader  = 8
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
	ringLength  = ringDiscard - 1
)

// Errors of the ring reader.
var (
	ErrRingCorrupt = errors.New("ring buffer is corrupt")
	ErrUnreleased  = errors.New("ring has records that were not released")
)

// Ring reads a BPF ring buffer in place. Peek hands out views of records without giving their room back;
// Release gives back all that was handed out. The position is kept in the ring itself, which is pinned: a
// process that is killed between the two leaves the whole batch to its successor, in order, and nothing else.
//
// For one goroutine. A ring must have one reader at a time.
type Ring struct {
	// In the mapped pages. The kernel stores prod and record headers with release semantics and reads cons
	// with acquire; Go's atomics are at least that.
	cons *atomic.Uint64
	prod *atomic.Uint64
	data unsafe.Pointer // the data pages, mapped twice in a row, so that no record ever wraps
	mask uint64

	next     uint64 // where the next Peek reads
	released uint64 // what cons holds; nobody else writes it

	consMem, prodMem []byte
	fd               int
}

// NewRing maps the ring buffer m, which must stay open as long as the Ring. Reading begins where the last
// reader released.
func NewRing(m *ebpf.Map) (*Ring, error) {
	if m.Type() != ebpf.RingBuf {
		return nil, fmt.Errorf("map ring %s: it is no ring buffer but %s", m, m.Type())
	}
	page := os.Getpagesize()
	size := int(m.MaxEntries())
	cons, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map consumer page of ring %s: %w", m, err)
	}
	prod, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map data pages of ring %s: %w", m, err), unix.Munmap(cons))
	}
	r := &Ring{
		cons:    (*atomic.Uint64)(unsafe.Pointer(&cons[0])),
		prod:    (*atomic.Uint64)(unsafe.Pointer(&prod[0])),
		data:    unsafe.Pointer(&prod[page]),
		mask:    uint64(size - 1),
		consMem: cons, prodMem: prod, fd: m.FD(),
	}
	r.Resume()
	return r, nil
}

// Resume moves to where the last reader has released. A successor that opens the ring while its predecessor still reads calls it
// when the predecessor has stopped, before its first Peek: it would read again what was dealt with meanwhile, or what is gone.
func (r *Ring) Resume() {
	r.released = r.cons.Load()
	r.next = r.released
}

// Peek fills batch with the next records and returns how many there were. It does not wait, and it does not
// give room back: the next Peek goes on behind this batch, and all of it stays valid until Release. Records
// that the kernel has not finished end the batch, those that it has discarded are skipped.
func (r *Ring) Peek(batch []Record) (int, error) {
	var (
		prod = r.prod.Load()
		next = r.next
		held = r.Unreleased()
		n    = 0
	)
	for n < len(batch) && next != prod {
		// Acquire: the header is stored after the record is complete.
		header := atomic.LoadUint32((*uint32)(unsafe.Add(r.data, next&r.mask)))
		if header&ringBusy != 0 {
			break
		}
		size := uint64(header & ringLength)
		end := next + ringHeader + (size+7)&^7
		if end-next > prod-next {
			return n, fmt.Errorf("read ring at %d: %w: record of %d bytes, %d in the ring", next, ErrRingCorrupt, size, prod-next)
		}
		if header&ringDiscard == 0 {
			record := Record(unsafe.Slice((*byte)(unsafe.Add(r.data, next&r.mask+ringHeader)), size))
			if !record.wellFormed() {
				return n, fmt.Errorf("read ring at %d: %w: record of %d bytes is malformed", next, ErrRingCorrupt, size)
			}
			batch[n] = record
			n++
		}
		next = end
		r.next = next
	}
	if n == 0 && !held {
		r.Release() // what was skipped need not wait for a record behind it
	}
	return n, nil
}

// Release gives back the room of all records that Peek has returned. Their views must not be used any more.
//
// A plain store would be enough for the room; the sequentially consistent one that Go makes also keeps the
// next look at the ring behind it. The kernel completes a record and then looks whether the reader had come
// so far, to wake it; the reader stores how far it came and then looks for a complete record. One of the two
// sees the other, so no record waits for the one after it.
func (r *Ring) Release() {
	if r.released != r.next {
		r.released = r.next
		r.cons.Store(r.next)
	}
}

// skip goes behind all that the kernel has written, without looking at it.
func (r *Ring) skip() {
	r.next = r.prod.Load()
	r.Release()
}

// Unreleased reports whether Peek has gone further than Release.
func (r *Ring) Unreleased() bool { return r.next != r.released }

// Ready reports whether the next Peek would return, or skip, at least one record.
func (r *Ring) Ready() bool {
	if r.next == r.prod.Load() {
		return false
	}
	return atomic.LoadUint32((*uint32)(unsafe.Add(r.data, r.next&r.mask)))&ringBusy == 0
}

// Used returns how many bytes of the ring are taken, records not yet released included. Any goroutine may call it: it looks at what
// reader and kernel tell each other, at the reader's side first, so that it never shows less than nothing.
func (r *Ring) Used() uint64 {
	released := r.cons.Load()
	return r.prod.Load() - released
}

// Size returns the size of the ring in bytes.
func (r *Ring) Size() uint64 { return r.mask + 1 }

// close unmaps the ring.
func (r *Ring) close() error {
	if r == nil || r.consMem == nil {
		return nil
	}
	cons, prod := r.consMem, r.prodMem
	*r = Ring{fd: -1}
	return errors.Join(unix.Munmap(cons), unix.Munmap(prod))
}
