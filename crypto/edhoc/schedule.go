// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto/hkdf"
)

// Labels of EDHOC_KDF (RFC 9528, 4.1.2 and Appendix H).
const (
	labelKeystream2  = 0
	labelSalt3e2m    = 1
	labelMAC2        = 2
	labelK3          = 3
	labelIV3         = 4
	labelSalt4e3m    = 5
	labelMAC3        = 6
	labelPRKOut      = 7
	labelK4          = 8
	labelIV4         = 9
	labelPRKExporter = 10
	labelKeyUpdate   = 11
)

// kdfInfo is the info argument of EDHOC_Expand.
func kdfInfo(label any, context []byte, length int) []byte {
	if context == nil {
		context = []byte{} // h'', not null
	}
	return sequence(label, context, length)
}

// kdf is EDHOC_KDF (RFC 9528, 4.1.2). length is at most 255 times the hash length: callers see to that.
func (s Suite) kdf(v *vault, prk []byte, label any, context []byte, length int) []byte {
	out, err := hkdf.Expand(s.Hash.new(), prk, string(kdfInfo(label, context, length)), length)
	if err != nil {
		// Only a length beyond the limit or a short key in FIPS mode can bring us here, and neither occurs.
		panic("edhoc: hkdf: " + err.Error())
	}
	return v.keep(out)
}

// extract is EDHOC_Extract (RFC 9528, 4.1.1).
func (s Suite) extract(v *vault, salt, ikm []byte) []byte {
	out, err := hkdf.Extract(s.Hash.new(), ikm, salt)
	if err != nil {
		panic("edhoc: hkdf: " + err.Error()) // as in kdf
	}
	return v.keep(out)
}

// transcript is H(sequence), for TH_2, TH_3 and TH_4.
func (s Suite) transcript(values ...any) []byte { return s.Hash.sum(sequence(values...)) }

// keystream2 is KEYSTREAM_2 (RFC 9528, 4.1.2); beyond the length of one HKDF-Expand it goes on with the labels -1, -2
// and so on (Appendix G).
func (s Suite) keystream2(v *vault, prk2e, th2 []byte, length int) []byte {
	out := v.keep(make([]byte, length))
	for i, rest := 0, out; len(rest) > 0; i++ {
		n := min(255*s.Hash.Size(), len(rest))
		copy(rest, s.kdf(v, prk2e, labelKeystream2-i, th2, n))
		rest = rest[n:]
	}
	return out
}

// saltPRK derives the PRK that a static Diffie-Hellman key is mixed into: PRK_3e2m and PRK_4e3m (RFC 9528, 4.1.1).
func (s Suite) saltPRK(v *vault, prk []byte, label int, th, secret []byte) []byte {
	return s.extract(v, s.kdf(v, prk, label, th, s.Hash.Size()), secret)
}

// seal makes CIPHERTEXT_3 or CIPHERTEXT_4 (RFC 9528, 5.4.2 and 5.5.2).
func (s Suite) seal(v *vault, prk []byte, message int, th, plaintext []byte) ([]byte, *Error) {
	key, iv := s.messageKeys(v, prk, message, th)
	a, err := s.AEAD.open(key)
	if err != nil {
		return nil, fail(CheckLocal, "AEAD: %w", err)
	}
	return a.Seal(nil, iv, plaintext, encStructure(th)), nil
}

// unseal opens CIPHERTEXT_3 or CIPHERTEXT_4.
func (s Suite) unseal(v *vault, prk []byte, message int, th, ciphertext []byte) ([]byte, *Error) {
	key, iv := s.messageKeys(v, prk, message, th)
	a, err := s.AEAD.open(key)
	if err != nil {
		return nil, fail(CheckLocal, "AEAD: %w", err)
	}
	plaintext, err := a.Open(nil, iv, ciphertext, encStructure(th))
	if err != nil {
		return nil, fail(CheckAEAD, "the ciphertext does not open")
	}
	return v.keep(plaintext), nil
}

// messageKeys gives K_3 and IV_3, or K_4 and IV_4.
func (s Suite) messageKeys(v *vault, prk []byte, message int, th []byte) (key, iv []byte) {
	kl, il := labelK3, labelIV3
	if message == 4 {
		kl, il = labelK4, labelIV4
	}
	kn, in, _, _ := s.AEAD.lengths()
	return s.kdf(v, prk, kl, th, kn), s.kdf(v, prk, il, th, in)
}

// encStructure is the Enc_structure of COSE_Encrypt0 with an empty protected header (RFC 9052, 5.3; RFC 9528, C.3).
func encStructure(th []byte) []byte {
	return sequence([]any{"Encrypt0", []byte{}, th})
}
