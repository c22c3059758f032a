// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"strings"
	"testing"
)

func TestFrameValidate(t *testing.T) {
	tests := []struct {
		name  string
		frame Frame
		want  string // part of the reason; empty: valid
	}{
		{"classic", Frame{Bus: "can0", ID: MaxStandardID, Len: 8, Data: body(1, 2, 3)}, ""},
		{"extended", Frame{Bus: "can0", ID: MaxExtendedID, Extended: true}, ""},
		{"fd", Frame{Bus: "can0", FD: true, BRS: true, ESI: true, Len: 64}, ""},
		{"remote", Frame{Bus: "can0", RTR: true, Len: 8, RawDLC: 15}, ""},
		{"error", Frame{Bus: "can0", Error: true, ID: MaxExtendedID, Len: 8}, ""},
		{"longest bus", Frame{Bus: strings.Repeat("b", 15)}, ""},
		{"dots in bus", Frame{Bus: "..."}, ""},

		{"negative time", Frame{Bus: "can0", Time: -1}, "time stamp"},
		{"no bus", Frame{}, "bus"},
		{"long bus", Frame{Bus: strings.Repeat("b", 16)}, "bus"},
		{"blank in bus", Frame{Bus: "can 0"}, "bus"},
		{"slash in bus", Frame{Bus: "a/b"}, "bus"},
		{"colon in bus", Frame{Bus: "a:b"}, "bus"},
		{"dot bus", Frame{Bus: "."}, "bus"},
		{"dot dot bus", Frame{Bus: ".."}, "bus"},
		{"control in bus", Frame{Bus: "a\x1b"}, "bus"},
		{"standard id", Frame{Bus: "can0", ID: MaxStandardID + 1}, "11 bits"},
		{"extended id", Frame{Bus: "can0", ID: MaxExtendedID + 1, Extended: true}, "29 bits"},
		{"error class", Frame{Bus: "can0", ID: MaxExtendedID + 1, Error: true}, "29 bits"},
		{"extended error", Frame{Bus: "can0", Error: true, Extended: true}, "error frame"},
		{"remote error", Frame{Bus: "can0", Error: true, RTR: true}, "error frame"},
		{"fd error", Frame{Bus: "can0", Error: true, FD: true}, "error frame"},
		{"fd remote", Frame{Bus: "can0", FD: true, RTR: true}, "remote"},
		{"brs on classic", Frame{Bus: "can0", BRS: true}, "fd flags"},
		{"esi on classic", Frame{Bus: "can0", ESI: true}, "fd flags"},
		{"classic 9", Frame{Bus: "can0", Len: 9}, "too long"},
		{"fd 65", Frame{Bus: "can0", FD: true, Len: 65}, "too long"},
		{"remote 9", Frame{Bus: "can0", RTR: true, Len: 9}, "too long"},
		{"raw dlc 8", Frame{Bus: "can0", Len: 8, RawDLC: 8}, "raw"},
		{"raw dlc 16", Frame{Bus: "can0", Len: 8, RawDLC: 16}, "raw"},
		{"raw dlc of 7 bytes", Frame{Bus: "can0", Len: 7, RawDLC: 9}, "raw"},
		{"raw dlc of fd", Frame{Bus: "can0", FD: true, Len: 8, RawDLC: 9}, "raw"},
		{"direction", Frame{Bus: "can0", Dir: DirTx + 1}, "direction"},
		{"rest not zero", Frame{Bus: "can0", Len: 2, Data: body(0, 0, 1)}, "not zero"},
		{"remote with data", Frame{Bus: "can0", RTR: true, Len: 2, Data: body(1)}, "not zero"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.frame.Validate()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrInvalidFrame) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want it to name %q", err, tt.want)
			}
		})
	}
}

func TestFrameBody(t *testing.T) {
	f := Frame{Len: 3, Data: body(1, 2, 3)}
	if got := f.Body(); string(got) != "\x01\x02\x03" {
		t.Errorf("data frame: %x", got)
	}
	f = Frame{RTR: true, Len: 3}
	if got := f.Body(); len(got) != 0 {
		t.Errorf("remote frame: %x", got)
	}
	// An invalid length must not reach beyond the array.
	f = Frame{Len: 255}
	if got := f.Body(); len(got) != MaxFDLen {
		t.Errorf("length 255: %d bytes", len(got))
	}
}

func TestFDLengths(t *testing.T) {
	// Data length codes of ISO 11898-1 table 5.
	want := []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64}
	valid := make(map[uint8]bool)
	for dlc, n := range want {
		valid[n] = true
		if got := fdLen(uint8(dlc)); got != n {
			t.Errorf("fdLen(%d) = %d, want %d", dlc, got, n)
		}
	}
	for n := range uint8(70) {
		if isFDLen(n) != valid[n] {
			t.Errorf("isFDLen(%d) = %v", n, !valid[n])
		}
	}
}

func TestDirString(t *testing.T) {
	for d, want := range map[Dir]string{DirUnknown: "unknown", DirRx: "rx", DirTx: "tx"} {
		if d.String() != want {
			t.Errorf("%d: %s", d, d)
		}
	}
}
