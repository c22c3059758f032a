// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

func TestSigningKey(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m := openAt(t, p, Options{})
	key := must(m.CreateSigningKey(ctx, nil))(t)
	pub := key.Public().(*ecdsa.PublicKey)
	if pub.Params().Name != "P-384" || key.Hash() != crypto.SHA384 {
		t.Fatalf("%s with %v", pub.Params().Name, key.Hash())
	}
	digest := sha512.Sum384([]byte("message"))
	check := func(name string, k *SigningKey) {
		t.Helper()
		for _, opts := range []crypto.SignerOpts{nil, crypto.SHA384} {
			sig, err := k.Sign(rand.Reader, digest[:], opts)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !ecdsa.VerifyASN1(pub, digest[:], sig) {
				t.Fatalf("%s: signature does not verify", name)
			}
		}
	}
	check("created", key)
	parsed := must(m.ParseSigningKey(key.PEM(), nil))(t)
	check("parsed", parsed)
	if !bytes.Equal(parsed.PEM(), key.PEM()) {
		t.Error("the PEM changes when it is read and written")
	}

	const handle = 0x81000010
	persistent := must(parsed.Persist(ctx, handle))(t)
	check("persistent", persistent)
	_, err := key.Persist(ctx, handle)
	wantError(t, err, ErrHandleInUse)
	opened := must(m.OpenSigningKey(ctx, handle, nil))(t)
	check("opened", opened)
	if opened.PEM() != nil {
		t.Error("a key without its blob gives a PEM")
	}
	if err := opened.Evict(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = m.OpenSigningKey(ctx, handle, nil)
	wantError(t, err, ErrNoObject)
	_, err = persistent.Sign(nil, digest[:], nil)
	wantError(t, err, ErrNoObject)
	if err := key.Evict(ctx); err != nil {
		t.Errorf("evict a key that is not persistent: %v", err)
	}

	short := sha256.Sum256(nil)
	_, err = key.Sign(nil, short[:], nil)
	wantError(t, err, ErrHash)
	_, err = key.Sign(nil, short[:], crypto.SHA256)
	wantError(t, err, ErrHash)

	// The SRK itself is no signing key, and neither is an ECDH key's blob.
	_, err = m.OpenSigningKey(ctx, DefaultSRKHandle, nil)
	wantError(t, err, ErrObject)
	exchange := must(m.CreateExchangeKey(ctx, nil))(t)
	_, err = m.ParseSigningKey(exchange.PEM(), nil)
	wantError(t, err, ErrObject)
	wantNoHandles(t, m)
}

func TestExchangeKey(t *testing.T) {
	ctx := t.Context()
	m := fresh(t)
	key := must(m.CreateExchangeKey(ctx, nil))(t)
	if key.Curve() != ecdh.P384() || key.PublicKey().Curve() != ecdh.P384() {
		t.Fatal("not on P-384")
	}
	peer := must(ecdh.P384().GenerateKey(rand.Reader))(t)
	want := must(peer.ECDH(key.PublicKey()))(t)
	parsed := must(m.ParseExchangeKey(key.PEM(), nil))(t)
	for _, k := range []*ExchangeKey{key, parsed} {
		if got := must(k.ECDH(peer.PublicKey()))(t); !bytes.Equal(got, want) {
			t.Fatalf("shared secret %x, want %x", got, want)
		}
	}

	other := must(ecdh.P256().GenerateKey(rand.Reader))(t)
	_, err := key.ECDH(other.PublicKey())
	wantError(t, err, ErrCurve)
	signing := must(m.CreateSigningKey(ctx, nil))(t)
	_, err = m.ParseExchangeKey(signing.PEM(), nil)
	wantError(t, err, ErrObject)
	wantNoHandles(t, m)
}

// TestExchangeLeadingZero looks for a peer with which the shared x coordinate
// begins with a zero byte, which must not be lost.
func TestExchangeLeadingZero(t *testing.T) {
	m := fresh(t)
	key := must(m.CreateExchangeKey(t.Context(), nil))(t)
	for {
		peer := must(ecdh.P384().GenerateKey(rand.Reader))(t)
		want := must(peer.ECDH(key.PublicKey()))(t)
		if want[0] != 0 {
			continue
		}
		if got := must(key.ECDH(peer.PublicKey()))(t); !bytes.Equal(got, want) {
			t.Fatalf("shared secret %x, want %x", got, want)
		}
		return
	}
}

func TestLeftPad(t *testing.T) {
	for _, tc := range []struct {
		in   []byte
		size int
		want []byte
	}{
		{nil, 2, []byte{0, 0}},
		{[]byte{1}, 3, []byte{0, 0, 1}},
		{[]byte{1, 2, 3}, 3, []byte{1, 2, 3}},
	} {
		if got := must(leftPad(tc.in, tc.size))(t); !bytes.Equal(got, tc.want) {
			t.Errorf("leftPad(%x, %d) = %x", tc.in, tc.size, got)
		}
	}
	if _, err := leftPad(make([]byte, 4), 3); !errors.Is(err, ErrProtocol) {
		t.Errorf("too long: %v", err)
	}
}

func TestHPKE(t *testing.T) {
	m := fresh(t)
	key := must(m.CreateExchangeKey(t.Context(), nil))(t)
	private := must(hpke.NewDHKEMPrivateKey(key))(t)
	public := must(hpke.NewDHKEMPublicKey(key.PublicKey()))(t)
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA384(), hpke.AES256GCM(), []byte("info"))
	if err != nil {
		t.Fatal(err)
	}
	ct := must(sender.Seal([]byte("aad"), []byte("text")))(t)
	recipient := must(hpke.NewRecipient(enc, private, hpke.HKDFSHA384(), hpke.AES256GCM(), []byte("info")))(t)
	if pt := must(recipient.Open([]byte("aad"), ct))(t); string(pt) != "text" {
		t.Fatalf("%q", pt)
	}
	a, b := must(sender.Export("x", 48))(t), must(recipient.Export("x", 48))(t)
	if !bytes.Equal(a, b) {
		t.Fatal("exports differ")
	}
}

func TestSeal(t *testing.T) {
	ctx := t.Context()
	m := fresh(t)
	for _, n := range []int{1, 32, MaxSealed} {
		secret := make([]byte, n)
		_, _ = rand.Read(secret)
		sealer := Sealer{TPM: m}
		blob := must(sealer.Seal(secret))(t)
		if got := must(sealer.Unseal(blob))(t); !bytes.Equal(got, secret) {
			t.Fatalf("%d bytes: %x, want %x", n, got, secret)
		}
	}
	for _, n := range []int{0, MaxSealed + 1} {
		_, err := m.Seal(ctx, make([]byte, n), nil)
		wantError(t, err, ErrTooLong)
	}
	signing := must(m.CreateSigningKey(ctx, nil))(t)
	_, err := m.Unseal(ctx, signing.PEM(), nil)
	wantError(t, err, ErrObject)
	wantNoHandles(t, m)
}

// TestP256 is a TPM whose answer to "P-384 with SHA-384?" is no.
func TestP256(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	l := &tap{link: must(openLink("unix:"+p.Socket, Options{CommandTimeout: 1e10}.CommandTimeout))(t)}
	l.before = func(c []byte) ([]byte, []byte, error) {
		if commandOf(c) == uint32(tpm2.TPMCCTestParms) && bytes.Contains(c, []byte{0, 0x18, 0, 0x0C, 0, 4}) {
			return nil, refuse(0x1C0 | 0x26), nil // TPM_RC_CURVE, parameter 1
		}
		return c, nil, nil
	}
	m := must(open(ctx, l, Options{}))(t)
	defer m.Close()
	if m.Info().P384 || m.Curve() != ecdh.P256() {
		t.Fatalf("%+v", m.Info())
	}
	key := must(m.CreateSigningKey(ctx, nil))(t)
	digest := sha256.Sum256([]byte("message"))
	sig := must(key.Sign(nil, digest[:], crypto.SHA256))(t)
	if pub := key.Public().(*ecdsa.PublicKey); pub.Params().Name != "P-256" || !ecdsa.VerifyASN1(pub, digest[:], sig) {
		t.Fatal("signature does not verify")
	}
	exchange := must(m.CreateExchangeKey(ctx, nil))(t)
	peer := must(ecdh.P256().GenerateKey(rand.Reader))(t)
	if !bytes.Equal(must(exchange.ECDH(peer.PublicKey()))(t), must(peer.ECDH(exchange.PublicKey()))(t)) {
		t.Fatal("shared secrets differ")
	}
}

// TestWeakSessions is a TPM without AES-256: sessions fall back to AES-128.
func TestWeakSessions(t *testing.T) {
	p := emulator(t)
	l := &tap{link: must(openLink("unix:"+p.Socket, 1e10))(t)}
	l.before = func(c []byte) ([]byte, []byte, error) {
		if commandOf(c) == uint32(tpm2.TPMCCTestParms) && bytes.Contains(c, []byte{0, 0x25}) {
			return nil, refuse(0x1C0 | 0x16), nil // TPM_RC_SYMMETRIC, parameter 1
		}
		return c, nil, nil
	}
	m := must(open(t.Context(), l, Options{}))(t)
	defer m.Close()
	if m.Info().AES256 {
		t.Fatal("AES-256 found")
	}
	sealer := Sealer{TPM: m}
	if got := must(sealer.Unseal(must(sealer.Seal([]byte("secret")))(t)))(t); string(got) != "secret" {
		t.Fatalf("%q", got)
	}
}
