// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// memRing plays the kernel's side of a ring buffer in plain memory.
type memRing struct {
	cons, prod atomic.Uint64
	data       []byte // twice the size: what is written to one half is written to the other
	size       uint64
}

func newMemRing(size int) (*memRing, *Ring) {
	k := &memRing{data: make([]byte, 2*size), size: uint64(size)}
	return k, &Ring{cons: &k.cons, prod: &k.prod, data: unsafe.Pointer(&k.data[0]), mask: uint64(size - 1), fd: -1}
}

func (k *memRing) put(pos uint64, b []byte) {
	for i, v := range b {
		at := (pos + uint64(i)) & (k.size - 1)
		k.data[at], k.data[at+k.size] = v, v
	}
}

func (k *memRing) setHeader(pos uint64, header uint32) {
	at := pos & (k.size - 1)
	for _, half := range []uint64{0, k.size} {
		atomic.StoreUint32((*uint32)(unsafe.Pointer(&k.data[at+half])), header)
	}
}

// reserve begins a record as the kernel does: busy, and prod moves at once.
func (k *memRing) reserve(payload []byte) (pos uint64, fits bool) {
	need := ringHeader + uint64(len(payload)+7)&^7
	pos = k.prod.Load()
	if pos+need-k.cons.Load() > k.size {
		return 0, false
	}
	k.setHeader(pos, uint32(len(payload))|ringBusy)
	k.put(pos+ringHeader, payload)
	k.prod.Store(pos + need)
	return pos, true
}

// commit ends a record, with flags.
func (k *memRing) commit(pos uint64, size int, flags uint32) { k.setHeader(pos, uint32(size)|flags) }

// record returns a well-formed record of n bytes that says which one it is.
func memRecord(number uint64, n int) []byte {
	b := make([]byte, n)
	binary.LittleEndian.PutUint64(b, number)
	binary.LittleEndian.PutUint16(b[16:], uint16(n-recordAAD))
	return b
}

// Against a model: whatever is reserved, committed, discarded, peeked and released in whatever order, records
// come once each, in order, unharmed, never before they are committed; and a reader that starts anew gets
// exactly what was not released.
func TestRingModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 4096
		type rec struct {
			pos    uint64
			number uint64
			size   int
			state  uint32 // ringBusy, 0 or ringDiscard
		}
		var (
			k, r     = newMemRing(size)
			ring     []rec // all that is not released
			peeked   int   // of them handed out or skipped
			number   uint64
			batch    [7]Record
			position = rapid.Uint64Range(0, 1<<62).Draw(t, "position") &^ 7
		)
		k.cons.Store(position)
		k.prod.Store(position)
		r.next, r.released = position, position
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				n := rapid.IntRange(recordAAD+headerLen, 400).Draw(t, "size")
				if pos, fits := k.reserve(memRecord(number, n)); fits {
					ring = append(ring, rec{pos, number, n, ringBusy})
					number++
				}
			},
			"commit": func(t *rapid.T) {
				for i := range ring {
					if ring[i].state == ringBusy && rapid.Bool().Draw(t, "this") {
						ring[i].state = rapid.SampledFrom([]uint32{0, 0, 0, ringDiscard}).Draw(t, "flags")
						k.commit(ring[i].pos, ring[i].size, ring[i].state)
					}
				}
			},
			"peek": func(t *rapid.T) {
				limit := rapid.IntRange(0, len(batch)).Draw(t, "limit")
				n := must[int](t)(r.Peek(batch[:limit]))
				got := batch[:n]
				for len(got) > 0 {
					if peeked == len(ring) || ring[peeked].state == ringBusy {
						t.Fatalf("peek returned a record that is not there yet")
					}
					want := ring[peeked]
					peeked++
					if want.state == ringDiscard {
						continue
					}
					if string(got[0]) != string(memRecord(want.number, want.size)) {
						t.Fatalf("record %x, want number %d with %d bytes", got[0], want.number, want.size)
					}
					got = got[1:]
				}
				if n < limit { // it must have stopped for a reason
					for peeked < len(ring) && ring[peeked].state == ringDiscard {
						peeked++
					}
					if peeked < len(ring) && ring[peeked].state != ringBusy {
						t.Fatalf("peek returned %d of %d records and left number %d", n, limit, ring[peeked].number)
					}
				}
			},
			"release": func(t *rapid.T) {
				r.Release()
				if k.cons.Load() != r.next {
					t.Fatalf("consumer position %d, want %d", k.cons.Load(), r.next)
				}
			},
			"restart": func(t *rapid.T) {
				_, fresh := newMemRing(size)
				fresh.cons, fresh.prod, fresh.data = r.cons, r.prod, r.data
				fresh.released = k.cons.Load()
				fresh.next = fresh.released
				r = fresh
			},
			"": func(t *rapid.T) {
				released := k.cons.Load()
				for len(ring) > 0 && ring[0].pos < released {
					ring = ring[1:]
				}
				peeked = 0
				for peeked < len(ring) && ring[peeked].pos < r.next {
					peeked++
				}
				ready := peeked < len(ring) && ring[peeked].state != ringBusy
				if r.Ready() != ready {
					t.Fatalf("ready: %v, want %v", r.Ready(), ready)
				}
				if r.Used() != k.prod.Load()-released || r.Unreleased() != (r.next != released) {
					t.Fatalf("used %d, unreleased %v", r.Used(), r.Unreleased())
				}
			},
		})
	})
}

func TestRingCorrupt(t *testing.T) {
	good := memRecord(1, 96)
	tests := []struct {
		name  string
		spoil func(k *memRing, pos uint64)
	}{
		{"length beyond the ring", func(k *memRing, pos uint64) { k.commit(pos, 1<<20, 0) }},
		{"length beyond the producer", func(k *memRing, pos uint64) { k.commit(pos, 97, 0) }},
		{"too short for a head", func(k *memRing, pos uint64) { k.commit(pos, 24, 0) }},
		{"SPDU longer than the record", func(k *memRing, pos uint64) { k.put(pos+ringHeader+16, []byte{65, 0}) }},
		{"SPDU without header", func(k *memRing, pos uint64) { k.put(pos+ringHeader+16, []byte{7, 0}) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, r := newMemRing(4096)
			for i := range 2 {
				pos, _ := k.reserve(good)
				k.commit(pos, len(good), 0)
				if i == 1 {
					tt.spoil(k, pos)
				}
			}
			var batch [4]Record
			n, err := r.Peek(batch[:])
			if n != 1 || !errors.Is(err, ErrRingCorrupt) {
				t.Errorf("Peek = %d, %v, want 1 and ErrRingCorrupt", n, err)
			}
		})
	}
}

// refusedRecord is struct cw_refused_frame with n bytes of a frame whose identifier is a number.
func refusedRecord(number uint32, n int, v Verdict) []byte {
	b := make([]byte, refusedFrameLen)
	binary.LittleEndian.PutUint16(b[16:], uint16(n))
	binary.LittleEndian.PutUint32(b[refusedFrameAt:], number)
	b[refusedFrameAt+4] = 64
	binary.LittleEndian.PutUint32(b[refusedVerdictAt:], uint32(v))
	return b
}

// What is no refused frame is left out, and a ring that cannot be read on is left behind: neither holds up what comes later.
func TestTakeRefused(t *testing.T) {
	k, r := newMemRing(4096)
	b := &Bus{name: "can0", refused: r}
	put := func(record []byte) (pos uint64) {
		pos, fits := k.reserve(record)
		if !fits {
			t.Fatal("full")
		}
		k.commit(pos, len(record), 0)
		return pos
	}
	took := func() (ids []uint32, err error) {
		all, err := b.TakeRefused(nil)
		for _, f := range all {
			ids = append(ids, f.Frame.ID)
			if want := map[bool]uint8{true: 64, false: 8}[f.Frame.Flags == CANFDFDF]; f.Frame.Len != want {
				t.Errorf("frame %+v", f.Frame)
			}
		}
		return ids, err
	}
	for turn := range uint32(20) { // around
		for i := range uint32(7) {
			put(refusedRecord(10*turn+i, []int{CANMTU, CANFDMTU}[i%2], PlaintextOnProtected+Verdict(i)))
		}
		put(refusedRecord(7, CANMTU, Passed))
		put(refusedRecord(7, CANMTU, RingFull))
		put(refusedRecord(7, 20, Replay))
		put(memRecord(7, 96))
		put(refusedRecord(10*turn+9, CANMTU, Replay))
		if ids, err := took(); err != nil || !slices.Equal(ids, []uint32{10 * turn, 10*turn + 1, 10*turn + 2, 10*turn + 3, 10*turn + 4, 10*turn + 5, 10*turn + 6, 10*turn + 9}) {
			t.Fatalf("turn %d: %v, %v", turn, ids, err)
		}
	}
	put(refusedRecord(1, CANMTU, Replay))
	k.commit(put(refusedRecord(2, CANMTU, Replay)), 1<<20, 0)
	put(refusedRecord(3, CANMTU, Replay))
	if _, err := took(); !errors.Is(err, ErrRingCorrupt) || !strings.Contains(err.Error(), "can0") {
		t.Errorf("error %v", err)
	}
	put(refusedRecord(4, CANMTU, Replay))
	if ids, err := took(); err != nil || !slices.Equal(ids, []uint32{4}) {
		t.Errorf("behind it: %v, %v", ids, err)
	}
}

// A Peek that only skips must not release the batch that is still in hand.
func TestRingKeepsBatchInHand(t *testing.T) {
	k, r := newMemRing(4096)
	put := func(flags uint32) {
		pos, _ := k.reserve(memRecord(1, 96))
		k.commit(pos, 96, flags)
	}
	var batch [4]Record
	put(0)
	if n := must[int](t)(r.Peek(batch[:])); n != 1 {
		t.Fatalf("%d records, want 1", n)
	}
	put(ringDiscard)
	if n := must[int](t)(r.Peek(batch[:])); n != 0 || k.cons.Load() != 0 {
		t.Errorf("%d records, consumer at %d with a batch in hand", n, k.cons.Load())
	}
	r.Release()
	put(ringDiscard)
	if n := must[int](t)(r.Peek(batch[:])); n != 0 || k.cons.Load() != k.prod.Load() {
		t.Errorf("%d records, consumer at %d, want all skipped and released", n, k.cons.Load())
	}
}

// On a real ring, filled by the filter: wrap, order, and the exact batch again after a restart.
func TestRingOnKernel(t *testing.T) {
	f := newTestFilter(t, 16384, 4096)
	fixture(t, f)
	next := uint64(10001)
	produce := func(n int) {
		for range n {
			h := header{version: 1, epoch: liveEpoch, counter: next}
			if v := f.judgeFD(t, fdFrame(idSample, 48, h)); v != Candidate {
				t.Fatalf("verdict %s", v)
			}
			next++
		}
	}
	counters := func(batch []Record) (c []uint64) {
		for _, r := range batch {
			c = append(c, binary.LittleEndian.Uint64(r.SPDU())>>16)
		}
		return c
	}
	expect := uint64(10001)
	check := func(batch []Record) {
		t.Helper()
		for _, c := range counters(batch) {
			if c != expect {
				t.Fatalf("counter %d, want %d", c, expect)
			}
			expect++
		}
	}

	r := f.candidates
	var batch [64]Record
	for range 50 { // 5,000 bytes a turn: the ring wraps many times
		produce(48)
		n := must[int](t)(r.Peek(batch[:32]))
		check(batch[:n])
		m := must[int](t)(r.Peek(batch[n:])) // a second batch before the first is released
		check(batch[n : n+m])
		if n != 32 || m != 16 {
			t.Fatalf("batches of %d and %d, want 32 and 16", n, m)
		}
		r.Release()
	}

	produce(40)
	n := must[int](t)(r.Peek(batch[:10]))
	check(batch[:n])
	r.Release()
	n = must[int](t)(r.Peek(batch[:20])) // this batch is never released
	lost := counters(batch[:n])

	again := must[*Ring](t)(NewRing(f.maps.Candidates))
	defer again.close()
	n = must[int](t)(again.Peek(batch[:]))
	if got := counters(batch[:n]); n != 30 || !slices.Equal(got[:20], lost) {
		t.Errorf("after restart %v, want %v first", got, lost)
	}
	check(batch[:n])
	again.Release()
	if again.Used() != 0 || again.Size() != 16384 {
		t.Errorf("%d of %d bytes used after all was released", again.Used(), again.Size())
	}
	if _, err := NewRing(f.maps.Windows); err == nil {
		t.Error("an array was taken for a ring")
	}
}

func TestRingAllocations(t *testing.T) {
	k, r := newMemRing(1 << 16)
	payload := memRecord(0, 96)
	p := &Poller{rings: []*Ring{r}}
	var batch [64]Record
	var sum uint64
	n := testing.AllocsPerRun(100, func() {
		for range 64 {
			pos, _ := k.reserve(payload)
			k.commit(pos, len(payload), 0)
		}
		ring, n, err := p.Peek(batch[:])
		if err != nil || n != 64 {
			t.Fatalf("Peek = %d, %v", n, err)
		}
		for _, rec := range batch[:n] {
			sum += rec.TimeNS() + uint64(rec.Slot()) + uint64(len(rec.Sealed()))
		}
		ring.Release()
	})
	if n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
}
