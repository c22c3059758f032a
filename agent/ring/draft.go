// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Slot is where a sample is written. Stream, Epoch, Counter and ReceiveTime are the writer's to set, the rest by Stamp, Describe
// and PutBody: all of it, since the slot still holds an older sample.
type Slot = slotLayout

// BodyRoom is the front of a buffer with a body of up to 36 bytes in it.
type BodyRoom [40]byte

// Describe sets source time, flags and length of the body, in one store.
func (s *slotLayout) Describe(sourceTime uint32, flags Flags, length int) {
	all := uint64(sourceTime) | uint64(uint16(flags))<<32 | uint64(length)<<48
	s.SourceTime, s.Flags, s.Length = uint32(all), uint16(all>>32), uint16(all>>48)
}

// PutBody sets the body to the first n bytes of from, at most 36 and at most as many as the ring was made for. It writes whole
// words, for which a slot always has room: a call of copy takes longer than all the rest of the slot.
func (s *slotLayout) PutBody(from *BodyRoom, n int) {
	to, words := unsafe.Add(unsafe.Pointer(s), slotHeadSize), unsafe.Pointer(from)
	if n == 8 { // what classic CAN carries
		*(*uint64)(to) = *(*uint64)(words)
		return
	}
	for ; n >= 8; n -= 8 {
		*(*uint64)(to) = *(*uint64)(words)
		to, words = unsafe.Add(to, 8), unsafe.Add(words, 8)
	}
	if n > 0 {
		last := binary.LittleEndian.Uint64((*[8]byte)(words)[:]) & (1<<(8*n&63) - 1)
		binary.LittleEndian.PutUint64((*[8]byte)(to)[:], last)
	}
}

func (s *slotLayout) copyBody(from []byte) {
	s.Length = uint16(len(from))
	copy(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(s), slotHeadSize)), len(from)), from)
}

// Body is the body that the slot has.
func (s *slotLayout) Body() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(s), slotHeadSize)), s.Length)
}

// Draft is room in the ring for the samples of one batch, written where readers will find them and shown to nobody before
// [Producer.End].
type Draft struct {
	slots unsafe.Pointer
	end   unsafe.Pointer // behind the last slot of the ring
	size  uintptr
	mask  uint64
	first uint64 // position
	now   int64
}

// NewDraft returns room for n samples, a power of two, with bodies of up to bodyMax bytes, in memory of its own: for whoever
// takes samples without a ring.
func NewDraft(n, bodyMax int) Draft {
	size := slotSizeFor(bodyMax)
	slots := unsafe.Pointer(unsafe.SliceData(make([]uint64, (n+1)*size/8)))
	return Draft{slots: slots, end: unsafe.Add(slots, n*size), size: uintptr(size), mask: uint64(n - 1)}
}

// Open says that End has not been called yet.
func (d *Draft) Open() bool { return d.slots != nil }

// At returns the place of sample i, counted from the first of the batch. They must be filled in this order without a gap, each
// with Stamp.
func (d *Draft) At(i int) *Slot { return d.at(d.first + uint64(i)) }

// After returns the place behind another.
func (d *Draft) After(s *Slot) *Slot {
	if next := unsafe.Add(unsafe.Pointer(s), d.size); next != d.end {
		return (*slotLayout)(next)
	}
	return (*slotLayout)(d.slots)
}

// Stamp writes into the place of sample i which one it is, and when it is published.
func (d *Draft) Stamp(s *Slot, i int) {
	s.Marker, s.PublishTime = d.first+uint64(i)+1, d.now
}

// Sample reads back what sample i was filled with.
func (d *Draft) Sample(i int) Sample {
	s := d.at(d.first + uint64(i))
	return Sample{
		Stream: s.Stream, Epoch: s.Epoch, Counter: s.Counter, SourceTime: s.SourceTime, Flags: Flags(s.Flags), ReceiveTime: s.ReceiveTime,
		Body: s.Body(),
	}
}

func (d *Draft) at(position uint64) *slotLayout {
	return (*slotLayout)(unsafe.Add(d.slots, uintptr(position&d.mask)*d.size))
}

// Span is where samples go that lie one behind another: N places, Stride bytes apart from First on. The marker of the first sample is
// Marker, and one more with each that follows; PublishTime is the same for all.
type Span struct {
	First       *Slot
	Stride      uintptr
	N           int
	Marker      uint64
	PublishTime int64
}

// Span returns the places of samples i to i+n-1, or of as many of them as there are before the end of the ring.
func (d *Draft) Span(i, n int) Span {
	position := d.first + uint64(i)
	return Span{
		First: d.at(position), Stride: d.size, N: int(min(uint64(n), d.mask+1-position&d.mask)),
		Marker: position + 1, PublishTime: d.now,
	}
}

// Ahead is how far in front of a place the one lies that FetchAhead asks for, in bytes.
func (s *Span) Ahead() uintptr { return s.Stride * aheadMost }

// At returns the i-th place.
func (s *Span) At(i int) *Slot {
	return (*slotLayout)(unsafe.Add(unsafe.Pointer(s.First), uintptr(i)*s.Stride))
}

// FetchAhead asks for the places of the next batch, as far as they lie in one piece, while the caller is busy: a ring does not fit
// into the caches near the processor, and every slot has last been touched a turn of the ring ago.
func (d *Draft) FetchAhead() {
	position := d.first + aheadMost
	n := min(d.mask+1-position&d.mask, aheadMost)
	prefetch(unsafe.Pointer(d.at(position)), d.size, int(n))
}

// put fills sample i.
func (d *Draft) put(i int, x *Sample) {
	s := d.At(i)
	d.Stamp(s, i)
	s.Stream, s.Epoch, s.Counter, s.SourceTime = x.Stream, x.Epoch, x.Counter, x.SourceTime
	s.Flags, s.ReceiveTime = uint16(x.Flags), x.ReceiveTime
	s.copyBody(x.Body)
}

// most is how many samples are written at a time at most: with half the ring in flight a reader always has the other half to
// read from.
func (p *Producer) most() int { return int(p.slotCount / 2) }

// Begin makes room for up to n samples, at most half the ring, and announces to readers that so many slots are about to be
// overwritten. Received is when the latest of them was. End must follow, and no other method that writes samples, nor Finish
// and Close, goes on before it has.
func (p *Producer) Begin(n int, received int64) (Draft, error) {
	p.drafting.Lock()
	if p.base == nil || p.finished {
		p.drafting.Unlock()
		return Draft{}, fmt.Errorf("publish: %w", ErrClosed)
	}
	if n > p.most() {
		p.drafting.Unlock()
		return Draft{}, fmt.Errorf("publish %d samples: at most %d in a ring of %d", n, p.most(), p.slotCount)
	}
	return p.announce(n, received), nil
}

// End publishes the first n samples of a draft, which is no room any more then. newest says which of them are the newest of
// their streams: one for each stream that the draft has a sample of. On return every reader that looks sees the samples and
// no crash of this process takes them back; one that waits does so until Wake. It cannot fail, and its error is always nil.
func (p *Producer) End(d *Draft, n int, newest []uint32) error {
	p.commit(d, n, newest)
	*d = Draft{}
	p.drafting.Unlock()
	return nil
}

// Restamp gives the first n samples a new time of publication, for a writer that had to wait for something in between.
func (p *Producer) Restamp(d *Draft, n int) {
	d.now = p.clock.Now()
	for i := range n {
		d.at(d.first + uint64(i)).PublishTime = d.now
	}
}

// The order of stores, on which every reader relies:
//
//	announce  intent           storeBetween
//	draft     slots            plain stores
//	commit    latest[].begin   plain stores
//	          intent           storeBetween
//	          latest[]         plain stores
//	          tail             storeBetween
//	          latest[].marker  plain stores
//
// storeBetween is an atomic store (release) and an atomic load (acquire) whose value is not used. Go's atomic store is a
// store-release and its atomic load a load-acquire. A release store holds back what comes before it but not what comes after,
// so alone it would let the plain stores of the draft run ahead of the intent. On arm64 these operations are STLR and LDAR: an
// STLR is ordered before a later LDAR (RCsc), an LDAR before everything after it. The load after the store is therefore what
// makes it a barrier to both sides; LDAR is never elided by the compiler because it is part of the chain of memory operations.
// On amd64 it is a plain store: the processor keeps stores in order, and the compiler keeps those to memory, for the same
// reason.
//
// A ring reader loads tail, then the slot, then intent, each with acquire. If any word of the slot came from a later turn of the
// ring, an intent that covers that turn was stored before it, and every intent since covers it too: the reader's later load
// sees one of them, finds position + slots < intent, and counts a miss. If it sees tail above the position, everything that the
// draft stored before is seen.
//
// The first intent may cover more than is published in the end; the second is exact. That intent goes back takes nothing from a
// reader: what lies above the new one was not written.
//
// A latest-value reader loads marker, then the value, then begin. If any word came from a newer sample, that sample's begin was
// stored before it and is seen: begin differs from marker. One barrier serves the whole batch, which is what a sequence lock
// for each stream would otherwise cost twice per sample.
//
// After a kill at any point the tail is as it was before the batch or after it: nothing of an unfinished batch counts as
// published.

// announce declares which slots are about to be overwritten.
func (p *Producer) announce(n int, received int64) Draft {
	storeBetween(&p.header.Intent, p.tail+uint64(n))
	return Draft{slots: p.slots, end: unsafe.Add(p.slots, p.slotSize*uintptr(p.slotCount)), size: p.slotSize, mask: p.slotCount - 1, first: p.tail, now: p.clock.NowAfter(received)}
}

// commit publishes n samples of a draft.
func (p *Producer) commit(d *Draft, n int, newest []uint32) {
	tail := p.tail + uint64(n)
	places := p.places[:len(newest)]
	p.fillLatest(d, tail, newest, places)
	storeBetween(&p.header.Tail, tail)
	showLatest(p.latest, places)
	storeBetween(&p.tail, tail)
	if n > 0 { // behind the tail: whoever takes it has that to tell
		storeBetween(&p.news, 1)
	}
	if d.now-p.beat.Load() > p.beatEvery {
		p.mu.Lock()
		p.setHeartbeat(d.now)
		p.mu.Unlock()
	}
}

// place is where a latest value stands, in bytes from the first of them. On a 32-bit machine it has room to spare.
type place uint64

func (x place) value(latest unsafe.Pointer) *latestLayout {
	return (*latestLayout)(unsafe.Add(latest, uintptr(x)))
}

// findNewest finds the last sample of each stream in the part. It stores to private memory only.
func (p *Producer) findNewest(part []Sample) []uint32 {
	p.lasts = p.lasts[:0]
	for i := len(part) - 1; i >= 0; i-- {
		// What a stream has from earlier parts lies at or below the tail.
		if newest := &p.newest[part[i].Stream]; *newest <= p.tail {
			*newest = p.tail + uint64(i) + 1
			p.lasts = append(p.lasts, uint32(i))
		}
	}
	return p.lasts
}
