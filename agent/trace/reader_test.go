// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

const bom = "\xEF\xBB\xBF"

func TestDetect(t *testing.T) {
	tests := []struct {
		text string
		want Format
	}{
		{"(1.000000) can0 123#\n", FormatCandump},
		{bom + "\r\n  \r\n (1.000000) can0 123#\r\n", FormatCandump},
		{"date Thu Mar 3 10:00:00 2022\nbase hex timestamps absolute\n", FormatASC},
		{bom + "base dec timestamps relative\r\n", FormatASC},
		{"// comment\nbase hex timestamps absolute\n", FormatASC},
		{"Time Stamp,ID,Extended,Bus,LEN,D1\n", FormatGVRET},
		{bom + "time stamp,id,extended,dir,bus,len\r\n", FormatGVRET},
	}
	for _, tt := range tests {
		r, err := NewReader("log", strings.NewReader(tt.text), FormatAuto)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		if r.Format() != tt.want {
			t.Errorf("%q: %v, want %v", tt.text, r.Format(), tt.want)
		}
		if _, err := readAll(r); err != nil {
			t.Errorf("%q: %v", tt.text, err)
		}
	}
}

func TestDetectRefuses(t *testing.T) {
	for _, text := range []string{
		"", "\n\n", bom, "hello\n", "date\n", "base oct\n", "ID,Data\n", "a,b,c\n1,2,3\n",
		"\x00\x00", "\xff\xfe(\x00", "can0  123   [8]  00 11 22 33 44 55 66 77\n",
	} {
		if _, err := NewReader("log", strings.NewReader(text), FormatAuto); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "log") {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if _, err := NewReader("log", strings.NewReader(""), Format(99)); !errors.Is(err, ErrFormat) {
		t.Errorf("format 99: %v", err)
	}
}

// TestDetectReadsOneLine: a log that comes through a pipe is usable as soon as
// its first line is there.
func TestDetectReadsOneLine(t *testing.T) {
	in, out := io.Pipe()
	go func() {
		io.WriteString(out, "(1.000000) can0 123#\n")
		// The pipe stays open, as that of a running candump.
	}()
	r, err := NewReader("pipe", in, FormatAuto)
	if err != nil {
		t.Fatal(err)
	}
	var f Frame
	if err := r.Next(&f); err != nil || f.ID != 0x123 {
		t.Fatalf("frame %+v, error %v", f, err)
	}
	in.Close()
}

func TestLineEnds(t *testing.T) {
	want := []Frame{{Bus: "can0", ID: 1}, {Bus: "can0", ID: 2}}
	for _, text := range []string{
		"(0.000000) can0 001#\n(0.000000) can0 002#\n",
		"(0.000000) can0 001#\r\n(0.000000) can0 002#\r\n",
		bom + "(0.000000) can0 001#\r\n\r\n \t\n(0.000000) can0 002#\n\n",
		"(0.000000) can0 001#\n(0.000000) can0 002#\n   ", // no end behind a blank line
	} {
		diffFrames(t, readString(t, FormatCandump, text), want)
	}
	// One byte at a time must make no difference.
	r, err := NewReader("log", iotest.OneByteReader(strings.NewReader(bom+"(0.000000) can0 001#\r\n(0.000000) can0 002#\r\n")), FormatAuto)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	diffFrames(t, frames, want)
}

// TestTruncated: a frame without a line end may have lost bytes, whatever the
// format, and a cut at any other place is malformed or a line end.
func TestTruncated(t *testing.T) {
	for _, file := range []string{"basic.candump.log", "basic.asc", "dec-relative.asc", "v1.gvret.csv", "v2.gvret.csv"} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		full, _ := readFile(t, filepath.Join("testdata", file))
		truncated := 0
		for cut := range text {
			r, err := NewReader(file, strings.NewReader(string(text[:cut])), FormatAuto)
			if err != nil {
				continue // not enough for the format
			}
			frames, err := readAll(r)
			if len(frames) > len(full) {
				t.Fatalf("%s cut at %d: %d frames", file, cut, len(frames))
			}
			diffFrames(t, frames, full[:len(frames)])
			if errors.Is(err, ErrTruncated) {
				truncated++
			} else if err != nil && !errors.Is(err, ErrSyntax) {
				t.Fatalf("%s cut at %d: %v", file, cut, err)
			}
		}
		if truncated == 0 {
			t.Errorf("%s: no cut gave ErrTruncated", file)
		}
	}
}

func TestLineTooLong(t *testing.T) {
	fits := "(0.000000) can0 001#" + strings.Repeat(" ", MaxLine-21) + "\n"
	if got := len(readString(t, FormatCandump, fits)); got != 1 {
		t.Errorf("%d frames from a line of MaxLine bytes", got)
	}
	for _, skip := range []bool{false, true} {
		r, err := Options{Format: FormatCandump, SkipInvalid: skip}.NewReader("log", strings.NewReader("(0.000000) can0 001#\n "+fits))
		if err != nil {
			t.Fatal(err)
		}
		frames, err := readAll(r)
		var le *LineError
		if len(frames) != 1 || !errors.Is(err, ErrLineTooLong) || !errors.As(err, &le) || le.Line != 2 {
			t.Errorf("skip %v: %d frames, error %v", skip, len(frames), err)
		}
		if len(err.Error()) > 400 {
			t.Errorf("error is %d bytes long", len(err.Error()))
		}
	}
	if _, err := NewReader("log", strings.NewReader(strings.Repeat("x", MaxLine+1)), FormatAuto); !errors.Is(err, ErrLineTooLong) {
		t.Errorf("while detecting: %v", err)
	}
}

func TestErrorQuotesClippedLine(t *testing.T) {
	long := "bad \x1b[31m" + strings.Repeat("y", 500)
	r, err := NewReader("drive.log", strings.NewReader("(0.000000) can0 001#\n\n"+long+"\n"), FormatCandump)
	if err != nil {
		t.Fatal(err)
	}
	_, err = readAll(r)
	want := `drive.log:3: malformed line: no (seconds.fraction) at the start: "bad \x1b[31m` + strings.Repeat("y", 111) + `..."`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestErrorIsSticky(t *testing.T) {
	r, err := NewReader("log", strings.NewReader("(0.000000) can0 001#\nbad\n(0.000000) can0 002#\n"), FormatCandump)
	if err != nil {
		t.Fatal(err)
	}
	var f Frame
	if err := r.Next(&f); err != nil {
		t.Fatal(err)
	}
	first := r.Next(&f)
	if first == nil || f != (Frame{}) {
		t.Fatalf("error %v, frame %+v", first, f)
	}
	if again := r.Next(&f); again != first || f != (Frame{}) {
		t.Fatalf("second call: %v, frame %+v", again, f)
	}
}

func TestSkipInvalidCounts(t *testing.T) {
	text := "(0.000000) can0 001#\nbad\n(0.000000) can0 800#\n(0.000000) can0 002#\n(0.000000) can0 003#"
	r, err := Options{SkipInvalid: true}.NewReader("log", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	frames, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	diffFrames(t, frames, []Frame{{Bus: "can0", ID: 1}, {Bus: "can0", ID: 2}})
	if r.Stats() != (Stats{Lines: 5, Frames: 2, Invalid: 3}) {
		t.Errorf("stats %+v", r.Stats())
	}
}

func TestReadErrorIsWrapped(t *testing.T) {
	broken := errors.New("cable pulled")
	in := io.MultiReader(strings.NewReader("(0.000000) can0 001#\n(0.0"), iotest.ErrReader(broken))
	r, err := NewReader("log", in, FormatAuto)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := readAll(r)
	if len(frames) != 1 || !errors.Is(err, broken) {
		t.Errorf("%d frames, error %v", len(frames), err)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none.log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "empty.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrFormat) {
		t.Errorf("empty file: %v", err)
	}
}

func TestFormatString(t *testing.T) {
	for f, want := range map[Format]string{
		FormatAuto: "auto", FormatCandump: "candump", FormatASC: "asc", FormatGVRET: "gvret", 99: "format(99)",
	} {
		if f.String() != want {
			t.Errorf("%d: %s", f, f)
		}
	}
}

func TestClose(t *testing.T) {
	r, err := NewReader("log", strings.NewReader(""), FormatCandump)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("reader without a file: %v", err)
	}
	if r, err = Open("testdata/basic.asc"); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

func TestTooManyBuses(t *testing.T) {
	var text strings.Builder
	for i := range maxBuses + 1 {
		fmt.Fprintf(&text, "(0.000000) can%d 001#\n", i)
	}
	r, err := NewReader("log", strings.NewReader(text.String()), FormatCandump)
	if err != nil {
		t.Fatal(err)
	}
	if frames, err := readAll(r); len(frames) != maxBuses || !errors.Is(err, ErrSyntax) {
		t.Errorf("%d frames, error %v", len(frames), err)
	}
}

// TestReadersDoNotAllocate reads lines of all shapes again and again.
func TestReadersDoNotAllocate(t *testing.T) {
	tests := []struct {
		format       Format
		header, rows string
	}{
		{FormatCandump, "", "(1700000000.000001) can0 123#0011223344556677\n(1700000000.000001) can1 12345678##1001122 R\n(1.000000) can0 123#R8\n"},
		{FormatASC, "base hex timestamps absolute\n", "0.15 1 594 Rx d 8 34 21 34 21 A0 61 04 20\n0.2 CANFD 2 Tx 123x n 1 0 9 12 00 01 02 03 04 05 06 07 08 09 0a 0b 1 1 1000\n0.3 1 Statistic: D 0\n0.4 1 ErrorFrame\n"},
		{FormatGVRET, "Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8\n", "166064000,0000021A,false,Rx,0,8,FE,36,12,FE,69,05,07,AD,\n166064000,0000021A,true,Tx,1,1,FE,00,00,00,00,00,00,00,\n"},
	}
	for _, tt := range tests {
		r, err := NewReader("log", strings.NewReader(tt.header+strings.Repeat(tt.rows, 2000)), tt.format)
		if err != nil {
			t.Fatal(err)
		}
		var f Frame
		for range 10 { // names of buses are made on first sight
			if err := r.Next(&f); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(3000, func() {
			if err := r.Next(&f); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations a frame", tt.format, n)
		}
	}
}
