// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// The ids of the one KDF and AEAD that offers use (RFC 9180, 7.2 and 7.3).
const (
	kdfSHA384  = 0x0002
	aeadAES256 = 0x0002
)

// hpke is the recipient's side of RFC 9180 in base mode, written out so that its intermediate values can be published: the
// library keeps them to itself.
type hpke struct {
	shared, key, baseNonce, exporter []byte
}

func newHPKE(kem uint16, private *ecdh.PrivateKey, enc []byte) (*hpke, error) {
	public, err := private.Curve().NewPublicKey(enc)
	if err != nil {
		return nil, fmt.Errorf("read encapsulated key: %w", err)
	}
	dh, err := private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("exchange: %w", err)
	}
	// 4.1: P-384 goes with HKDF-SHA384 and P-256 with HKDF-SHA256 inside the KEM.
	inner := labelled{new: sha512.New384, suite: binary.BigEndian.AppendUint16([]byte("KEM"), kem)}
	size := sha512.Size384
	if private.Curve() == ecdh.P256() {
		inner.new, size = sha256.New, sha256.Size
	}
	h := new(hpke)
	h.shared = inner.expand(inner.extract(nil, "eae_prk", dh), "shared_secret", append(append([]byte{}, enc...), private.PublicKey().Bytes()...), size)

	// 5.1: mode_base, no PSK.
	suite := binary.BigEndian.AppendUint16([]byte("HPKE"), kem)
	suite = binary.BigEndian.AppendUint16(suite, kdfSHA384)
	suite = binary.BigEndian.AppendUint16(suite, aeadAES256)
	outer := labelled{new: sha512.New384, suite: suite}
	context := append([]byte{0}, outer.extract(nil, "psk_id_hash", nil)...)
	context = append(context, outer.extract(nil, "info_hash", []byte(hpkeInfo))...)
	secret := outer.extract(h.shared, "secret", nil)
	h.key = outer.expand(secret, "key", context, 32)
	h.baseNonce = outer.expand(secret, "base_nonce", context, 12)
	h.exporter = outer.expand(secret, "exp", context, sha512.Size384)
	return h, errors.Join(inner.err, outer.err)
}

// open opens the first message, whose nonce is the base nonce.
func (h *hpke) open(aad, ct []byte) ([]byte, error) {
	block, err := aes.NewCipher(h.key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, h.baseNonce, ct, aad)
}

// labelled is LabeledExtract and LabeledExpand of RFC 9180, 4. The first error stays.
type labelled struct {
	new   func() hash.Hash
	suite []byte
	err   error
}

func (l *labelled) extract(salt []byte, label string, ikm []byte) []byte {
	in := append([]byte("HPKE-v1"), l.suite...)
	in = append(append(in, label...), ikm...)
	out, err := hkdf.Extract(l.new, in, salt)
	l.err = errors.Join(l.err, err)
	return out
}

func (l *labelled) expand(prk []byte, label string, info []byte, size int) []byte {
	in := binary.BigEndian.AppendUint16(nil, uint16(size))
	in = append(append(append(in, "HPKE-v1"...), l.suite...), label...)
	out, err := hkdf.Expand(l.new, prk, string(append(in, info...)), size)
	l.err = errors.Join(l.err, err)
	return out
}
