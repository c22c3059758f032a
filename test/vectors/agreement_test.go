// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	stdhpke "crypto/hpke"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math/big"
	"strings"
	"testing"
)

// suite is what goes with a KEM.
type suite struct {
	curve ecdh.Curve
	ec    elliptic.Curve
	hash  func() hash.Hash // of the KEM and of the identities' signatures
	alg   []byte           // ES384 (-35) or ES256 (-7) in CBOR
}

func suiteOf(t *testing.T, kem uint16) suite {
	t.Helper()
	switch kem {
	case 0x0011:
		return suite{ecdh.P384(), elliptic.P384(), sha512.New384, []byte{0x38, 0x22}}
	case 0x0010:
		return suite{ecdh.P256(), elliptic.P256(), sha256.New, []byte{0x26}}
	}
	t.Fatalf("KEM %#x", kem)
	return suite{}
}

func digest(h func() hash.Hash, b []byte) []byte {
	d := h()
	d.Write(b)
	return d.Sum(nil)
}

// checkIdentity: kid and public key are those of the private key.
func checkIdentity(t *testing.T, s suite, who, private, public, kid string) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(s.ec, unhex(t, private))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	same(t, who+"_public", public, der)
	same(t, who+"_kid", kid, digest(sha256.New, der)[:8])
	return &key.PublicKey
}

// checkSigned: msg is a tagged COSE_Sign1 over payload, with alg and kid in the protected header, and its signature verifies.
func checkSigned(t *testing.T, s suite, what string, key *ecdsa.PublicKey, kid []byte, payload []byte, msg string) {
	t.Helper()
	protected := join([]byte{0xA2, 0x01}, s.alg, []byte{0x04}, cborBytes(kid))
	front := join([]byte{0xD2, 0x84}, cborBytes(protected), []byte{0xA0}, cborBytes(payload))
	size := (s.ec.Params().BitSize + 7) / 8
	b := unhex(t, msg)
	if len(b) <= 2*size {
		t.Fatalf("%s has %d bytes", what, len(b))
	}
	sig := b[len(b)-2*size:]
	same(t, what, msg, join(front, cborBytes(sig)))
	signed := cborArray(cborText("Signature1"), cborBytes(protected), cborBytes(nil), cborBytes(payload))
	r, v := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
	if !ecdsa.Verify(key, digest(s.hash, signed), r, v) {
		t.Errorf("signature of %s does not verify", what)
	}
}

func TestAgreements(t *testing.T) {
	for _, c := range committed(t).Agreements {
		t.Run(c.Name, func(t *testing.T) {
			s := suiteOf(t, c.KEM)
			if c.KDF != 2 || c.AEAD != 2 {
				t.Errorf("KDF %#x, AEAD %#x", c.KDF, c.AEAD)
			}
			same(t, "info", c.Info, []byte("cellward v1 hpke"))
			gateway := checkIdentity(t, s, "gateway", c.GatewayPrivate, c.GatewayPublic, c.GatewayKid)
			node := checkIdentity(t, s, "node", c.NodePrivate, c.NodePublic, c.NodeKid)

			private, err := s.curve.NewPrivateKey(unhex(t, c.OfferPrivate))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "offer_public", c.OfferPublic, private.PublicKey().Bytes())
			ephemeral, err := s.curve.NewPrivateKey(unhex(t, c.EphemeralPrivate))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "enc", c.Enc, ephemeral.PublicKey().Bytes())

			offer := cborArray(cborText("cellward offer 1"), cborBytes(unhex(t, c.OfferID)), cborBytes(unhex(t, c.GatewayKid)),
				cborBytes(unhex(t, c.NodeKid)), cborUint(uint64(c.Epoch)), cborUint(uint64(c.KEM)),
				cborBytes(private.PublicKey().Bytes()), cborBytes(unhex(t, c.BindingHash)))
			same(t, "offer_payload", c.OfferPayload, offer)
			checkSigned(t, s, "offer", gateway, unhex(t, c.GatewayKid), offer, c.Offer)
			offerHash := digest(sha512.New384, unhex(t, c.Offer))
			same(t, "offer_hash", c.OfferHash, offerHash)
			fingerprint := hex.EncodeToString(digest(sha256.New, unhex(t, c.Offer)))
			if strings.ReplaceAll(c.Fingerprint, " ", "") != fingerprint || len(strings.Fields(c.Fingerprint)) != 16 {
				t.Errorf("fingerprint is %s, but by its description %s", c.Fingerprint, fingerprint)
			}

			plain := cborArray(cborUint(uint64(c.NodeFloor)), cborUint(c.FirstCounter), cborBytes(unhex(t, c.Start)))
			same(t, "plaintext", c.Plaintext, plain)
			same(t, "ct", c.CT, gcm(t, unhex(t, c.Key)).Seal(nil, unhex(t, c.BaseNonce), plain, offerHash))
			reply := cborArray(cborText("cellward reply 1"), cborBytes(offerHash), cborBytes(unhex(t, c.Enc)), cborBytes(unhex(t, c.CT)))
			same(t, "reply_payload", c.ReplyPayload, reply)
			same(t, "payload_hash", c.PayloadHash, digest(sha512.New384, reply))
			checkSigned(t, s, "reply", node, unhex(t, c.NodeKid), reply, c.Reply)
			same(t, "exporter_context", c.ExporterContext, join([]byte("cellward v1 epoch"), offerHash))

			checkHPKE(t, s, &c, private, ephemeral)
			checkLibrary(t, &c, private)
		})
	}
}

// TestAgreementsAreUsable: the numbers of each agreement are ones that both sides take.
func TestAgreementsAreUsable(t *testing.T) {
	for _, c := range committed(t).Agreements {
		if c.NodeFloor >= c.Epoch || !rangeOK(1, c.FirstCounter) || len(unhex(t, c.Start)) != 16 || len(unhex(t, c.PRK)) != 48 ||
			len(unhex(t, c.OfferID)) != 16 || len(unhex(t, c.BindingHash)) != 32 {
			t.Errorf("%s: no such agreement is possible", c.Name)
		}
	}
}

// checkHPKE computes the sender's side of RFC 9180 with nothing but HMAC.
func checkHPKE(t *testing.T, s suite, c *agreement, private, ephemeral *ecdh.PrivateKey) {
	t.Helper()
	dh, err := ephemeral.ECDH(private.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	be := func(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
	hm := func(h func() hash.Hash, key []byte, parts ...[]byte) []byte {
		m := hmac.New(h, key)
		m.Write(join(parts...))
		return m.Sum(nil)
	}
	extract := func(h func() hash.Hash, suite, salt []byte, label string, ikm []byte) []byte {
		return hm(h, salt, []byte("HPKE-v1"), suite, []byte(label), ikm)
	}
	expand := func(h func() hash.Hash, suite, prk []byte, label string, info []byte, n int) []byte {
		// Never more than one block is asked for.
		return hm(h, prk, be(n), []byte("HPKE-v1"), suite, []byte(label), info, []byte{1})[:n]
	}
	kem := join([]byte("KEM"), be(int(c.KEM)))
	shared := expand(s.hash, kem, extract(s.hash, kem, nil, "eae_prk", dh), "shared_secret",
		join(ephemeral.PublicKey().Bytes(), private.PublicKey().Bytes()), s.hash().Size())
	same(t, "shared_secret", c.SharedSecret, shared)

	h, id := sha512.New384, join([]byte("HPKE"), be(int(c.KEM)), be(2), be(2))
	context := join([]byte{0}, extract(h, id, nil, "psk_id_hash", nil), extract(h, id, nil, "info_hash", []byte("cellward v1 hpke")))
	secret := extract(h, id, shared, "secret", nil)
	exporter := expand(h, id, secret, "exp", context, 48)
	same(t, "key", c.Key, expand(h, id, secret, "key", context, 32))
	same(t, "base_nonce", c.BaseNonce, expand(h, id, secret, "base_nonce", context, 12))
	same(t, "exporter_secret", c.ExporterSecret, exporter)
	same(t, "prk", c.PRK, expand(h, id, exporter, "sec", unhex(t, c.ExporterContext), 48))
}

// checkLibrary takes the reply with the standard library's HPKE.
func checkLibrary(t *testing.T, c *agreement, private *ecdh.PrivateKey) {
	t.Helper()
	key, err := stdhpke.NewDHKEMPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	r, err := stdhpke.NewRecipient(unhex(t, c.Enc), key, stdhpke.HKDFSHA384(), stdhpke.AES256GCM(), unhex(t, c.Info))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := r.Open(unhex(t, c.OfferHash), unhex(t, c.CT))
	if err != nil || !bytes.Equal(plain, unhex(t, c.Plaintext)) {
		t.Errorf("the library opens %x, %v", plain, err)
	}
	prk, err := r.Export(string(unhex(t, c.ExporterContext)), 48)
	if err != nil || !bytes.Equal(prk, unhex(t, c.PRK)) {
		t.Errorf("the library exports %x, %v", prk, err)
	}
}
