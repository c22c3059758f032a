// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// readAll reads src to its end.
func readAll(src Source) ([]Frame, error) {
	var frames []Frame
	for {
		var f Frame
		err := src.Next(&f)
		if err == io.EOF {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}

func readString(t *testing.T, format Format, text string) []Frame {
	t.Helper()
	r, err := NewReader("log", strings.NewReader(text), format)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// formatAll returns a candump log of frames.
func formatAll(t testing.TB, frames []Frame) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewCandumpWriter(&out)
	for i := range frames {
		if err := w.Write(&frames[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func diffFrames(t *testing.T, got, want []Frame) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("frame %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d frames, want %d", len(got), len(want))
	}
}

func body(b ...byte) (data [MaxFDLen]byte) {
	copy(data[:], b)
	return data
}

func counting(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// validFrame draws any frame for which Validate returns nil.
func validFrame() *rapid.Generator[Frame] {
	const busChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-#(@"
	bus := rapid.StringOfN(rapid.RuneFrom([]rune(busChars)), 1, maxBusName, maxBusName).
		Filter(func(s string) bool { return validBus(s) })
	return rapid.Custom(func(t *rapid.T) Frame {
		f := Frame{
			Time: rapid.Int64Range(0, 1<<62).Draw(t, "time"),
			Bus:  bus.Draw(t, "bus"),
			Dir:  Dir(rapid.IntRange(0, 2).Draw(t, "dir")),
		}
		if rapid.Bool().Draw(t, "us") {
			f.Time -= f.Time % 1000
		}
		limit := MaxLen
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			f.Error = true
		case 1:
			f.RTR = true
		case 2:
			limit = MaxFDLen
			f.FD = true
			f.BRS = rapid.Bool().Draw(t, "brs")
			f.ESI = rapid.Bool().Draw(t, "esi")
		}
		top := uint32(MaxExtendedID)
		if !f.Error {
			if f.Extended = rapid.Bool().Draw(t, "extended"); !f.Extended {
				top = MaxStandardID
			}
		}
		f.ID = rapid.Uint32Range(0, top).Draw(t, "id")
		f.Len = uint8(rapid.IntRange(0, limit).Draw(t, "len"))
		if f.Len == MaxLen && !f.FD && !f.Error && rapid.Bool().Draw(t, "raw") {
			f.RawDLC = uint8(rapid.IntRange(9, 15).Draw(t, "dlc"))
		}
		if !f.RTR {
			copy(f.Data[:], rapid.SliceOfN(rapid.Byte(), int(f.Len), int(f.Len)).Draw(t, "data"))
		}
		return f
	})
}

// sharedFile returns the path of a file in the data folder beside the project,
// and skips the test where the folder is not there.
func sharedFile(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = parent
	}
	data := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		t.Skip("real captures are not here: ../shared/data is absent")
	}
	return filepath.Join(data, name)
}

func readFile(t testing.TB, path string) ([]Frame, *Reader) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return frames, r
}
