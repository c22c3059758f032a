// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"strings"
	"testing"
)

func TestGVRETFiles(t *testing.T) {
	tests := []struct {
		file string
		want []Frame
	}{
		{"testdata/v1.gvret.csv", []Frame{
			{Time: 1000e3, Bus: "can0", ID: 0x123, Len: 8, Data: body(1, 2, 3, 4, 5, 6, 7, 8)},
			{Time: 2500e3, Bus: "can1", ID: 0x1ABCDEF0, Extended: true, Len: 2, Data: body(0xAA, 0xBB)},
			{Time: 2400e3, Bus: "can0", ID: 0x7FF},
		}},
		{"testdata/v2.gvret.csv", []Frame{
			{Time: 166064000e3, Bus: "can3", ID: 0x1A0, FD: true, Len: 12, Dir: DirTx, Data: body(counting(0, 12)...)},
			{Time: 166064010e3, Bus: "can3", ID: 0x1A1, Extended: true, Len: 1, Dir: DirRx, Data: body(0x7F)},
		}},
	}
	for _, tt := range tests {
		frames, r := readFile(t, tt.file)
		diffFrames(t, frames, tt.want)
		if r.Format() != FormatGVRET || r.Stats() != (Stats{Lines: uint64(len(tt.want)) + 1, Frames: uint64(len(tt.want))}) {
			t.Errorf("%s: format %v, stats %+v", tt.file, r.Format(), r.Stats())
		}
	}
}

func TestGVRETRefusesHeader(t *testing.T) {
	tests := []struct{ header, want string }{
		{"ID,Extended,Bus,LEN,D1", "lacks"},
		{"Time Stamp,Extended,Bus,LEN,D1", "lacks"},
		{"Time Stamp,ID,Bus,LEN,D1", "lacks"},
		{"Time Stamp,ID,Extended,LEN,D1", "lacks"},
		{"Time Stamp,ID,Extended,Bus,D1", "lacks"},
		{"Time Stamp,ID,Extended,Bus,LEN,D1,D1", "twice"},
		{"Time Stamp,ID,Extended,Bus,LEN,D65", "beyond D64"},
		{"Time Stamp,ID,Extended,Bus,LEN" + strings.Repeat(",x", 130), "columns"},
	}
	for _, tt := range tests {
		r, err := NewReader("log", strings.NewReader(tt.header+"\n"), FormatGVRET)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(r); !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want it to name %q", tt.header, err, tt.want)
		}
	}
}

func TestGVRETRefusesRow(t *testing.T) {
	const header = "Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8,D9,D10\n"
	tests := []struct{ row, want string }{
		{"x", "time stamp"},
		{",123,false,Rx,0,0", "time stamp"},
		{"-1,123,false,Rx,0,0", "time stamp"},
		{"1.5,123,false,Rx,0,0", "time stamp"},
		{"9223372036854776,123,false,Rx,0,0", "time stamp"},
		{"1", "row ends"},
		{"1,123,false,Rx,0", "row ends"},
		{"1,,false,Rx,0,0", "identifier"},
		{"1,xyz,false,Rx,0,0", "identifier"},
		{"1,20000000,true,Rx,0,0", "29 bits"},
		{"1,800,false,Rx,0,0", "11 bits"},
		{"1,123,maybe,Rx,0,0", "not true or false"},
		{"1,123,,Rx,0,0", "not true or false"},
		{"1,123,false,Up,0,0", "direction"},
		{"1,123,false,Rx,x,0", "bus"},
		{"1,123,false,Rx,256,0", "bus"},
		{"1,123,false,Rx,-1,0", "bus"},
		{"1,123,false,Rx,0,", "length"},
		{"1,123,false,Rx,0,x", "length"},
		{"1,123,false,Rx,0,9,0,0,0,0,0,0,0,0,0", "length"},
		{"1,123,false,Rx,0,65", "length"},
		{"1,123,false,Rx,0,2,01", "fewer data bytes"},
		{"1,123,false,Rx,0,2,01,", "fewer data bytes"},
		{"1,123,false,Rx,0,2,,01", "fewer data bytes"},
		{"1,123,false,Rx,0,12,0,1,2,3,4,5,6,7,8,9", "fewer data bytes"},
		{"1,123,false,Rx,0,1,GG", "data byte"},
		{"1,123,false,Rx,0,1,100", "data byte"},
		{"1,123,false,Rx,0,0,00,00,00,00,00,00,00,00,00,00,01", "more fields"},
		{"1,123,false,Rx,0,0,00,00,00,00,00,00,00,00,00,00,,", "more fields"},
	}
	for _, tt := range tests {
		r, err := NewReader("log", strings.NewReader(header+"1,001,false,,0,0\n"+tt.row+"\n"), FormatAuto)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := readAll(r)
		if len(frames) != 1 || !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "log:3: ") {
			t.Errorf("%q: %d frames, error %v, want one that names %q", tt.row, len(frames), err, tt.want)
		}
	}
}

func TestGVRETValuesBehindLenDoNotCount(t *testing.T) {
	frames := readString(t, FormatGVRET, "Time Stamp,ID,Extended,Bus,LEN,D1,D2,D3\n5, 1a ,false,2,1,AA,BB,CC,\n\n")
	diffFrames(t, frames, []Frame{{Time: 5000, Bus: "can2", ID: 0x1A, Len: 1, Data: body(0xAA)}})
}
