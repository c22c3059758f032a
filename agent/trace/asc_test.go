// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"strings"
	"testing"
)

func TestASCFile(t *testing.T) {
	want := []Frame{
		{Time: 2500e3, Bus: "can0", ID: 0x12A, Len: 8, Dir: DirRx, Data: body(0x01, 0x02, 0x03, 0x04, 0xA5, 0xB6, 0xC7, 0xD8)},
		{Time: 2600e3, Bus: "can1", ID: 0x1BCDEF01, Extended: true, Len: 3, Dir: DirTx, Data: body(0x0A, 0x0B, 0x0C)},
		{Time: 2800e3, Bus: "can0", ID: 0x3FF, Len: 8, RawDLC: 13, Dir: DirTx, Data: body(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88)},
		{Time: 3000e3, Bus: "can0", ID: 0x200, RTR: true, Dir: DirRx},
		{Time: 3100e3, Bus: "can0", ID: 0x201, RTR: true, Len: 4, Dir: DirRx},
		{Time: 3200e3, Bus: "can0", ID: 0x202, Extended: true, RTR: true, Dir: DirTx},
		{Time: 4000e3, Bus: "can1", Error: true, ID: 0x80, Len: 8},
		{Time: 1000100e3, Bus: "can0", ID: 0x301, FD: true, BRS: true, Len: 12, Dir: DirRx, Data: body(counting(0, 12)...)},
		{Time: 1000200e3, Bus: "can1", ID: 0x1ABCDE02, Extended: true, FD: true, BRS: true, ESI: true, Len: 64, Dir: DirTx, Data: body(counting(0, 64)...)},
		{Time: 1000300e3, Bus: "can0", ID: 0x302, Len: 5, Dir: DirRx, Data: body(1, 2, 3, 4, 5)},
		{Time: 1000400e3, Bus: "can0", ID: 0x50006, Extended: true, RTR: true, Len: 6, Dir: DirTx},
		{Time: 1000500e3, Bus: "can0", Error: true, ID: 0x80, Len: 8, Dir: DirRx},
	}
	frames, r := readFile(t, "testdata/basic.asc")
	diffFrames(t, frames, want)
	// Events: start of measurement, chip status, TxRq, statistics.
	if r.Format() != FormatASC || r.Stats() != (Stats{Lines: 22, Frames: 12, Events: 4}) {
		t.Errorf("format %v, stats %+v", r.Format(), r.Stats())
	}
}

func TestASCDecimalRelative(t *testing.T) {
	want := []Frame{
		{Time: 10e6, Bus: "canX", ID: 291, Len: 3, Dir: DirRx, Data: body(1, 20, 255)},
		// 5 ms of the statistics line count too.
		{Time: 20e6, Bus: "can0", ID: 305419896, Extended: true, Len: 8, RawDLC: 12, Dir: DirTx, Data: body(1, 2, 3, 4, 5, 6, 7, 8)},
		{Time: 20e6, Bus: "can0", ID: 291, RTR: true, Len: 8, Dir: DirRx},
	}
	frames, r := readFile(t, "testdata/dec-relative.asc")
	diffFrames(t, frames, want)
	if r.Stats() != (Stats{Lines: 6, Frames: 3, Events: 1}) {
		t.Errorf("stats %+v", r.Stats())
	}
}

func TestASCRefuses(t *testing.T) {
	const fdEnd = " 1000 100 1000 0 0 0 0 0"
	tests := []struct{ line, want string }{
		{"hello", "neither a header nor a timed line"},
		{"internal events", "neither a header"},
		{"base oct timestamps absolute", "not hex or dec"},
		{"base", "not hex or dec"},
		{"base hex timestamps sometimes", "absolute or relative"},
		{"base hex absolute", "absolute or relative"},
		{"1", "time stamp"},
		{"1.", "time stamp"},
		{"1.0000000001 1 123 Rx d 0", "time stamp"},
		{"1,5 1 123 Rx d 0", "time stamp"},
		{"9999999999999.0 1 123 Rx d 0", "time stamp"},
		{"1.5", "nothing behind the time stamp"},
		{"1.5 -1 123 Rx d 0", "channel"},
		{"1.5 256 123 Rx d 0", "channel"},
		{"1.5 1", "nothing behind the channel"},
		{"1.5 1 123", "direction"},
		{"1.5 1 123 R", "direction"},
		{"1.5 1 123 Up d 0", "direction"},
		{"1.5 1 $%& Rx d 0", "identifier"},
		{"1.5 1 $%&", "identifier"},
		{"1.5 1 EngineData Rx d 0", "identifier"},
		{"1.5 1 x Rx d 0", "identifier"},
		{"1.5 1 800 Rx d 0", "exceeds 11 bits"},
		{"1.5 1 20000000x Rx d 0", "exceeds 29 bits"},
		{"1.5 1 123456789x Rx d 0", "identifier"},
		{"1.5 1 123 Rx", "not d or r"},
		{"1.5 1 123 Rx q 0", "not d or r"},
		{"1.5 1 123 Rx d", "data length code"},
		{"1.5 1 123 Rx d 40 00 01", "data length code"},
		{"1.5 1 123 Rx d G", "data length code"},
		{"1.5 1 123 Rx d 2 00", "1 of 2 bytes"},
		{"1.5 1 123 Rx d 2 00 100", "data byte"},
		{"1.5 1 123 Rx d 2 00 Length = 5", "data byte"},
		{"1.5 1 123 Rx d 2 00 01 02", "unexpected"},
		{"1.5 1 123 Rx d 2 00 01 = 5", "unexpected"},
		{"1.5 1 123 Rx r G", "data length code"},
		{"1.5 1 123 Rx r 2 00", "unexpected"},
		{"1.5 1 123 TxRq d 2 00", "1 of 2 bytes"},
		{"1.5 CANFD", "channel"},
		{"1.5 CANFD 1", "direction"},
		{"1.5 CANFD 1 Rx", "identifier"},
		{"1.5 CANFD 1 Rx 123", "brs, esi"},
		{"1.5 CANFD 1 Rx 123 2 0 1 1 00" + fdEnd, "brs, esi"},
		{"1.5 CANFD 1 Rx 123 0 0 10 1 00" + fdEnd, "brs, esi"},
		{"1.5 CANFD 1 Rx 123 0 0 f 65 00" + fdEnd, "brs, esi"},
		{"1.5 CANFD 1 Rx 123 0 0 2 2 00", "1 of 2 bytes"},
		{"1.5 CANFD 1 Rx 123 0 0 2 2 00 0G" + fdEnd, "data byte"},
		{"1.5 CANFD 1 Rx 123 0 0 2 2 00 01", "no flags"},
		{"1.5 CANFD 1 Rx 123 0 0 2 2 00 01 1000 100", "no flags"},
		{"1.5 CANFD 1 Rx 123 0 0 9 9 00 01 02 03 04 05 06 07 08" + fdEnd, "under data length code"},
		{"1.5 CANFD 1 Rx 123 0 0 9 9 00 01 02 03 04 05 06 07 08 1000 100 0", "under data length code"},
		{"1.5 CANFD 1 Rx 123 0 0 9 8 00 01 02 03 04 05 06 07" + fdEnd, "under data length code"},
		{"1.5 CANFD 1 Rx 123 1 0 1 0 1000 100 10 0 0 0 0 0", "remote frame with marks"},
		{"1.5 CANFD 1 Rx 123 0 0 1 0 1000 100 1010 0 0 0 0 0", "remote frame with marks"},
		{"1.5 CANFD 1 Rx 123 0 0 2 2 00 01 1000 100 10", "under data length code"},
	}
	for _, tt := range tests {
		text := "date Mon Mar 4 10:11:12 2024\nbase hex timestamps absolute\n0.5 1 001 Rx d 0\n" + tt.line + "\n"
		r, err := NewReader("log", strings.NewReader(text), FormatAuto)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := readAll(r)
		if len(frames) != 1 || !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "log:4: ") {
			t.Errorf("%q: %d frames, error %v, want one that names %q", tt.line, len(frames), err, tt.want)
		}
	}
}

func TestASCHeaderRules(t *testing.T) {
	tests := []struct {
		name, text string
		want       error
	}{
		{"no base line", "date x\n1.5 1 123 Rx d 0\n", ErrSyntax},
		{"relative overflow", "base hex timestamps relative\n9223372035.0 1 1 Rx d 0\n9223372035.0 1 1 Rx d 0\n", ErrSyntax},
		{"can xl", "base hex timestamps absolute\n1.5 CANXL 2 Rx XLFF 984438 4656 432\n", ErrUnsupported},
		{"base line without time stamps", "base hex\n1.5 1 123 Rx d 0\n", nil},
		{"german base", "base dez timestamps absolute\n1.5 1 123 Rx d 0\n", nil},
		{"any case", "Base HEX Timestamps Absolute\n1.5 1 123 RX D 0\nEND TRIGGERBLOCK", nil},
		{"comment first", "// made by hand\nbase hex timestamps absolute\n1.5 1 123 Rx d 0\n", nil},
	}
	for _, tt := range tests {
		r, err := NewReader("log", strings.NewReader(tt.text), FormatAuto)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		frames, err := readAll(r)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if tt.want == nil && len(frames) != 1 {
			t.Errorf("%s: %d frames", tt.name, len(frames))
		}
	}
}

// TestASCFDWithoutFlag: what only CAN FD can have makes a frame one.
func TestASCFDWithoutFlag(t *testing.T) {
	frames := readString(t, FormatASC, "base hex timestamps absolute\n"+
		"0.1 CANFD 1 Rx 123 0 0 9 12 00 01 02 03 04 05 06 07 08 09 0a 0b 1000 100 0 0 0 0 0 0\n"+
		"0.1 CANFD 1 Rx 123 1 0 1 1 55 1000 100 0 0 0 0 0 0\n"+
		"0.1 CANFD 1 Rx 123 0 1 1 1 55 1000 100 0 0 0 0 0 0\n"+
		"0.1 CANFD 1 Rx 123 0 0 9 8 00 01 02 03 04 05 06 07 1000 100 0 0 0 0 0 0\n")
	diffFrames(t, frames, []Frame{
		{Time: 100e6, Bus: "can0", ID: 0x123, FD: true, Len: 12, Dir: DirRx, Data: body(counting(0, 12)...)},
		{Time: 100e6, Bus: "can0", ID: 0x123, FD: true, BRS: true, Len: 1, Dir: DirRx, Data: body(0x55)},
		{Time: 100e6, Bus: "can0", ID: 0x123, FD: true, ESI: true, Len: 1, Dir: DirRx, Data: body(0x55)},
		{Time: 100e6, Bus: "can0", ID: 0x123, Len: 8, RawDLC: 9, Dir: DirRx, Data: body(counting(0, 8)...)},
	})
}

func TestASCEventsAreCounted(t *testing.T) {
	events := []string{
		"0.1 Start of measurement",
		"0.1 CAN 1 Status:chip status warning level - TxErr: 96 RxErr: 0",
		"0.1 1  Statistic: D 0 R 0 XD 0 XR 0 E 0 O 0 B 0.00%",
		"0.1 1  J1939TP FEE3p        6    0  0   -   Rx   d 23 A0 0F A6",
		"0.1 1  OverloadFrame",
		"0.1 Li 1 Rx 3c 8",
		"0.1 ETH 1 Rx 40:0102",
		"0.1 SV: 2 0 1 ::Battery::Relay = 1",
		"0.1 log trigger event",
		"0.1 1 123 TxRq d 1 00",
		"0.1 CANFD 1 TxRq 123 0 0 1 1 00 1000 100 1000 0 0 0 0 0",
	}
	text := "base hex timestamps absolute\n" + strings.Join(events, "\n") + "\n0.2 1 123 Rx d 0\n"
	r, err := NewReader("log", strings.NewReader(text), FormatASC)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) != 1 || r.Stats().Events != uint64(len(events)) {
		t.Errorf("%d frames, stats %+v", len(frames), r.Stats())
	}
}
