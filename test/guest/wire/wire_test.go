// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

func TestMessages(t *testing.T) {
	var b bytes.Buffer
	for _, err := range []error{
		Write(&b, Output, []byte("a\n")), Write(&b, Note, nil), WriteEnd(&b, Exit{Code: 139, Signal: "segmentation fault"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	whole := b.Bytes()
	for _, want := range []struct {
		kind Kind
		text string
	}{{Output, "a\n"}, {Note, ""}, {End, `{"code":139,"signal":"segmentation fault"}`}} {
		k, p, err := Read(&b)
		if err != nil || k != want.kind || string(p) != want.text {
			t.Errorf("%d %q, %v; want %+v", k, p, err, want)
		}
	}
	if _, _, err := Read(&b); err != io.EOF {
		t.Errorf("after the last message: %v", err)
	}
	for n := 1; n < headerSize+2; n++ {
		if _, _, err := Read(bytes.NewReader(whole[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	if err := Write(io.Discard, Output, make([]byte, MaxPayload+1)); !errors.Is(err, ErrMessage) {
		t.Errorf("too long: %v", err)
	}
	for _, b := range [][]byte{{0, 0, 0, 0, 0}, {4, 0, 0, 0, 0}, {1, 1, 0, 1, 0}, {1, 0, 0, 0, 0xFF}} {
		if _, _, err := Read(bytes.NewReader(b)); !errors.Is(err, ErrMessage) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := errors.Join(Write(&b, Output, []byte("x")), WriteEnd(&b, Exit{Error: "e"})); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			before := r.Len()
			k, p, err := Read(r)
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := Write(&again, k, p); err != nil {
				t.Fatal(err)
			}
			at := len(data) - before
			if !bytes.Equal(again.Bytes(), data[at:at+again.Len()]) {
				t.Fatalf("%x was read from %x", again.Bytes(), data)
			}
			var e Exit
			_ = json.Unmarshal(p, &e) // must not panic
		}
	})
}
