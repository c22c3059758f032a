// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"io"

	"github.com/veraison/go-cose"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// statement is what one side authenticates in message_2 or message_3 (RFC 9528, 5.3.2 and 5.4.2).
type statement struct {
	message int    // 2 or 3
	static  bool   // authenticated by a static Diffie-Hellman key
	cR      []byte // C_R as encoded, only in message_2
	idCred  []byte // ID_CRED_x, the map
	th      []byte // TH_2 or TH_3
	cred    []byte // CRED_x, one encoded data item
	ead     []byte // EAD_x as encoded, with its padding
}

// context is context_2 or context_3.
func (st *statement) context() []byte {
	b := append([]byte(nil), st.cR...)
	b = append(b, st.idCred...)
	b = append(b, sequence(st.th)...)
	b = append(b, st.cred...)
	return append(b, st.ead...)
}

// externalAAD is the external_aad of the COSE_Sign1.
func (st *statement) externalAAD() []byte {
	return append(append(sequence(st.th), st.cred...), st.ead...)
}

// mac is MAC_2 or MAC_3, made from PRK_3e2m or PRK_4e3m.
func (st *statement) mac(s Suite, v *vault, prk []byte) []byte {
	label := labelMAC2
	if st.message == 3 {
		label = labelMAC3
	}
	n := s.Hash.Size()
	if st.static {
		n = s.MACLength
	}
	return s.kdf(v, prk, label, st.context(), n)
}

// sign1 is the COSE_Sign1 whose signature is Signature_or_MAC_x. RawProtected carries << ID_CRED_x >> as it is, so that
// both sides sign the bytes on the wire. The algorithm is not in the header: it comes with the cipher suite.
func (st *statement) sign1(mac, signature []byte) *cose.Sign1Message {
	return &cose.Sign1Message{
		Headers:   cose.Headers{RawProtected: sequence(st.idCred)},
		Payload:   mac,
		Signature: signature,
	}
}

// prove makes Signature_or_MAC_x.
func (st *statement) prove(s Suite, v *vault, prk []byte, signer crypto.Signer) ([]byte, *Error) {
	mac := st.mac(s, v, prk)
	if st.static {
		return mac, nil
	}
	m := st.sign1(mac, nil)
	if err := m.Sign(rand.Reader, st.externalAAD(), keySigner{s.Signature, signer}); err != nil {
		return nil, fail(CheckLocal, "sign: %w", err)
	}
	return m.Signature, nil
}

// verify checks the Signature_or_MAC_x of a peer.
func (st *statement) verify(s Suite, v *vault, prk []byte, key crypto.PublicKey, value []byte) *Error {
	mac := st.mac(s, v, prk)
	if st.static {
		if len(value) != len(mac) {
			return fail(CheckAuthLength, "MAC of %d bytes, the cipher suite has %d", len(value), len(mac))
		}
		if subtle.ConstantTimeCompare(value, mac) != 1 {
			return fail(CheckMAC, "the MAC does not match")
		}
		return nil
	}
	if len(value) != s.Signature.length() {
		return fail(CheckAuthLength, "signature of %d bytes, the algorithm has %d", len(value), s.Signature.length())
	}
	verifier, err := cose.NewVerifier(s.Signature.cose(), key)
	if err != nil {
		return fail(CheckCredentialKey, "%w", err)
	}
	if err := st.sign1(mac, value).Verify(st.externalAAD(), verifier); err != nil {
		return fail(CheckSignature, "the signature does not verify")
	}
	return nil
}

// keySigner signs for COSE with any crypto.Signer. go-cose has such an adapter, but it passes no options to the signer,
// and hardware signers ask their options for the hash.
type keySigner struct {
	alg Signature
	key crypto.Signer
}

func (k keySigner) Algorithm() cose.Algorithm { return k.alg.cose() }

func (k keySigner) Sign(random io.Reader, content []byte) ([]byte, error) {
	h := k.alg.hashFunc()
	if h == 0 {
		sig, err := k.key.Sign(random, content, crypto.Hash(0))
		if err == nil && len(sig) != k.alg.length() {
			err = errors.New("signer gave a signature of the wrong length")
		}
		return sig, err
	}
	d := h.New()
	d.Write(content)
	der, err := k.key.Sign(random, d.Sum(nil), h)
	if err != nil {
		return nil, err
	}
	return rawSignature(der, k.alg.length())
}

// rawSignature turns an ASN.1 ECDSA signature into r || s of n bytes (RFC 9053, 2.1).
func rawSignature(der []byte, n int) ([]byte, error) {
	var seq cryptobyte.String
	in := cryptobyte.String(der)
	out := make([]byte, n)
	var r, s []byte
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadASN1Integer(&r) || !seq.ReadASN1Integer(&s) || !seq.Empty() ||
		len(r) > n/2 || len(s) > n/2 {
		return nil, errors.New("signer gave no ECDSA signature of the curve")
	}
	copy(out[n/2-len(r):], r)
	copy(out[n-len(s):], s)
	return out, nil
}
