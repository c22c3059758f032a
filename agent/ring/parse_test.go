// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// aligned copies b to memory that is aligned as a mapping is.
func aligned(b []byte) []byte {
	words := make([]uint64, roundUp(len(b), 8)/8+1)
	out := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(b))
	copy(out, b)
	return out
}

// exampleRing returns the memory of a ring with signals and a few samples.
func exampleRing(t testing.TB) []byte {
	streams := testStreams(2)
	streams[1].Signals = []Signal{
		{Name: "mux", Length: 8},
		{Name: "U", Unit: "V", Start: 8, Length: 14, Factor: 0.000305, Multiplexor: "mux", MuxValue: 1},
	}
	p := newProducer(t, Config{Streams: streams, Slots: 4, BodyMax: 20})
	if err := p.Publish(stampedBatch(nil, 0, 6, 2, 20)); err != nil {
		t.Fatal(err)
	}
	return aligned(p.memory.bytes)
}

// resum makes the checksum right again, so that the check in front of it is what refuses.
func resum(mem []byte) {
	h := (*headerLayout)(unsafe.Pointer(unsafe.SliceData(mem)))
	h.Checksum = checksum(h, mem[h.StreamsOffset:][:int(h.StreamCount)*streamSize],
		mem[h.SignalsOffset:][:int(h.SignalCount)*signalSize], mem[h.StringsOffset:][:h.StringsLength])
}

func TestParseNamesTheField(t *testing.T) {
	good := exampleRing(t)
	if _, err := parse(good); err != nil {
		t.Fatal(err)
	}
	type header = headerLayout
	for _, c := range []struct {
		field  string
		change func(*header)
	}{
		{"magic", func(h *header) { h.Magic[7] ^= 1 }},
		{"endian_tag", func(h *header) { h.EndianTag = 0x04030201 }},
		{"state", func(h *header) { h.State = 0 }},
		{"state", func(h *header) { h.State = 3 }},
		{"header_length", func(h *header) { h.HeaderLength = 64 }},
		{"header_length", func(h *header) { h.HeaderLength = 0xffffffc0 }},
		{"header_length", func(h *header) { h.HeaderLength++ }},
		{"clock_id", func(h *header) { h.ClockID = 1 }},
		{"file_size", func(h *header) { h.FileSize++ }},
		{"file_size", func(h *header) { h.FileSize = 1<<64 - 1 }},
		{"heartbeat_period_ns", func(h *header) { h.HeartbeatPeriodNs = 0 }},
		{"heartbeat_period_ns", func(h *header) { h.HeartbeatPeriodNs = 1 << 63 }},
		{"body_max", func(h *header) { h.BodyMax = 1 << 16 }},
		{"slot_size", func(h *header) { h.SlotSize = 64 }},
		{"slot_size", func(h *header) { h.SlotSize = 0 }},
		{"slot_size", func(h *header) { h.SlotSize = 0xffffffc0 }},
		{"slot_count", func(h *header) { h.SlotCount = 0 }},
		{"slot_count", func(h *header) { h.SlotCount = 1 }},
		{"slot_count", func(h *header) { h.SlotCount = 5 }},
		{"slot_count", func(h *header) { h.SlotCount = 1 << 31 }},
		{"slots_offset", func(h *header) { h.SlotCount = 1 << 20 }},
		{"slots_offset", func(h *header) { h.SlotsOffset += 1 << 20 }},
		{"slots_offset", func(h *header) { h.SlotsOffset = 1<<64 - 64 }},
		{"slots_offset", func(h *header) { h.SlotsOffset++ }},
		{"slots_offset", func(h *header) { h.SlotsOffset = h.LatestOffset }},
		{"latest_size", func(h *header) { h.LatestSize *= 2 }},
		{"latest_offset", func(h *header) { h.LatestOffset = 0 }},
		{"stream_count", func(h *header) { h.StreamCount = 4097 }},
		{"streams_offset", func(h *header) { h.StreamCount = 4096 }},
		{"streams_offset", func(h *header) { h.StreamsOffset = 0 }},
		{"stream_size", func(h *header) { h.StreamSize = 64 }},
		{"signal_count", func(h *header) { h.SignalCount = 1 << 30 }},
		{"strings_offset", func(h *header) { h.SignalCount++ }},
		{"signals_offset", func(h *header) { h.SignalsOffset = h.StreamsOffset }},
		{"signal_size", func(h *header) { h.SignalSize = 0 }},
		{"strings_length", func(h *header) { h.StringsLength = 1 << 30 }},
		{"strings_offset", func(h *header) { h.StringsOffset = 1 << 62 }},
		{"checksum", func(h *header) { h.Checksum++ }},
		{"checksum", func(h *header) { h.Generation++ }},
		{"checksum", func(h *header) { h.CreatedNs++ }},
		{"intent", func(h *header) { h.Intent = h.Tail - 1 }},
		{"intent", func(h *header) { h.Intent = 1 << 63 }},
	} {
		mem := aligned(good)
		c.change((*header)(unsafe.Pointer(unsafe.SliceData(mem))))
		checkRefused(t, mem, c.field)
	}

	var h header
	copy(bytesOf(unsafe.Slice(&h, 1)), good)
	for _, c := range []struct {
		field  string
		change func([]streamLayout, []signalLayout)
	}{
		{"streams[0].name_offset", func(s []streamLayout, _ []signalLayout) { s[0].NameOffset = 1 << 31 }},
		{"streams[0].source_offset", func(s []streamLayout, _ []signalLayout) { s[0].SourceLength = 0xffffffff }},
		{"streams[1].interface_offset", func(s []streamLayout, _ []signalLayout) { s[1].InterfaceOffset = h.StringsLength }},
		{"streams[1].stream_id", func(s []streamLayout, _ []signalLayout) { s[1].StreamID = s[0].StreamID }},
		{"streams[0].stream_id", func(s []streamLayout, _ []signalLayout) { s[0].StreamID = 0 }},
		{"streams[1].name", func(s []streamLayout, _ []signalLayout) { s[1].NameOffset = s[0].NameOffset }},
		{"streams[0].first_signal", func(s []streamLayout, _ []signalLayout) { s[0].FirstSignal = 1 }},
		{"streams[1].signal_count", func(s []streamLayout, _ []signalLayout) { s[1].SignalCount = 0xffffffff }},
		{"signal_count", func(s []streamLayout, _ []signalLayout) { s[1].SignalCount = 1 }},
		{"streams[0].sensitivity", func(s []streamLayout, _ []signalLayout) { s[0].Sensitivity = 9 }},
		{"streams[0].period_ns", func(s []streamLayout, _ []signalLayout) { s[0].PeriodNs = 1 << 63 }},
		{"streams[0].can_id", func(s []streamLayout, _ []signalLayout) { s[0].CANID = 1 << 30 }},
		{"streams[1].schema_hash", func(s []streamLayout, _ []signalLayout) { s[1].SchemaHash[31]++ }},
		{"streams[1].schema_hash", func(_ []streamLayout, s []signalLayout) { s[1].Offset = 4 }},
		{"streams[1].signals[1].name_offset", func(_ []streamLayout, s []signalLayout) { s[1].NameLength = 1 << 30 }},
		{"streams[1].signals[1].unit_offset", func(_ []streamLayout, s []signalLayout) { s[1].UnitOffset = 1 << 30 }},
		{"streams[1].signals[1].start", func(_ []streamLayout, s []signalLayout) { s[1].Start = 20 * 8 }},
		{"streams[1].signals[1].length", func(_ []streamLayout, s []signalLayout) { s[1].Length = 65 }},
		{"streams[1].signals[0].byte_order", func(_ []streamLayout, s []signalLayout) { s[0].ByteOrder = 2 }},
		{"streams[1].signals[0].value_type", func(_ []streamLayout, s []signalLayout) { s[0].ValueType = 4 }},
		{"streams[1].signals[1].multiplexor", func(_ []streamLayout, s []signalLayout) { s[1].Multiplexor = 2 }},
		{"streams[1].signals[1].multiplexor", func(_ []streamLayout, s []signalLayout) { s[1].Multiplexor = 1 }},
		{"streams[1].signals[0].factor", func(_ []streamLayout, s []signalLayout) { s[0].Factor = 0 }},
	} {
		mem := aligned(good)
		c.change(
			unsafe.Slice((*streamLayout)(unsafe.Pointer(&mem[h.StreamsOffset])), h.StreamCount),
			unsafe.Slice((*signalLayout)(unsafe.Pointer(&mem[h.SignalsOffset])), h.SignalCount))
		resum(mem)
		checkRefused(t, mem, c.field)
	}

	for name, change := range map[string]func(*header){
		"major 2": func(h *header) { h.Major = 2 }, "major 0": func(h *header) { h.Major = 0 },
	} {
		mem := aligned(good)
		change((*header)(unsafe.Pointer(unsafe.SliceData(mem))))
		resum(mem)
		if _, err := parse(mem); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A later minor version is one that this reader may use.
	mem := aligned(good)
	(*header)(unsafe.Pointer(unsafe.SliceData(mem))).Minor = 7
	resum(mem)
	if g, err := parse(mem); err != nil || g.minor != 7 {
		t.Errorf("minor 7: %v", err)
	}
}

func checkRefused(t *testing.T, mem []byte, field string) {
	t.Helper()
	_, err := parse(mem)
	var l *LayoutError
	if !errors.As(err, &l) || !errors.Is(err, ErrLayout) || l.Field != field || !strings.Contains(err.Error(), field) {
		t.Errorf("%s: %v", field, err)
	}
}

// TestParseEveryByte: no change of a single byte in what is constant is accepted, whatever the field.
func TestParseEveryByte(t *testing.T) {
	good := exampleRing(t)
	var h headerLayout
	copy(bytesOf(unsafe.Slice(&h, 1)), good)
	check := func(at int) {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			mem := aligned(good)
			mem[at] ^= flip
			if _, err := parse(mem); err == nil {
				t.Errorf("byte %d changed by %#x: accepted", at, flip)
			}
		}
	}
	for at := range checksumStart + 4 {
		check(at)
	}
	for at := int(h.StreamsOffset); at < int(h.StreamsOffset)+int(h.StreamCount)*streamSize; at++ {
		check(at)
	}
	for at := int(h.SignalsOffset); at < int(h.SignalsOffset)+int(h.SignalCount)*signalSize; at++ {
		check(at)
	}
	for at := int(h.StringsOffset); at < int(h.StringsOffset)+int(h.StringsLength); at++ {
		check(at)
	}
}

func TestParseShort(t *testing.T) {
	good := exampleRing(t)
	for n := range len(good) {
		if _, err := parse(good[:n:n]); err == nil {
			t.Fatalf("%d of %d bytes: accepted", n, len(good))
		}
	}
}

// TestDamagedSlots: slots and hot words that no producer writes are reported, never followed.
func TestDamagedSlots(t *testing.T) {
	good := exampleRing(t)
	for name, change := range map[string]func(*slotLayout){
		"marker": func(s *slotLayout) { s.Marker++ },
		"stream": func(s *slotLayout) { s.Stream = 2 },
		"length": func(s *slotLayout) { s.Length = 21 },
	} {
		mem := aligned(good)
		v, err := newView(mem)
		if err != nil {
			t.Fatal(err)
		}
		change((*slotLayout)(unsafe.Add(v.slots, 0*v.slotSize))) // position 4
		batch, buf := make([]Sample, 8), make([]uint64, 8*v.words)
		n, next, missed, err := v.read(0, batch, buf)
		var l *LayoutError
		if n != 2 || next != 4 || missed != 2 || !errors.As(err, &l) || l.Field != "slots[0]" {
			t.Errorf("%s: %d, %d, %d, %v", name, n, next, missed, err)
		}
		latest := (*latestLayout)(unsafe.Pointer(&mem[v.latestOffset]))
		latest.Begin = latest.Slot.Marker
		change(&latest.Slot)
		if name == "marker" {
			continue // a marker that differs from begin means being written
		}
		if _, err := v.readLatest(0, buf, &batch[0]); !errors.Is(err, ErrLayout) {
			t.Errorf("%s of a latest value: %v", name, err)
		}
	}
	v, err := newView(aligned(good))
	if err != nil {
		t.Fatal(err)
	}
	v.header.Tail = 1
	if _, _, _, err := v.read(2, make([]Sample, 1), make([]uint64, v.words)); !errors.Is(err, ErrLayout) {
		t.Errorf("tail that went back: %v", err)
	}
	copy(unsafe.Slice((*byte)(unsafe.Add(v.latest, v.latestSize)), v.latestSize), unsafe.Slice((*byte)(v.latest), v.latestSize))
	var s Sample
	if _, err := v.readLatest(1, make([]uint64, v.words), &s); err == nil {
		t.Error("latest value of another stream accepted")
	}
}

// FuzzAttach gives a reader any memory at all: it refuses it, or reads within its bounds without a fault.
func FuzzAttach(f *testing.F) {
	good := exampleRing(f)
	f.Add(good, false)
	f.Add(good, true)
	f.Add(bytes.Repeat([]byte{0xff}, headerSize), false)
	f.Add([]byte(Magic), false)
	// Bounds that are a little off, with a checksum that is right.
	for _, at := range []int{52, 60, 64, 72, 76, 80, 88, 92, 96, 104, 108, 112, 120, 124, 128, 512, 640} {
		mem := aligned(good)
		binary.NativeEndian.PutUint32(mem[at:], binary.NativeEndian.Uint32(mem[at:])+64)
		f.Add([]byte(mem), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, sum bool) {
		mem := aligned(data)
		if sum && len(mem) >= headerSize {
			h := (*headerLayout)(unsafe.Pointer(unsafe.SliceData(mem)))
			inside := func(offset uint64, length int) bool {
				return offset <= uint64(len(mem)) && uint64(length) <= uint64(len(mem))-offset
			}
			if inside(h.StreamsOffset, int(h.StreamCount)*streamSize) && inside(h.SignalsOffset, int(h.SignalCount)*signalSize) &&
				inside(h.StringsOffset, int(h.StringsLength)) {
				resum(mem)
			}
		}
		v, err := newView(mem)
		if err != nil {
			var l *LayoutError
			if !errors.Is(err, ErrVersion) && (!errors.As(err, &l) || l.Field == "") {
				t.Fatalf("error without a field: %v", err)
			}
			return
		}
		batch := make([]Sample, 16)
		buf := make([]uint64, len(batch)*v.words)
		pos := v.oldest()
		for range 64 {
			n, next, missed, err := v.read(pos, batch, buf)
			if err != nil {
				break
			}
			if next != pos+missed+uint64(n) {
				t.Fatalf("from %d: %d samples, %d missed, next %d", pos, n, missed, next)
			}
			for i := range batch[:n] {
				s := &batch[i]
				d, err := NewDecoder(&v.streams[s.Stream])
				if err != nil {
					t.Fatalf("stream %d was accepted and cannot be decoded: %v", s.Stream, err)
				}
				d.Append(nil, s.Body)
			}
			if pos = next; n == 0 {
				break
			}
		}
		for i := range v.streams {
			_, _ = v.readLatest(uint32(i), buf, &batch[0])
		}
	})
}

// TestLayoutErrorText: the place comes with the reason.
func TestLayoutErrorText(t *testing.T) {
	err := fmt.Errorf("open: %w", damaged("slot_count", "%d", 5))
	if got, want := err.Error(), "open: damaged ring: slot_count: 5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
