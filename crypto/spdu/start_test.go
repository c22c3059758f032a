// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/cellward/cellward/crypto/schedule"
)

const testEpoch = 0x01020304

func testStartKey() *schedule.StartKey {
	var prk schedule.PRK
	for i := range prk {
		prk[i] = byte(0x40 + i)
	}
	var key schedule.StartKey
	if err := schedule.Start(&prk, testEpoch, &key); err != nil {
		panic(err)
	}
	return &key
}

func testRandom() *[schedule.StartSize]byte {
	var r [schedule.StartSize]byte
	for i := range r {
		r[i] = byte(0x10 + i)
	}
	return &r
}

var startID = ID{0x11223344, testEpoch, 0x0A0B0C0D0E0F}

// TestStartVectors compares with records made by another implementation
// (OpenSSL's HKDF and HMAC).
func TestStartVectors(t *testing.T) {
	for _, c := range []struct {
		form Form
		want string
	}{
		{FormFD, "8d040f0e0d0c0b0a101112131415161718191a1b1c1d1e1f00000000000000005dadb2e3e5aaf092bd66f492c5bc27b5"},
		{FormClassic, "0d040f0e0d0c0b0a101112131415161718191a1b1c1d1e1ffe5b7d15ad687b59398c4c245169e9e1"},
		{FormGeneric, "0d040f0e0d0c0b0a101112131415161718191a1b1c1d1e1ffe5b7d15ad687b59398c4c245169e9e1"},
	} {
		record := bytes.Repeat([]byte{0xEE}, MaxRecord)
		n, err := PutStart(record, c.form, startID, testRandom(), testStartKey())
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(record[PrefixSize:n]); got != c.want {
			t.Fatalf("form %d: record %s, want %s", c.form, got, c.want)
		}
		s, err := VerifyStart(record[:n], c.form, testStartKey())
		if err != nil || s != (Start{startID.Counter, *testRandom()}) {
			t.Fatalf("form %d: %+v, %v", c.form, s, err)
		}
		p, err := ParseStart(c.form, record[PrefixSize:n])
		if err != nil || p != s {
			t.Fatalf("form %d: parsed %+v, %v, verified %+v", c.form, p, err, s)
		}
	}
}

// TestStartForgeries: each bit of a record, stream and epoch included, is
// refused when flipped, and so is any other key.
func TestStartForgeries(t *testing.T) {
	key := testStartKey()
	for _, form := range []Form{FormFD, FormGeneric} {
		record := make([]byte, MaxRecord)
		n, err := PutStart(record, form, startID, testRandom(), key)
		if err != nil {
			t.Fatal(err)
		}
		record = record[:n]
		for bit := range 8 * n {
			record[bit/8] ^= 1 << (bit % 8)
			s, err := VerifyStart(record, form, key)
			if err == nil || s != (Start{}) {
				t.Fatalf("form %d: bit %d flipped: %+v, %v", form, bit, s, err)
			}
			if bit >= 8*(n-TagSize) && !errors.Is(err, ErrBadMAC) {
				t.Fatalf("form %d: bit %d of the MAC flipped: %v", form, bit, err)
			}
			record[bit/8] ^= 1 << (bit % 8)
		}
		other := *key
		other[47] ^= 1
		if _, err := VerifyStart(record, form, &other); !errors.Is(err, ErrBadMAC) {
			t.Errorf("form %d: other key: %v", form, err)
		}
		for cut := range n {
			if _, err := VerifyStart(record[:cut], form, key); err == nil {
				t.Fatalf("form %d: cut to %d bytes: accepted", form, cut)
			}
		}
	}
}

func TestParseStartRefusals(t *testing.T) {
	fd := func(change func(b []byte)) []byte {
		b := make([]byte, 48)
		Header{Kind: KindStart, Pad: 8, EpochLow: 4, Counter: 5}.Put(b)
		change(b)
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"good", fd(func([]byte) {}), nil},
		{"F = 0", fd(func(b []byte) { clear(b[2:8]) }), ErrMalformed},
		{"first zero byte", fd(func(b []byte) { b[24] = 1 }), ErrPad},
		{"last zero byte", fd(func(b []byte) { b[31] = 0x80 }), ErrPad},
		{"sample", fd(func(b []byte) { Header{Counter: 5}.Put(b) }), ErrKind},
		{"wrong pad", fd(func(b []byte) { b[0] = b[0]&15 | 7<<4 }), ErrPad},
		{"generic form", fd(func([]byte) {})[:40], ErrLength},
		{"64 bytes", append(fd(func([]byte) {}), make([]byte, 16)...), ErrKind},
	} {
		if s, err := ParseStart(FormFD, c.b); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %+v, %v, want %v", c.name, s, err, c.want)
		}
	}
	if _, err := PutStart(make([]byte, 64), 0, startID, testRandom(), testStartKey()); !errors.Is(err, ErrForm) {
		t.Errorf("no form: %v", err)
	}
}
