// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"errors"
	"testing"
)

// refusal demands that an error is a refusal of the given message by a check that is not about ourselves.
func refusal(t *testing.T, err error, message int) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Message != message || e.Check == CheckLocal || e.Section() == "" {
		t.Fatalf("%v", err)
	}
}

// fuzzBench is quick: X25519.
func fuzzBench(t testing.TB, method Method) *bench {
	b := newBench(t, method, 0)
	b.initCfg.EADLabels, b.respCfg.EADLabels = []int64{5}, []int64{5}
	return b
}

func FuzzMessage1(f *testing.F) {
	for _, id := range []int{0, 2, 24, -24} {
		h := newBench(f, SignatureSignature, id).through(f, 1)
		f.Add(h.m1)
		f.Add(append(bytes.Clone(h.m1), 0x24, 0x41, 0x01, 0x00))
	}
	b := newBench(f, SignatureSignature, 2)
	other := newBench(f, SignatureSignature, 24)
	b.respCfg.Suites = append(b.respCfg.Suites, mustSuite(f, -24), mustSuite(f, 24))
	b.respCfg.Identities = append(b.respCfg.Identities, other.r.identities()...)
	b.respCfg.EADLabels = []int64{5}
	f.Fuzz(func(t *testing.T, msg []byte) {
		r := b.responder(t)
		offer, err := r.Message1(msg)
		if err != nil {
			refusal(t, err, 1)
			if r.State() != StateStart {
				t.Fatalf("state %v", r.State())
			}
			return
		}
		// What was accepted is said in one way only: made again from its parts it is the same message.
		again := sequence(int(offer.Method), raw(encodeSuites(offer.Suites)), r.gX, raw(encodeIdentifier(offer.ConnectionID)))
		if !bytes.HasPrefix(msg, again) {
			t.Fatalf("%x accepted, its parts make %x", msg, again)
		}
	})
}

func FuzzMessage2(f *testing.F) {
	b := fuzzBench(f, SignatureSignature)
	h := b.through(f, 2)
	f.Add(h.m2)
	f.Add([]byte{0x41, 0x00})
	f.Add(sequence(1, "x"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if bytes.Equal(msg, h.m2) {
			return
		}
		_, err := h.i.Message2(msg)
		refusal(t, err, 2)
		if h.i.State() != StateWaitMessage2 {
			t.Fatalf("state %v", h.i.State())
		}
	})
}

func FuzzMessage3(f *testing.F) {
	b := fuzzBench(f, SignatureSignature)
	h := b.through(f, 3)
	f.Add(h.m3)
	f.Add([]byte{0x40})
	f.Fuzz(func(t *testing.T, msg []byte) {
		if bytes.Equal(msg, h.m3) {
			return
		}
		_, err := h.r.Message3(msg)
		refusal(t, err, 3)
		if h.r.State() != StateWaitMessage3 {
			t.Fatalf("state %v", h.r.State())
		}
	})
}

func FuzzMessage4(f *testing.F) {
	b := fuzzBench(f, SignatureSignature)
	h := b.through(f, 4)
	f.Add(h.m4)
	f.Add([]byte{0x48, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, msg []byte) {
		if bytes.Equal(msg, h.m4) {
			return
		}
		_, err := h.i.Message4(msg)
		refusal(t, err, 4)
		if h.i.State() != StateCompleted {
			t.Fatalf("state %v", h.i.State())
		}
	})
}

// FuzzPlaintext goes behind the encryption: any plaintext of message_2, message_3 or message_4 from a peer who has the
// keys. message_2 and message_3 hold a signature, which no fuzzer finds; all that comes before it is reached.
func FuzzPlaintext(f *testing.F) {
	b := fuzzBench(f, SignatureSignature)
	h := b.through(f, 4)
	for _, p := range [][]byte{
		nil, {0x00}, {0x24, 0x41, 0x07}, {0x20}, {0x18, 0x41, 0x41, 0x40},
		sequence(raw{0x41, 0x18}, raw{0x41, 0x41}, make([]byte, 64), raw{0x24, 0x40, 0x00}),
		sequence(raw{0x2d}, map[int]any{34: []any{-15, make([]byte, 8)}}, make([]byte, 64)),
		sequence(raw{0x20}, make([]byte, 64), raw{0x05, 0x05}),
		sequence(map[int]any{33: []any{[]byte{1}, []byte{2}}}, make([]byte, 64)),
	} {
		for n := byte(2); n <= 4; n++ {
			f.Add(n, p)
		}
	}
	f.Fuzz(func(t *testing.T, n byte, plain []byte) {
		if len(plain) > DefaultMaxMessageSize-100 {
			return
		}
		switch n {
		case 2, 3:
			own := *b // newWorld gives it ephemeral keys
			w := newWorld(t, &own, int(n))
			msg := w.forged(int(n), func(_ *world, f *forgery) { f.plain = func([]byte) []byte { return plain } })
			refusal(t, w.deliver(&checkCase{message: int(n)}, msg), int(n))
		case 4:
			// Here there is no signature: whatever is a proper EAD field is accepted.
			// The Initiator works on a copy, so that the next input finds it as it was.
			i, c := *h.i, *h.i.core
			i.core, c.secrets, c.prk4e3m = &c, &vault{}, bytes.Clone(h.i.prk4e3m)
			ct, e := c.suite.seal(&vault{}, c.prk4e3m, 4, c.th4, plain)
			if e != nil {
				t.Fatal(e)
			}
			field, err := i.Message4(sequence(ct))
			if err != nil {
				refusal(t, err, 4)
				return
			}
			if _, err := encodeEAD(field); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzErrorMessage(f *testing.F) {
	for _, m := range []ErrorMessage{
		{Code: 1, Text: "x"}, {Code: 2, Suites: []int{0}}, {Code: 2, Suites: []int{2, 3}}, {Code: 3}, {Code: 9, Info: []byte{0xf6}},
	} {
		f.Add(m.Encode())
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		m, err := ParseError(msg)
		if err != nil {
			refusal(t, err, 0)
			return
		}
		if !IsError(msg) || m.Error() == "" {
			t.Fatal("an error message that does not look like one")
		}
		if again := m.Encode(); !bytes.Equal(again, msg) && m.Code != CodeWrongSuite {
			t.Fatalf("%x became %x", msg, again)
		}
	})
}

func FuzzEAD(f *testing.F) {
	for _, b := range [][]byte{{0x00}, {0x05, 0x41, 0x01}, {0x24}, {0x00, 0x40, 0x3a, 0x00, 0x00, 0xce, 0x10}, {0x05, 0x24}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, e := items(b)
		if e != nil {
			return
		}
		field, e := parseEAD(seq)
		if e != nil {
			refusal(t, e.at(1), 1)
			return
		}
		for _, item := range field {
			if item.Label <= 0 {
				t.Fatalf("%x gives %v", b, field)
			}
		}
		again, err := encodeEAD(field)
		if err != nil {
			t.Fatal(err)
		}
		if seq, e = items(again); e != nil {
			t.Fatal(e)
		}
		if _, e := parseEAD(seq); e != nil {
			t.Fatal(e)
		}
		if len(again) > len(b) {
			t.Fatalf("%x grew to %x", b, again)
		}
	})
}

func FuzzIDCred(f *testing.F) {
	for _, id := range []IDCred{ByKID([]byte{0x20}), ByKID([]byte("longer")), ByX5T(SHA256_64, nil), ByX5Chain([]byte{1}), ByX5Chain([]byte{1}, []byte{2})} {
		f.Add(id.wire())
	}
	f.Add([]byte{0xa1, 0x04, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, e := items(b)
		if e != nil || len(seq) != 1 {
			return
		}
		id, e := parseIDCred(seq[0])
		if e != nil {
			refusal(t, e.at(2), 2)
			return
		}
		if !bytes.Equal(id.wire(), b) {
			t.Fatalf("%x became %x", b, id.wire())
		}
	})
}

func FuzzCredential(f *testing.F) {
	for _, id := range []int{0, 2, 24} {
		p := newParty(f, mustSuite(f, id), "x", 1)
		f.Add(p.signCred.encoded)
		f.Add(p.dhCred.encoded)
		if id != 0 {
			f.Add(keyOps(f, p.signCred, 2).encoded)
			f.Add(selfSigned(f, p.signer, 0).cert.Raw)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCCS(b); err == nil {
			if !bytes.Equal(c.Bytes(), b) {
				t.Fatal("the bytes were not kept")
			}
			if c.key.sign == nil && c.key.exchange == nil && c.PublicKey() == nil {
				return // restricted to another purpose
			}
			for _, id := range []int{0, 2, 24} {
				s := mustSuite(t, id)
				_, _ = c.fits(s, true), c.fits(s, false)
			}
		}
		if c, err := NewCertificate(b); err == nil && !bytes.Equal(c.cert.Raw, b) {
			t.Fatalf("%x was taken for a certificate of other bytes", b)
		}
	})
}
