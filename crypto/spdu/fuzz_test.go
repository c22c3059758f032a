// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzParse gives any bytes in any form to every parser. What is accepted must
// come out the same when it is built again: one SPDU has one spelling.
func FuzzParse(f *testing.F) {
	record := make([]byte, MaxRecord)
	add := func(form Form, n int, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(form), bytes.Clone(record[PrefixSize:n]))
	}
	for _, form := range []Form{FormFD, FormClassic, FormGeneric} {
		for _, body := range []int{0, 4, 5, 20, 21, 36} {
			n, err := PutSample(record, form, ID{1, 1, 1}, 9, make([]byte, body))
			add(form, n, err)
		}
		n, err := PutHeartbeat(record, form, ID{1, 1, 1}, []Entry{{1, 2}, {3, MaxCounter}})
		add(form, n, err)
		n, err = PutStart(record, form, ID{1, 1, 1}, testRandom(), testStartKey())
		add(form, n, err)
	}
	f.Add(uint8(FormFD), []byte{})
	f.Add(uint8(0), make([]byte, 48))
	key := testStartKey()

	f.Fuzz(func(t *testing.T, form uint8, b []byte) {
		const stream, epoch = 0x01020304, 0x0A0B0C00
		original := bytes.Clone(b)
		h, err := Parse(Form(form), b)
		s, serr := ParseStart(Form(form), b)
		record := make([]byte, PrefixSize+len(b))
		PutPrefix(record, stream, epoch)
		copy(record[PrefixSize:], b)
		if _, err := VerifyStart(record, Form(form), key); err == nil {
			t.Fatalf("%x authenticates in epoch %#x", b, uint32(epoch))
		}
		if !bytes.Equal(b, original) {
			t.Fatal("parsing changed its input")
		}
		if err != nil {
			if !errors.Is(err, ErrForm) && !errors.Is(err, ErrLength) && !errors.Is(err, ErrMalformed) {
				t.Fatalf("unnamed error %v", err)
			}
			if serr == nil || h != (Header{}) {
				t.Fatalf("refused frame gives header %+v, start %v", h, serr)
			}
			return
		}
		if len(b) < MinSize || len(b) > MaxSize {
			t.Fatalf("%d bytes accepted", len(b))
		}
		var header [HeaderSize]byte
		if h.Put(header[:]); !bytes.Equal(header[:], b[:HeaderSize]) {
			t.Fatalf("header %x built again is %x", b[:HeaderSize], header)
		}
		id := ID{stream, epoch | uint32(h.EpochLow), h.Counter}
		again := make([]byte, MaxRecord)
		plain := b[HeaderSize : len(b)-TagSize] // as if the tag had been good
		same := func(n int, err error) {
			t.Helper()
			if h.Counter == 0 {
				if !errors.Is(err, ErrCounter) {
					t.Fatalf("counter 0: %v", err)
				}
				return
			}
			if err != nil || !bytes.Equal(again[PrefixSize:n-TagSize], b[:len(b)-TagSize]) {
				t.Fatalf("built again: %x, %v, want %x", again[:n], err, b)
			}
		}
		switch h.Kind {
		case KindStart:
			if serr == nil {
				same(PutStart(again, Form(form), ID{stream, id.Epoch, s.F}, &s.Random, key))
			} else if !errors.Is(serr, ErrMalformed) {
				t.Fatalf("unnamed error %v", serr)
			}
		case KindSample:
			p, err := ParseSample(plain, h.Pad)
			if err == nil {
				same(PutSample(again, Form(form), id, p.SourceTime, p.Body))
			} else if !errors.Is(err, ErrBadPlaintext) {
				t.Fatalf("unnamed error %v", err)
			}
		case KindHeartbeat:
			hb, err := ParseHeartbeat(plain, h.Pad)
			if err != nil {
				if !errors.Is(err, ErrBadPlaintext) {
					t.Fatalf("unnamed error %v", err)
				}
				return
			}
			var entries []Entry
			for i := range hb.Len() {
				entries = append(entries, hb.Entry(i))
			}
			same(PutHeartbeat(again, Form(form), id, entries))
		}
	})
}
