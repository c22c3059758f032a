// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestAAD(t *testing.T) {
	var header [HeaderSize]byte
	Header{KindSample, 4, 0x04, 0x0A0B0C0D0E0F}.Put(header[:])
	var aad [AADSize]byte
	PutAAD(&aad, 0x11223344, 0x01020304, &header)
	if got := hex.EncodeToString(aad[:]); got != "443322110403020141040f0e0d0c0b0a" {
		t.Fatalf("AAD = %s", got)
	}
	if id := RecordID(aad[:]); id != (ID{0x11223344, 0x01020304, 0x0A0B0C0D0E0F}) {
		t.Fatalf("RecordID = %+v", id)
	}
}

func TestNonce(t *testing.T) {
	for _, c := range []struct {
		iv      string
		stream  uint32
		counter uint64
		want    string
	}{
		{"000000000000000000000000", 0x11223344, 0x0A0B0C0D0E0F, "4433221100000f0e0d0c0b0a"},
		{"ffffffffffffffffffffffff", 0x11223344, 0x0A0B0C0D0E0F, "bbccddeefffff0f1f2f3f4f5"},
		{"000102030405060708090a0b", 1, 1, "010102030405070708090a0b"},
		{"000102030405060708090a0b", 0xFFFFFFFE, MaxCounter, "fefefdfc0405f9f8f7f6f5f4"},
	} {
		iv := [NonceSize]byte(unhex(t, c.iv))
		var nonce, fromRecord [NonceSize]byte
		Nonce(&nonce, &iv, c.stream, c.counter)
		if got := hex.EncodeToString(nonce[:]); got != c.want {
			t.Errorf("nonce = %s, want %s", got, c.want)
		}
		var header [HeaderSize]byte
		Header{Kind: KindHeartbeat, Pad: 15, EpochLow: 0xEE, Counter: c.counter}.Put(header[:])
		var aad [AADSize]byte
		PutAAD(&aad, c.stream, 0xDEADBEEF, &header)
		if RecordNonce(&fromRecord, &iv, aad[:]); fromRecord != nonce {
			t.Errorf("nonce of the record = %x, want %x", fromRecord, nonce)
		}
	}
}

// TestNonceIsInjective: under one IV two SPDUs share a nonce only if stream and
// counter are the same, whatever kind, pad and epoch are.
func TestNonceIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.SampledFrom([]uint32{1, 2, 0x100, 0x10000, 0xFFFFFFFE})
		counter := rapid.OneOf(rapid.Uint64Range(1, 300), rapid.Uint64Range(1, MaxCounter))
		var iv, a, b [NonceSize]byte
		copy(iv[:], rapid.SliceOfN(rapid.Byte(), NonceSize, NonceSize).Draw(t, "iv"))
		s1, s2 := stream.Draw(t, "s1"), stream.Draw(t, "s2")
		c1, c2 := counter.Draw(t, "c1"), counter.Draw(t, "c2")
		Nonce(&a, &iv, s1, c1)
		Nonce(&b, &iv, s2, c2)
		if (a == b) != (s1 == s2 && c1 == c2) {
			t.Fatalf("(%d, %d) and (%d, %d): %x, %x", s1, c1, s2, c2, a, b)
		}
	})
}

func TestBadIDs(t *testing.T) {
	record := make([]byte, MaxRecord)
	for _, c := range []struct {
		id   ID
		want error
	}{
		{ID{0, 1, 1}, ErrStreamID},
		{ID{0xFFFFFFFF, 1, 1}, ErrStreamID},
		{ID{1, 0, 1}, ErrEpoch},
		{ID{1, 1, 0}, ErrCounter},
		{ID{1, 1, MaxCounter + 1}, ErrCounter},
	} {
		before := bytes.Clone(record)
		_, e1 := PutSample(record, FormFD, c.id, 0, nil)
		_, e2 := PutHeartbeat(record, FormFD, c.id, []Entry{{1, 1}})
		_, e3 := PutStart(record, FormFD, c.id, testRandom(), testStartKey())
		for _, err := range []error{e1, e2, e3} {
			if !errors.Is(err, c.want) {
				t.Errorf("%+v: %v, want %v", c.id, err, c.want)
			}
		}
		if !bytes.Equal(record, before) {
			t.Errorf("%+v: record was written", c.id)
		}
	}
	if _, err := PutSample(record, FormFD, ID{0xFFFFFFFE, 0xFFFFFFFF, MaxCounter}, 0, nil); err != nil {
		t.Errorf("largest id: %v", err)
	}
}

func TestShortBuffers(t *testing.T) {
	id := ID{1, 1, 1}
	for name, put := range map[string]func(b []byte) (int, error){
		"sample":    func(b []byte) (int, error) { return PutSample(b, FormFD, id, 0, make([]byte, 9)) },
		"classic":   func(b []byte) (int, error) { return PutSample(b, FormClassic, id, 0, make([]byte, 9)) },
		"heartbeat": func(b []byte) (int, error) { return PutHeartbeat(b, FormFD, id, []Entry{{1, 1}}) },
		"start":     func(b []byte) (int, error) { return PutStart(b, FormFD, id, testRandom(), testStartKey()) },
		"start 40":  func(b []byte) (int, error) { return PutStart(b, FormGeneric, id, testRandom(), testStartKey()) },
	} {
		n, err := put(make([]byte, MaxRecord))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := put(make([]byte, n)); err != nil {
			t.Errorf("%s: exact buffer: %v", name, err)
		}
		b := make([]byte, n-1)
		if _, err := put(b); !errors.Is(err, ErrBuffer) || !bytes.Equal(b, make([]byte, n-1)) {
			t.Errorf("%s: short buffer: %v, written: %x", name, err, b)
		}
	}
}

func TestSampleRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom([]Form{FormFD, FormClassic, FormGeneric}).Draw(t, "form")
		limit, _ := MaxBody(form)
		body := rapid.SliceOfN(rapid.Byte(), 0, limit).Draw(t, "body")
		id := ID{
			rapid.Uint32Range(1, 0xFFFFFFFE).Draw(t, "stream"),
			rapid.Uint32Min(1).Draw(t, "epoch"),
			rapid.Uint64Range(1, MaxCounter).Draw(t, "counter"),
		}
		when := rapid.Uint32().Draw(t, "time")
		record := bytes.Repeat([]byte{0xEE}, MaxRecord) // what was there before must not shine through
		n, err := PutSample(record, form, id, when, body)
		if err != nil {
			t.Fatal(err)
		}
		if RecordID(record) != id {
			t.Fatalf("id %+v, want %+v", RecordID(record), id)
		}
		h, err := Parse(form, record[PrefixSize:n])
		if err != nil || h.Kind != KindSample || h.Counter != id.Counter || h.EpochLow != uint8(id.Epoch) {
			t.Fatalf("header %+v, %v", h, err)
		}
		s, err := ParseSample(record[AADSize:n-TagSize], h.Pad)
		if err != nil || s.SourceTime != when || !bytes.Equal(s.Body, body) {
			t.Fatalf("sample %+v, %v, want %d %x", s, err, when, body)
		}
	})
}

func TestBadSamplePlaintext(t *testing.T) {
	for _, c := range []struct {
		name  string
		plain string
		pad   uint8
		ok    bool
	}{
		{"empty body", "01020304", 0, true},
		{"padded", "0102030405000000", 3, true},
		{"zeros that are body", "0102030400000000", 0, true},
		{"first padding byte", "0102030405800000", 3, false},
		{"last padding byte", "0102030405000001", 3, false},
		{"padding reaches the time", "0102030000000000", 5, false},
		{"pad longer than the plaintext", "00000000", 15, false},
		{"no source time", "010203", 0, false},
		{"nothing", "", 0, false},
	} {
		s, err := ParseSample(unhex(t, c.plain), c.pad)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrBadPlaintext) {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
		if err != nil && (s.SourceTime != 0 || s.Body != nil) {
			t.Errorf("%s: half a sample came with the error", c.name)
		}
	}
	// Each bit of each padding byte counts.
	for pad := uint8(1); pad <= 15; pad++ {
		for bit := range 8 * int(pad) {
			plain := make([]byte, 24)
			plain[24-int(pad)+bit/8] = 1 << (bit % 8)
			if _, err := ParseSample(plain, pad); !errors.Is(err, ErrBadPlaintext) {
				t.Fatalf("pad %d, bit %d: %v", pad, bit, err)
			}
		}
	}
}

func TestCodecDoesNotAllocate(t *testing.T) {
	record := make([]byte, MaxRecord)
	body := make([]byte, 30)
	entries := []Entry{{1, 2}, {3, 4}, {5, 6}}
	var iv, nonce [NonceSize]byte
	var start [PrefixSize + 48]byte
	if _, err := PutStart(start[:], FormFD, ID{1, 1, 1}, testRandom(), testStartKey()); err != nil {
		t.Fatal(err)
	}
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range map[string]func(){
		"sample": func() {
			n, err := PutSample(record, FormFD, ID{7, 8, 9}, 1, body)
			fail(err)
			h, err := Parse(FormFD, record[PrefixSize:n])
			fail(err)
			RecordNonce(&nonce, &iv, record)
			_, err = ParseSample(record[AADSize:n-TagSize], h.Pad)
			fail(err)
		},
		"heartbeat": func() {
			n, err := PutHeartbeat(record, FormFD, ID{7, 8, 9}, entries)
			fail(err)
			h, err := Parse(FormFD, record[PrefixSize:n])
			fail(err)
			hb, err := ParseHeartbeat(record[AADSize:n-TagSize], h.Pad)
			fail(err)
			for i := range hb.Len() {
				if hb.Entry(i) != entries[i] {
					t.Fatal(i)
				}
			}
		},
		"start": func() {
			_, err := ParseStart(FormFD, start[PrefixSize:])
			fail(err)
		},
		"errors": func() {
			if _, err := Parse(FormFD, record[:63]); err == nil {
				t.Fatal("accepted")
			}
			if _, err := PutSample(record, FormFD, ID{7, 8, 9}, 1, record[:37]); err == nil {
				t.Fatal("accepted")
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkPutSample(b *testing.B) {
	b.ReportAllocs()
	record := make([]byte, MaxRecord)
	body := make([]byte, 8)
	for i := range b.N {
		if _, err := PutSample(record, FormFD, ID{7, 8, uint64(i) + 1}, 1, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	record := make([]byte, MaxRecord)
	n, err := PutSample(record, FormFD, ID{7, 8, rand.Uint64N(MaxCounter) + 1}, 1, make([]byte, 8))
	if err != nil {
		b.Fatal(err)
	}
	for range b.N {
		h, err := Parse(FormFD, record[PrefixSize:n])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ParseSample(record[AADSize:n-TagSize], h.Pad); err != nil {
			b.Fatal(err)
		}
	}
}
