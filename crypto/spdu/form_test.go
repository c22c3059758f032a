// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"errors"
	"fmt"
	"testing"
)

// TestParseForms tries every length, kind and pad against the table of the
// protocol, written down here a second time.
func TestParseForms(t *testing.T) {
	for _, form := range []Form{FormFD, FormClassic, FormGeneric} {
		buf := make([]byte, MaxSize+2)
		for n := range len(buf) + 1 {
			for kind := range Kind(4) {
				for pad := range uint8(16) {
					b := buf[:n]
					if n >= HeaderSize {
						Header{Kind: kind, Pad: pad, EpochLow: 9, Counter: 77}.Put(b)
					}
					want := wantForm(form, n, kind, int(pad))
					h, err := Parse(form, b)
					if !errors.Is(err, want) || (err == nil) != (want == nil) {
						t.Fatalf("form %d, %d bytes, kind %d, pad %d: %v, want %v", form, n, kind, pad, err, want)
					}
					if err == nil && h != (Header{kind, pad, 9, 77}) || err != nil && h != (Header{}) {
						t.Fatalf("form %d, %d bytes: header %+v", form, n, h)
					}
				}
			}
		}
	}
	for _, form := range []Form{0, 4, 255} {
		if _, err := Parse(form, make([]byte, 48)); !errors.Is(err, ErrForm) {
			t.Errorf("form %d: %v", form, err)
		}
	}
}

func wantForm(form Form, n int, kind Kind, pad int) error {
	right := map[Form]bool{
		FormFD:      n == 32 || n == 48 || n == 64,
		FormClassic: n >= 28 && n <= 384,
		FormGeneric: n >= 28 && n <= 2048,
	}[form]
	switch {
	case !right:
		return ErrLength
	case kind == 2:
		return ErrKind
	case kind == 3 && form == FormFD && n != 48, kind == 3 && form != FormFD && n != 40:
		return ErrKind
	case kind == 3 && form == FormFD && pad == 8, kind == 3 && form != FormFD && pad == 0:
		return nil
	case kind == 3:
		return ErrPad
	case form == FormFD && n == 32 && pad > 4, form != FormFD && pad > 0:
		return ErrPad
	}
	return nil
}

func TestFDSizes(t *testing.T) {
	for n := range 60 {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(i + 1)
		}
		record := make([]byte, MaxRecord)
		got, err := PutSample(record, FormFD, ID{5, 1, 9}, 3, body)
		if n > 36 {
			if !errors.Is(err, ErrBodyTooLong) {
				t.Errorf("body of %d: %v, want ErrBodyTooLong", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("body of %d: %v", n, err)
		}
		frame, pad := 32, 4-n
		switch {
		case n > 20:
			frame, pad = 64, 36-n
		case n > 4:
			frame, pad = 48, 20-n
		}
		h, err := Parse(FormFD, record[PrefixSize:got])
		if got-PrefixSize != frame || err != nil || int(h.Pad) != pad {
			t.Errorf("body of %d: frame of %d, %+v, %v, want %d, pad %d", n, got-PrefixSize, h, err, frame, pad)
		}
	}
}

func TestMaxBody(t *testing.T) {
	for form, want := range map[Form]int{FormFD: 36, FormClassic: 356, FormGeneric: 2020} {
		limit, err := MaxBody(form)
		if err != nil || limit != want {
			t.Fatalf("form %d: %d, %v, want %d", form, limit, err, want)
		}
		record := make([]byte, MaxRecord)
		n, err := PutSample(record, form, ID{5, 1, 9}, 0, make([]byte, limit))
		if err != nil {
			t.Fatalf("form %d: longest body: %v", form, err)
		}
		if _, err := Parse(form, record[PrefixSize:n]); err != nil {
			t.Errorf("form %d: longest SPDU of %d: %v", form, n-PrefixSize, err)
		}
		if _, err := PutSample(record, form, ID{5, 1, 9}, 0, make([]byte, limit+1)); !errors.Is(err, ErrBodyTooLong) {
			t.Errorf("form %d: one more: %v", form, err)
		}
	}
	if _, err := MaxBody(0); !errors.Is(err, ErrForm) {
		t.Errorf("no form: %v", err)
	}
}

func ExampleParse() {
	frame := make([]byte, 48) // as received from a CAN FD bus
	Header{Kind: KindSample, Pad: 12, EpochLow: 1, Counter: 42}.Put(frame)
	h, err := Parse(FormFD, frame)
	fmt.Println(h.Kind, h.Counter, h.Pad, err)
	// Output: sample 42 12 <nil>
}
