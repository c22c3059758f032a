// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestPaddingHasItsLength(t *testing.T) {
	for n := 1; n < 1200; n++ {
		field, err := encodeEAD(mustPadding(t, n))
		if err != nil || len(field) != n {
			t.Fatalf("padding of %d bytes has %d: %v", n, len(field), err)
		}
		seq, e := items(field)
		if e != nil {
			t.Fatal(e)
		}
		if left, e := parseEAD(seq); e != nil || len(left) != 0 {
			t.Fatalf("padding of %d bytes leaves %v: %v", n, left, e)
		}
	}
	if field, err := encodeEAD(mustPadding(t, 1<<16)); err != nil || len(field) != 1<<16 {
		t.Fatalf("%d bytes: %v", len(field), err)
	}
	for _, n := range []int{0, -1, 1<<16 + 1} {
		if _, err := Padding(n); !errors.Is(err, ErrConfig) {
			t.Fatalf("padding of %d bytes: %v", n, err)
		}
	}
	// The examples of RFC 9528, 3.8.1.
	for _, c := range []struct {
		field []EAD
		wire  string
	}{
		{mustPadding(t, 1), "00"}, {mustPadding(t, 2), "0040"}, {[]EAD{{Value: []byte{0xe9}}}, "0041e9"},
	} {
		if got, err := encodeEAD(c.field); err != nil || !bytes.Equal(got, unhex(t, c.wire)) {
			t.Fatalf("%x, want %s, %v", got, c.wire, err)
		}
	}
}

// TestEADRoundTrip: what is encoded is what is read, but for the padding.
func TestEADRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		critical := map[int64]bool{}
		var field, want []EAD
		for i := range rapid.IntRange(0, 6).Draw(t, "items") {
			e := EAD{Label: rapid.Int64Range(0, 1<<40).Draw(t, fmt.Sprint("label", i))}
			if rapid.Bool().Draw(t, "common") {
				e.Label %= 4
			}
			if e.Label != 0 {
				if was, ok := critical[e.Label]; ok {
					e.Critical = was
				} else {
					e.Critical = rapid.Bool().Draw(t, "critical")
				}
				critical[e.Label] = e.Critical
			}
			if rapid.Bool().Draw(t, "value") {
				e.Value = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")
				if e.Value == nil {
					e.Value = []byte{}
				}
			}
			field = append(field, e)
			if e.Label != 0 {
				want = append(want, e)
			}
		}
		b, err := encodeEAD(field)
		if err != nil {
			t.Fatal(err)
		}
		seq, e := items(b)
		if e != nil {
			t.Fatal(e)
		}
		got, e := parseEAD(seq)
		if e != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v became %v, %v", want, got, e)
		}
	})
}

// TestEADIsCarried: each of the four fields arrives, without padding, and the application is asked about each.
func TestEADIsCarried(t *testing.T) {
	b := newBench(t, StaticSignature, 2)
	fields := map[int][]EAD{}
	for n := 1; n <= 4; n++ {
		fields[n] = []EAD{
			{Label: int64(n), Critical: true, Value: []byte{byte(n)}},
			{Label: 99}, // not known, not critical
			{Label: int64(n), Critical: true},
		}
	}
	asked := map[string]int{}
	process := func(role string) func(int, []EAD) error {
		return func(n int, field []EAD) error {
			asked[fmt.Sprint(role, n)]++
			if !reflect.DeepEqual(field, fields[n]) {
				return fmt.Errorf("EAD_%d is %v", n, field)
			}
			return nil
		}
	}
	b.initCfg.EADLabels, b.respCfg.EADLabels = []int64{2, 4}, []int64{1, 3}
	b.initCfg.ProcessEAD, b.respCfg.ProcessEAD = process("i"), process("r")
	lookup := b.respCfg.Lookup
	b.respCfg.Lookup = func(r LookupRequest) ([]*Credential, error) {
		if r.Message != 3 || r.Method != StaticSignature || r.Suite.ID != 2 || !reflect.DeepEqual(r.EAD, fields[3]) {
			return nil, fmt.Errorf("request %+v", r)
		}
		return lookup(r)
	}
	with := func(n int) []EAD {
		return append(append(mustPadding(t, 30), fields[n]...), mustPadding(t, 7)...)
	}
	b.ead1, b.ead2, b.ead3, b.ead4 = with(1), with(2), with(3), with(4)
	i, r := b.initiator(t), b.responder(t)
	m1, err := i.Message1(b.ead1...)
	if err != nil {
		t.Fatal(err)
	}
	offer, err := r.Message1(m1)
	if err != nil || !reflect.DeepEqual(offer.EAD, fields[1]) {
		t.Fatalf("%v, %v", offer, err)
	}
	m2, err := r.Message2(b.ead2...)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := i.Message2(m2)
	if err != nil || !reflect.DeepEqual(peer.EAD, fields[2]) {
		t.Fatalf("%v, %v", peer, err)
	}
	m3, err := i.Message3(b.ead3...)
	if err != nil {
		t.Fatal(err)
	}
	peer, err = r.Message3(m3)
	if err != nil || !reflect.DeepEqual(peer.EAD, fields[3]) {
		t.Fatalf("%v, %v", peer, err)
	}
	m4, err := r.Message4(b.ead4...)
	if err != nil {
		t.Fatal(err)
	}
	ead4, err := i.Message4(m4)
	if err != nil || !reflect.DeepEqual(ead4, fields[4]) {
		t.Fatalf("%v, %v", ead4, err)
	}
	if want := map[string]int{"r1": 1, "i2": 1, "r3": 1, "i4": 1}; !reflect.DeepEqual(asked, want) {
		t.Fatalf("asked %v", asked)
	}
}

// TestLongPlaintext2: beyond one HKDF-Expand the keystream goes on (RFC 9528, Appendix G).
func TestLongPlaintext2(t *testing.T) {
	for _, id := range []int{2, 24} {
		b := newBench(t, SignatureSignature, id)
		b.initCfg.MaxMessageSize, b.respCfg.MaxMessageSize = 1<<17, 1<<17
		h := b.through(t, 1)
		if _, err := h.r.Message1(h.m1); err != nil {
			t.Fatal(err)
		}
		limit := 255 * b.suite.Hash.Size()
		m2, err := h.r.Message2(mustPadding(t, 2*limit+100)...)
		if err != nil {
			t.Fatal(err)
		}
		if len(m2) < 2*limit {
			t.Fatalf("message_2 has %d bytes", len(m2))
		}
		if _, err := h.i.Message2(m2); err != nil {
			t.Fatal(err)
		}
		// Each part is EDHOC_KDF with the label -i, and the first one is what a short plaintext has.
		prk, th := bytes.Repeat([]byte{1}, b.suite.Hash.Size()), bytes.Repeat([]byte{2}, b.suite.Hash.Size())
		v := &vault{}
		want := append(append(b.suite.kdf(v, prk, 0, th, limit), b.suite.kdf(v, prk, -1, th, limit)...), b.suite.kdf(v, prk, -2, th, 3)...)
		if !bytes.Equal(b.suite.keystream2(v, prk, th, 2*limit+3), want) {
			t.Fatal("keystream")
		}
	}
}
