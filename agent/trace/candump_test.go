// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestCandumpFrameGrammar takes its first part from the examples in lib.h of
// can-utils.
func TestCandumpFrameGrammar(t *testing.T) {
	eight := body(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88)
	three := body(0x11, 0x22, 0x33)
	tests := []struct {
		text string
		want Frame
		back string // canonical form, if it is another
	}{
		{"123#", Frame{ID: 0x123}, ""},
		{"12345678#", Frame{ID: 0x12345678, Extended: true}, ""},
		{"123#R", Frame{ID: 0x123, RTR: true}, ""},
		{"123#R0", Frame{ID: 0x123, RTR: true}, "123#R"},
		{"123#R7", Frame{ID: 0x123, RTR: true, Len: 7}, ""},
		{"123#R8_9", Frame{ID: 0x123, RTR: true, Len: 8, RawDLC: 9}, ""},
		{"7A1#r", Frame{ID: 0x7A1, RTR: true}, "7A1#R"},
		{"123#00", Frame{ID: 0x123, Len: 1}, ""},
		{"123#1122334455667788", Frame{ID: 0x123, Len: 8, Data: eight}, ""},
		{"123#1122334455667788_E", Frame{ID: 0x123, Len: 8, RawDLC: 14, Data: eight}, ""},
		{"123#11.22.33.44.55.66.77.88", Frame{ID: 0x123, Len: 8, Data: eight}, "123#1122334455667788"},
		{"123#11.2233.44556677.88", Frame{ID: 0x123, Len: 8, Data: eight}, "123#1122334455667788"},
		{"32345678#112233", Frame{ID: 0x12345678, Error: true, Len: 3, Data: three}, ""},
		{"123##0112233", Frame{ID: 0x123, FD: true, Len: 3, Data: three}, ""},
		{"123##1112233", Frame{ID: 0x123, FD: true, BRS: true, Len: 3, Data: three}, ""},
		{"123##2112233", Frame{ID: 0x123, FD: true, ESI: true, Len: 3, Data: three}, ""},
		{"123##3", Frame{ID: 0x123, FD: true, BRS: true, ESI: true}, ""},

		{"12345678#R5", Frame{ID: 0x12345678, Extended: true, RTR: true, Len: 5}, ""},
		{"000#", Frame{}, ""},
		{"7FF#", Frame{ID: 0x7FF}, ""},
		{"00000001#", Frame{ID: 1, Extended: true}, ""},
		{"1fffffff#aB", Frame{ID: 0x1FFFFFFF, Extended: true, Len: 1, Data: body(0xAB)}, "1FFFFFFF#AB"},
		{"20000080#0000000000000000", Frame{ID: 0x80, Error: true, Len: 8}, ""},
		{"3FFFFFFF#", Frame{ID: 0x1FFFFFFF, Error: true}, ""},
		{"123##5AA", Frame{ID: 0x123, FD: true, BRS: true, Len: 1, Data: body(0xAA)}, "123##1AA"},
		{"123##0.AA.BB", Frame{ID: 0x123, FD: true, Len: 2, Data: body(0xAA, 0xBB)}, "123##0AABB"},
		{"123##0" + strings.Repeat("5A", 64), Frame{ID: 0x123, FD: true, Len: 64, Data: body(bytes.Repeat([]byte{0x5A}, 64)...)}, ""},
	}
	for _, tt := range tests {
		var f Frame
		if err := parseCandumpFrame([]byte(tt.text), &f); err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if f != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.text, f, tt.want)
		}
		want := tt.back
		if want == "" {
			want = tt.text
		}
		if got := string(AppendCandumpFrame(nil, &f)); got != want {
			t.Errorf("%s: formatted as %s, want %s", tt.text, got, want)
		}
	}
}

func TestCandumpRefuses(t *testing.T) {
	tests := []struct{ line, want string }{
		{"x", "no (seconds.fraction)"},
		{"DROPCOUNT: dropped 3 CAN frames on 'can0' socket (total drops 3)", "no (seconds.fraction)"},
		{"(1.000000", "no (seconds.fraction)"},
		{"(1.000000)", "no interface"},
		{"(1) can0 123#", "time stamp"},
		{"(1.00000) can0 123#", "6 or 9 decimals"},
		{"(1.0000000) can0 123#", "6 or 9 decimals"},
		{"(1.0000000000) can0 123#", "6 or 9 decimals"},
		{"(-1.000000) can0 123#", "time stamp"},
		{"(.000000) can0 123#", "time stamp"},
		{"(1.00x000) can0 123#", "time stamp"},
		{"(9223372036.000000) can0 123#", "time stamp"},
		{"(99999999999999999999.000000) can0 123#", "time stamp"},
		{"(2024-01-01 10:00:00.000000) can0 123#", "no (seconds.fraction)"},
		{"(1.000000) can0", "no frame"},
		{"(1.000000) abcdefghijklmnop 123#", "not an interface name"},
		{"(1.000000) a/b 123#", "not an interface name"},
		{"(1.000000) can0 123", "no #"},
		{"(1.000000) can0 #", "0 digits"},
		{"(1.000000) can0 12#", "2 digits"},
		{"(1.000000) can0 1234#", "4 digits"},
		{"(1.000000) can0 1234567#", "7 digits"},
		{"(1.000000) can0 123456789#", "9 digits"},
		{"(1.000000) can0 12G#", "not hexadecimal"},
		{"(1.000000) can0 1234567G#", "not hexadecimal"},
		{"(1.000000) can0 800#", "exceeds 11 bits"},
		{"(1.000000) can0 40000000#", "exceeds 29 bits"},
		{"(1.000000) can0 80000123#", "exceeds 29 bits"},
		{"(1.000000) can0 123#1", "within a byte"},
		{"(1.000000) can0 123#112", "within a byte"},
		{"(1.000000) can0 123#11.", "within a byte"},
		{"(1.000000) can0 123#11..22", "not hexadecimal"},
		{"(1.000000) can0 123#1G", "not hexadecimal"},
		{"(1.000000) can0 123#112233445566778899", "more than 8 bytes"},
		{"(1.000000) can0 123#11_9", "without 8 bytes"},
		{"(1.000000) can0 123#1122334455667788_8", "not 9 to F"},
		{"(1.000000) can0 123#1122334455667788_", "not 9 to F"},
		{"(1.000000) can0 123#1122334455667788_99", "not 9 to F"},
		{"(1.000000) can0 20000080#0000000000000000_9", "without 8 bytes"},
		{"(1.000000) can0 123#R9", "not 0 to 8"},
		{"(1.000000) can0 123#RR", "not 0 to 8"},
		{"(1.000000) can0 123#R8_8", "not 9 to F"},
		{"(1.000000) can0 123#R7_9", "without 8 bytes"},
		{"(1.000000) can0 123#R12", "unexpected"},
		{"(1.000000) can0 20000080#R", "cannot be a remote"},
		{"(1.000000) can0 123##", "no fd flags"},
		{"(1.000000) can0 123##G", "no fd flags"},
		{"(1.000000) can0 123##8", "unknown fd flags"},
		{"(1.000000) can0 123##0" + strings.Repeat("00", 65), "more than 64 bytes"},
		{"(1.000000) can0 20000080##0", "cannot be a fd"},
		{"(1.000000) can0 123# X", "not R or T"},
		{"(1.000000) can0 123# RT", "not R or T"},
		{"(1.000000) can0 123# R R", "unexpected"},
		{"(1.000000) can0 123#\x00", "within a byte"},
	}
	for _, tt := range tests {
		r, err := NewReader("log", strings.NewReader("(0.000000) can0 001#\n"+tt.line+"\n(0.000000) can0 002#\n"), FormatCandump)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := readAll(r)
		if len(frames) != 1 || !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "log:2: ") {
			t.Errorf("%q: %d frames, error %v, want one that names %q", tt.line, len(frames), err, tt.want)
		}
	}
}

func TestCandumpXLIsUnsupported(t *testing.T) {
	r, err := NewReader("log", strings.NewReader("(1.000000) can0 45123#81:00:12345678#11223344.556677\n"), FormatAuto)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(r); !errors.Is(err, ErrUnsupported) {
		t.Fatalf("got %v", err)
	}
}

func TestCandumpFile(t *testing.T) {
	const s = int64(1700000000e9)
	want := []Frame{
		{Time: s + 1e3, Bus: "can0", ID: 0x123, Len: 8, Data: body(0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77)},
		{Time: s + 250e3, Bus: "can1", ID: 0x7FF},
		{Time: s + 251e3, Bus: "can0", ID: 0x1ABCDEF0, Extended: true, Len: 4, Data: body(0xDE, 0xAD, 0xBE, 0xEF), Dir: DirRx},
		{Time: s + 252e3, Bus: "can0", ID: 0x456, RTR: true, Dir: DirTx},
		{Time: s + 253e3, Bus: "can0", ID: 0x456, RTR: true, Len: 4},
		{Time: s + 254e3, Bus: "can0", ID: 0x456, RTR: true, Len: 8, RawDLC: 9, Dir: DirRx},
		{Time: s + 255e3, Bus: "vcan10", ID: 0x1FFFFFFF, Extended: true, FD: true},
		{Time: s + 256789, Bus: "vcan10", ID: 0x100, FD: true, BRS: true, ESI: true, Len: 12, Data: body(counting(1, 12)...)},
		{Time: s + 257e3, Bus: "can0", ID: 0x101, FD: true, BRS: true, Len: 64, Data: body(counting(1, 64)...)},
		{Time: s - 1e3, Bus: "can0", ID: 0x321, Len: 8, RawDLC: 14, Data: body(1, 2, 3, 4, 5, 6, 7, 8)},
		{Time: s + 300e3, Bus: "can0", ID: 4, Error: true, Len: 8, Data: body(0, 4)},
		{Bus: "slcan0", Len: 1, Data: body(0xFF)},
	}
	frames, r := readFile(t, "testdata/basic.candump.log")
	diffFrames(t, frames, want)
	if r.Format() != FormatCandump || r.Stats() != (Stats{Lines: 13, Frames: 12}) {
		t.Errorf("format %v, stats %+v", r.Format(), r.Stats())
	}
}

// TestCandumpRoundTrip: parse(format(f)) == f for every valid frame.
func TestCandumpRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := validFrame().Draw(rt, "frame")
		if err := f.Validate(); err != nil {
			rt.Fatal(err)
		}
		line := AppendCandump(nil, &f)
		r, err := NewReader("log", bytes.NewReader(append(line, '\n')), FormatCandump)
		if err != nil {
			rt.Fatal(err)
		}
		var got Frame
		if err := r.Next(&got); err != nil {
			rt.Fatal(err)
		}
		if got != f {
			rt.Fatalf("%s:\n got %+v\nwant %+v", line, got, f)
		}
	})
}

func TestAppendCandump(t *testing.T) {
	tests := []struct {
		frame Frame
		want  string
	}{
		{Frame{Bus: "vcan0", ID: 0x21A, Time: 166e9, Len: 2, Data: body(0xFE, 0x36)}, "(166.000000) vcan0 21A#FE36"},
		{Frame{Bus: "can0", ID: 1, Time: 1700000000_123456000, Dir: DirRx}, "(1700000000.123456) can0 001# R"},
		{Frame{Bus: "can0", ID: 1, Time: 1_000000001, Dir: DirTx}, "(1.000000001) can0 001# T"},
		{Frame{Bus: "can0", ID: 1, Time: 1_100000000}, "(1.100000) can0 001#"},
		{Frame{Bus: "can0", Time: -5}, "(0.000000) can0 000#"},
	}
	for _, tt := range tests {
		if got := string(AppendCandump(nil, &tt.frame)); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestAppendCandumpDoesNotAllocate(t *testing.T) {
	f := Frame{Time: 1700000000_123456789, Bus: "can0", ID: 0x123, FD: true, Len: 64, Dir: DirRx}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf = AppendCandump(buf[:0], &f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCandumpWriterRefusesInvalid(t *testing.T) {
	var out bytes.Buffer
	w := NewCandumpWriter(&out)
	if err := w.Write(&Frame{Bus: "can0", ID: 0x800}); !errors.Is(err, ErrInvalidFrame) {
		t.Errorf("got %v", err)
	}
	if err := w.Flush(); err != nil || out.Len() != 0 {
		t.Errorf("flush: %v, wrote %q", err, out.String())
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestCandumpWriterReportsErrors(t *testing.T) {
	full := errors.New("disk full")
	w := NewCandumpWriter(failingWriter{full})
	if err := w.Write(&Frame{Bus: "can0"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); !errors.Is(err, full) {
		t.Errorf("flush: %v", err)
	}
	if err := w.Write(&Frame{Bus: "can0"}); !errors.Is(err, full) {
		t.Errorf("write: %v", err)
	}
}
