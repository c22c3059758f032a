// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// view reads the shared memory of one ring. It holds no state of its own but the checked geometry, so any number of
// goroutines may use it.
type view struct {
	geometry
	mem    []byte
	header *headerLayout
	slots  unsafe.Pointer
	latest unsafe.Pointer
	words  int // words that one copied sample takes
}

func newView(mem []byte) (*view, error) {
	g, err := parse(mem)
	if err != nil {
		return nil, err
	}
	base := unsafe.Pointer(unsafe.SliceData(mem))
	return &view{
		geometry: *g,
		mem:      mem,
		header:   (*headerLayout)(base),
		slots:    unsafe.Add(base, g.slotsOffset),
		latest:   unsafe.Add(base, g.latestOffset),
		words:    roundUp(slotHeadSize+g.bodyMax, 8) / 8,
	}, nil
}

// close ends the mapping.
func (v *view) close() { _ = unix.Munmap(v.mem) }

func (v *view) tail() uint64 { return atomic.LoadUint64(&v.header.Tail) }

// oldest returns the lowest position that no announced batch overwrites.
func (v *view) oldest() uint64 {
	intent := atomic.LoadUint64(&v.header.Intent)
	if intent < v.slotCount {
		return 0
	}
	return intent - v.slotCount
}

// read copies samples from position pos on into batch and buf, which must hold v.words words for each sample. It
// returns the position after what it consumed, how many of the consumed samples were overwritten before they could be
// read, and how many it delivered: next = pos + missed + n. n is 0 when there is nothing new, and also when the
// producer overtook every sample that was copied; then next differs from pos.
func (v *view) read(pos uint64, batch []Sample, buf []uint64) (n int, next, missed uint64, err error) {
	first, n, err := v.span(pos, len(batch))
	if err != nil {
		return 0, pos, 0, err
	}
	for i := range n {
		v.copySlot(first+uint64(i), buf[i*v.words:][:v.words])
	}
	torn := v.torn(first, n)
	next = first + uint64(torn)
	missed = next - pos
	for i := torn; i < n; i++ {
		if err := v.sample(next, buf[i*v.words:][:v.words], &batch[i-torn]); err != nil {
			return i - torn, next, missed, err
		}
		next++
	}
	return n - torn, next, missed, nil
}

// span returns which samples, at most limit of them, to copy for a reader at position pos: n from position first on.
// What lies between pos and first is already overwritten.
func (v *view) span(pos uint64, limit int) (first uint64, n int, err error) {
	tail := v.tail()
	if pos > tail {
		return pos, 0, damaged("tail", "%d went back below %d", tail, pos)
	}
	if pos == tail {
		return pos, 0, nil
	}
	first = max(pos, v.oldest())
	if first >= tail { // a whole turn of the ring since the tail was loaded
		return first, 0, nil
	}
	return first, int(min(tail-first, uint64(limit))), nil
}

// torn is the second look: it returns how many of n copied samples from position first on may have been overwritten
// during the copy. Positions are consecutive, so it is those at the front.
func (v *view) torn(first uint64, n int) int {
	oldest := v.oldest()
	if oldest <= first {
		return 0
	}
	return int(min(oldest-first, uint64(n)))
}

// copySlot copies the words of a slot that are in use. Each word is loaded atomically: besides the single-copy
// atomicity this gives the order (load-acquire) that the second look at the intent relies on.
func (v *view) copySlot(pos uint64, dst []uint64) {
	src := unsafe.Add(v.slots, uintptr(pos&(v.slotCount-1))*uintptr(v.slotSize))
	copyWords(dst, src, v.bodyMax)
}

func copyWords(dst []uint64, src unsafe.Pointer, bodyMax int) {
	for i := range slotHeadWords {
		dst[i] = atomic.LoadUint64((*uint64)(unsafe.Add(src, i*8)))
	}
	// The length may be torn: it is clamped here and checked after the second look.
	length := min(int((*slotLayout)(unsafe.Pointer(unsafe.SliceData(dst))).Length), bodyMax)
	words := slotHeadWords + (length+7)/8
	for i := slotHeadWords; i < words; i++ {
		dst[i] = atomic.LoadUint64((*uint64)(unsafe.Add(src, i*8)))
	}
}

// sample turns copied words into a sample whose body lies in those words.
func (v *view) sample(pos uint64, words []uint64, dst *Sample) error {
	s := (*slotLayout)(unsafe.Pointer(unsafe.SliceData(words)))
	if s.Marker != pos+1 || uint64(s.Stream) >= uint64(len(v.streams)) || int(s.Length) > v.bodyMax {
		return damaged(fmt.Sprintf("slots[%d]", pos&(v.slotCount-1)), "position %d has marker %d, stream %d, length %d",
			pos, s.Marker, s.Stream, s.Length)
	}
	// Field by field: a composite literal would be built aside and copied under a write barrier.
	dst.Stream = s.Stream
	dst.Epoch = s.Epoch
	dst.Counter = s.Counter
	dst.SourceTime = s.SourceTime
	dst.Flags = Flags(s.Flags)
	dst.ReceiveTime = s.ReceiveTime
	dst.PublishTime = s.PublishTime
	dst.Position = pos
	dst.Body = unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(s), slotHeadSize)), int(s.Length))
	return nil
}

// readLatest copies the newest sample of a stream into buf. It reports false when the stream has none, and
// ErrLatestBusy when the value changed during the copy.
func (v *view) readLatest(stream uint32, buf []uint64, dst *Sample) (bool, error) {
	e := (*latestLayout)(unsafe.Add(v.latest, uintptr(stream)*uintptr(v.latestSize)))
	marker := atomic.LoadUint64(&e.Slot.Marker)
	copyWords(buf, unsafe.Pointer(&e.Slot), v.bodyMax)
	if begin := atomic.LoadUint64(&e.Begin); begin != marker {
		return false, ErrLatestBusy
	}
	if marker == 0 {
		return false, nil
	}
	// The marker is loaded twice, here and with the words; begin equal to the first fixes the second.
	buf[0] = marker
	if err := v.sample(marker-1, buf, dst); err != nil {
		return false, err
	}
	if dst.Stream != stream {
		return false, damaged(fmt.Sprintf("latest[%d]", stream), "holds stream %d", dst.Stream)
	}
	return true, nil
}
