// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSignalRaw(t *testing.T) {
	body := []byte{0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0}
	for _, c := range []struct {
		signal   Signal
		raw      uint64
		physical float64
	}{
		{Signal{StartBit: 0, Length: 8, ByteOrder: LittleEndian, Scale: 1}, 0x12, 0x12},
		{Signal{StartBit: 0, Length: 16, ByteOrder: LittleEndian, Scale: 1}, 0x3412, 0x3412},
		{Signal{StartBit: 4, Length: 8, ByteOrder: LittleEndian, Scale: 0.5, Offset: 1}, 0x41, 33.5},
		{Signal{StartBit: 60, Length: 4, ByteOrder: LittleEndian, Signed: true, Scale: 1}, 0xF, -1},
		{Signal{StartBit: 0, Length: 64, ByteOrder: LittleEndian, Scale: 1}, 0xF0DEBC9A78563412, 0xF0DEBC9A78563412},
		{Signal{StartBit: 7, Length: 8, ByteOrder: BigEndian, Scale: 1}, 0x12, 0x12},
		{Signal{StartBit: 7, Length: 16, ByteOrder: BigEndian, Scale: 1}, 0x1234, 0x1234},
		{Signal{StartBit: 3, Length: 8, ByteOrder: BigEndian, Scale: 1}, 0x23, 0x23},
		{Signal{StartBit: 0, Length: 2, ByteOrder: BigEndian, Scale: 1}, 0, 0},
		{Signal{StartBit: 8, Length: 2, ByteOrder: BigEndian, Scale: 1}, 0, 0},
		{Signal{StartBit: 55, Length: 16, ByteOrder: BigEndian, Signed: true, Scale: -2, Offset: 1}, 0xDEF0, 16929},
		{Signal{StartBit: 7, Length: 64, ByteOrder: BigEndian, Scale: 1}, 0x123456789ABCDEF0, 0x123456789ABCDEF0},
	} {
		raw, ok := c.signal.Raw(body)
		physical, okPhysical := c.signal.Physical(body)
		if !ok || !okPhysical || raw != c.raw || physical != c.physical {
			t.Errorf("%+v: got %#x, %v; want %#x, %v", c.signal, raw, physical, c.raw, c.physical)
		}
	}
	for _, s := range []Signal{
		{StartBit: 57, Length: 8, ByteOrder: LittleEndian}, {StartBit: 64, Length: 1, ByteOrder: LittleEndian},
		{StartBit: 63, Length: 9, ByteOrder: BigEndian}, {StartBit: 71, Length: 1, ByteOrder: BigEndian}, {StartBit: -1, Length: 1}, {}, {Length: 65},
	} {
		if _, ok := s.Raw(body); ok {
			t.Errorf("%+v: read beyond the body", s)
		}
		if _, ok := s.Physical(body); ok {
			t.Errorf("%+v: read beyond the body", s)
		}
	}
}

// TestSignalRawAgainstPlacing sets exactly the bits of a signal, by counting through the body as the DBC format
// describes, and reads them back.
func TestSignalRawAgainstPlacing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 36, 36).Draw(t, "body")
		order := rapid.SampledFrom([]ByteOrder{LittleEndian, BigEndian}).Draw(t, "order")
		s := Signal{StartBit: rapid.IntRange(0, 287).Draw(t, "start"), Length: rapid.IntRange(1, 64).Draw(t, "length"), ByteOrder: order, Scale: 1}
		want := rapid.Uint64().Draw(t, "raw") >> (64 - s.Length)
		fits := true
		for i := range s.Length {
			at := s.StartBit + i // little-endian: upwards from the least significant bit
			bit := want >> i & 1
			if order == BigEndian {
				// From the most significant bit onwards, counted in the order in which bits are written down.
				written := s.StartBit/8*8 + 7 - s.StartBit%8 + i
				at = written/8*8 + 7 - written%8
				bit = want >> (s.Length - 1 - i) & 1
			}
			if at >= 8*len(body) {
				fits = false
				break
			}
			body[at/8] = body[at/8]&^(1<<(at%8)) | byte(bit)<<(at%8)
		}
		raw, ok := s.Raw(body)
		if ok != fits || ok && raw != want {
			t.Fatalf("%+v: got %#x, %v; want %#x, %v", s, raw, ok, want, fits)
		}
	})
}

// TestMultiplexedSignals decodes the real pack of the test data: 96 cell voltages and 32 temperatures behind one
// identifier, with signals built as documents describe them.
func TestMultiplexedSignals(t *testing.T) {
	log := filepath.Join("..", "..", "..", "shared", "data", "can", "tesla-model-s.candump.log")
	f, err := os.Open(log)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("../shared/data is absent")
	} else if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	stream := Stream{Signals: []Signal{{Name: "mux", Length: 8, ByteOrder: LittleEndian, Scale: 1}}}
	for mux := range uint32(32) {
		for i := range 4 {
			s := Signal{StartBit: 8 + 14*i, Length: 14, ByteOrder: LittleEndian, Multiplexor: &Multiplexor{Signal: "mux", Values: []uint32{mux}}}
			if mux < 24 {
				s.Name, s.Scale, s.Unit = fmt.Sprintf("cell_%d", int(mux)*4+i+1), 0.000305, "V"
			} else {
				s.Name, s.Scale, s.Signed, s.Unit = fmt.Sprintf("temperature_%d", int(mux-24)*4+i+1), 0.0122, true, "degC"
			}
			stream.Signals = append(stream.Signals, s)
		}
	}
	values := map[string]float64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, frame, ok := strings.Cut(lines.Text(), " 6F2#")
		if !ok {
			continue
		}
		body, err := hex.DecodeString(frame)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stream.Signals[1:] {
			if !stream.Present(s, body) {
				continue
			}
			values[s.Name], _ = s.Physical(body)
		}
	}
	sum, low, high, cold, warm, cells := 0.0, math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1), 0
	for name, v := range values {
		if strings.HasPrefix(name, "cell_") {
			sum, low, high, cells = sum+v, min(low, v), max(high, v), cells+1
		} else {
			cold, warm = min(cold, v), max(warm, v)
		}
	}
	if len(values) != 128 || cells != 96 {
		t.Fatalf("%d values, %d cells", len(values), cells)
	}
	got := fmt.Sprintf("%.4f V to %.4f V, sum %.2f V, %.1f to %.1f degC", low, high, sum, cold, warm)
	if want := "4.0013 V to 4.0059 V, sum 384.44 V, 21.9 to 23.0 degC"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPresent(t *testing.T) {
	s := Stream{Signals: []Signal{
		{Name: "mux", Length: 8, ByteOrder: LittleEndian},
		{Name: "page", StartBit: 8, Length: 8, ByteOrder: LittleEndian, Multiplexor: &Multiplexor{Signal: "mux", Values: []uint32{1, 2}}},
		{Name: "deep", StartBit: 16, Length: 8, ByteOrder: LittleEndian, Multiplexor: &Multiplexor{Signal: "page", Values: []uint32{7}}},
		{Name: "loop", StartBit: 16, Length: 8, ByteOrder: LittleEndian, Multiplexor: &Multiplexor{Signal: "loop", Values: []uint32{0}}},
		{Name: "lost", Length: 8, ByteOrder: LittleEndian, Multiplexor: &Multiplexor{Signal: "nowhere", Values: []uint32{0}}},
	}}
	for _, c := range []struct {
		name string
		body []byte
		want bool
	}{
		{"mux", []byte{0}, true}, {"mux", nil, false},
		{"page", []byte{1, 0}, true}, {"page", []byte{2, 0}, true}, {"page", []byte{3, 0}, false}, {"page", []byte{1}, false},
		{"deep", []byte{1, 7, 0}, true}, {"deep", []byte{1, 6, 0}, false}, {"deep", []byte{0, 7, 0}, false}, {"deep", []byte{1, 7}, false},
		{"loop", []byte{0, 0, 0}, false}, {"lost", []byte{0}, false},
	} {
		signal, ok := s.Signal(c.name)
		if !ok {
			t.Fatal(c.name)
		}
		if got := s.Present(signal, c.body); got != c.want {
			t.Errorf("%s in %x: %v", c.name, c.body, got)
		}
	}
}
