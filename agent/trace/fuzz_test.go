// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

func FuzzCandump(f *testing.F) { fuzzReader(f, FormatCandump, "basic.candump.log") }
func FuzzASC(f *testing.F)     { fuzzReader(f, FormatASC, "basic.asc", "dec-relative.asc") }
func FuzzGVRET(f *testing.F)   { fuzzReader(f, FormatGVRET, "v1.gvret.csv", "v2.gvret.csv") }

// fuzzReader: no input makes a reader panic; a frame that it accepts is valid
// and, written as a candump line, reads back equal; every refusal is of a
// known kind.
func fuzzReader(f *testing.F, format Format, seeds ...string) {
	for _, seed := range seeds {
		text, err := os.ReadFile("testdata/" + seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		for line := range bytes.Lines(text) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, o := range []Options{{Format: format}, {Format: format, SkipInvalid: true}} {
			r, err := o.NewReader("fuzz", bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			frames, err := readAll(r)
			checkRefusal(t, r, err)
			for i := range frames {
				if err := frames[i].Validate(); err != nil {
					t.Fatalf("accepted frame %+v: %v", frames[i], err)
				}
			}
			if s := r.Stats(); s.Frames != uint64(len(frames)) || s.Frames+s.Events+s.Invalid > s.Lines {
				t.Fatalf("%d frames, stats %+v", len(frames), s)
			}
			again, err := NewReader("again", bytes.NewReader(formatAll(t, frames)), FormatCandump)
			if err != nil {
				t.Fatal(err)
			}
			back, err := readAll(again)
			if err != nil {
				t.Fatal(err)
			}
			diffFrames(t, back, frames)
			if r.err == io.EOF {
				break // nothing to skip
			}
		}
		// Detection must not panic either.
		r, err := NewReader("fuzz", bytes.NewReader(text), FormatAuto)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrLineTooLong) {
				t.Fatal(err)
			}
			return
		}
		_, err = readAll(r)
		checkRefusal(t, r, err)
	})
}

func checkRefusal(t *testing.T, r *Reader, err error) {
	t.Helper()
	if err == nil {
		return
	}
	known := errors.Is(err, ErrSyntax) || errors.Is(err, ErrTruncated) || errors.Is(err, ErrLineTooLong) || errors.Is(err, ErrUnsupported)
	var le *LineError
	if !known || !errors.As(err, &le) || le.Line < 1 || uint64(le.Line) != r.Stats().Lines || len(le.Text) > maxQuote+3 {
		t.Fatalf("refusal %v", err)
	}
	var f Frame
	if again := r.Next(&f); again != err || again == io.EOF {
		t.Fatalf("error is not sticky: %v after %v", again, err)
	}
}
