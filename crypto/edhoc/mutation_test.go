// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"testing"
)

// mutationBench is a suite 24 exchange that always gives the same bytes: fixed ephemeral keys, RFC 6979 signatures.
func mutationBench(t testing.TB) *bench {
	b := newBench(t, SignatureSignature, 24)
	b.tracking = true
	x, y := freshKey(t, b.suite), freshKey(t, b.suite)
	// Each session gets its own key object on the same key, so that one session's end does not reach the next.
	b.initCfg.Ephemeral = func(ecdh.Curve) (EphemeralKey, error) { return &fixedKey{PrivateKey: x.PrivateKey}, nil }
	b.respCfg.Ephemeral = func(ecdh.Curve) (EphemeralKey, error) { return &fixedKey{PrivateKey: y.PrivateKey}, nil }
	b.initCfg.Identities[0].Signer = deterministic{b.i.signer}
	b.respCfg.Identities[0].Signer = deterministic{b.r.signer}
	for _, cfg := range []*Config{&b.initCfg, &b.respCfg} {
		cfg.EADLabels = []int64{52753}
		cfg.KeepOnFailure = false
	}
	return b
}

// flips calls f with every single-bit flip of a message.
func flips(msg []byte, f func(bit int, bad []byte)) {
	for bit := range len(msg) * 8 {
		bad := bytes.Clone(msg)
		bad[bit/8] ^= 1 << (bit % 8)
		f(bit, bad)
	}
}

// refused demands a refusal by a check at the given message, an ended session and no secret left in it.
func (b *bench) refused(t *testing.T, bit, message int, err error, c *core) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Message != message || e.Check == CheckLocal {
		t.Fatalf("bit %d of message_%d: %v", bit, message, err)
	}
	if c.state != StateAborted || c.eph != nil {
		t.Fatalf("bit %d of message_%d: session in state %v after a refusal", bit, message, c.state)
	}
	b.noSecrets(t)
}

// noSecrets demands that every secret which either side ever held has been overwritten, and forgets them.
func (b *bench) noSecrets(t *testing.T) {
	t.Helper()
	for _, s := range b.tracked {
		for _, v := range s[:cap(s)] {
			if v != 0 {
				t.Fatalf("a secret of %d bytes was left behind", len(s))
			}
		}
	}
	b.tracked = b.tracked[:0]
}

// TestEverySingleBitFlip flips each bit of each message. The right side must refuse at the right message; flips of
// message_1 that the Responder cannot see are caught by the Initiator, whose transcript differs.
func TestEverySingleBitFlip(t *testing.T) {
	b := mutationBench(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	initiator := func() (*Initiator, []byte) {
		i := b.initiator(t)
		m1, err := i.Message1()
		must(err)
		return i, m1
	}
	responder := func(m1 []byte) (*Responder, []byte) {
		r := b.responder(t)
		_, err := r.Message1(m1)
		must(err)
		m2, err := r.Message2()
		must(err)
		return r, m2
	}
	ead3 := EAD{Label: 52753, Critical: true, Value: bytes.Repeat([]byte{0x5a}, 71)}
	ead4 := EAD{Label: 52753, Critical: true, Value: bytes.Repeat([]byte{0xa5}, 15)}

	i0, m1 := initiator()
	r0, m2 := responder(m1)
	_, err := i0.Message2(m2)
	must(err)
	m3, err := i0.Message3(ead3)
	must(err)
	_, err = r0.Message3(m3)
	must(err)
	m4, err := r0.Message4(ead4)
	must(err)
	_, err = i0.Message4(m4)
	must(err)
	i0.Close()
	r0.Close()
	b.noSecrets(t)

	seen, unseen := 0, 0
	flips(m1, func(bit int, bad []byte) {
		r := b.responder(t)
		if _, err := r.Message1(bad); err != nil {
			b.refused(t, bit, 1, err, r.core)
			seen++
			return
		}
		unseen++
		m2, err := r.Message2()
		must(err)
		r.Close()
		i, _ := initiator()
		_, err = i.Message2(m2)
		b.refused(t, bit, 2, err, i.core)
	})
	if seen == 0 || unseen == 0 {
		t.Fatalf("message_1: %d flips refused at once, %d by the transcript", seen, unseen)
	}
	t.Logf("message_1: %d bytes, %d flips refused by the Responder, %d by the Initiator at message_2", len(m1), seen, unseen)

	flips(m2, func(bit int, bad []byte) {
		i, again := initiator()
		if !bytes.Equal(again, m1) {
			t.Fatal("message_1 is not the same again")
		}
		_, err := i.Message2(bad)
		b.refused(t, bit, 2, err, i.core)
	})
	t.Logf("message_2: %d bytes, all flips refused by the Initiator", len(m2))

	flips(m3, func(bit int, bad []byte) {
		r, again := responder(m1)
		if !bytes.Equal(again, m2) {
			t.Fatal("message_2 is not the same again")
		}
		_, err := r.Message3(bad)
		b.refused(t, bit, 3, err, r.core)
	})
	t.Logf("message_3: %d bytes, all flips refused by the Responder", len(m3))

	flips(m4, func(bit int, bad []byte) {
		i, _ := initiator()
		_, err := i.Message2(m2)
		must(err)
		again, err := i.Message3(ead3)
		must(err)
		if !bytes.Equal(again, m3) {
			t.Fatal("message_3 is not the same again")
		}
		_, err = i.Message4(bad)
		b.refused(t, bit, 4, err, i.core)
	})
	t.Logf("message_4: %d bytes, all flips refused by the Initiator", len(m4))
}

// TestFlippedMessagesEndNothing goes through one exchange in which every message comes after many altered ones.
func TestFlippedMessagesEndNothing(t *testing.T) {
	for _, method := range []Method{SignatureSignature, StaticStatic} {
		b := newBench(t, method, 24)
		b.tracking = true
		i, r := b.initiator(t), b.responder(t)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		attack := func(msg []byte, process func([]byte) error) {
			t.Helper()
			n := 0
			flips(msg, func(bit int, bad []byte) {
				if bit%31 != 0 {
					return
				}
				n++
				if process(bad) == nil {
					t.Fatalf("bit %d passed", bit)
				}
			})
			if n == 0 {
				t.Fatal("nothing was tried")
			}
		}
		m1, err := i.Message1()
		must(err)
		// Only what breaks the form of message_1 can be seen: its flips in full are tested above.
		for _, bad := range [][]byte{nil, m1[:len(m1)-1], append([]byte{0x18}, m1...), append(bytes.Clone(m1), 0x41)} {
			if _, err := r.Message1(bad); err == nil {
				t.Fatalf("%x passed", bad)
			}
		}
		_, err = r.Message1(m1)
		must(err)
		m2, err := r.Message2()
		must(err)
		attack(m2, func(bad []byte) error { _, err := i.Message2(bad); return err })
		_, err = i.Message2(m2)
		must(err)
		m3, err := i.Message3()
		must(err)
		attack(m3, func(bad []byte) error { _, err := r.Message3(bad); return err })
		_, err = r.Message3(m3)
		must(err)
		m4, err := r.Message4()
		must(err)
		attack(m4, func(bad []byte) error { _, err := i.Message4(bad); return err })
		_, err = i.Message4(m4)
		must(err)
		si, err := i.Session()
		must(err)
		sr, err := r.Session()
		must(err)
		if !bytes.Equal(si.prkOut, sr.prkOut) {
			t.Fatal("PRK_out differs")
		}
		si.Close()
		sr.Close()
		i.Close()
		r.Close()
		b.noSecrets(t)
	}
}
