// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"github.com/pion/dtls/v3/pkg/crypto/ccm"
	"github.com/veraison/go-cose"
	"golang.org/x/crypto/chacha20poly1305"
)

// Method is the authentication method (RFC 9528, 3.2).
type Method int

// The four methods, Initiator first.
const (
	SignatureSignature Method = 0
	SignatureStatic    Method = 1
	StaticSignature    Method = 2
	StaticStatic       Method = 3
)

// InitiatorStatic reports whether the Initiator authenticates by a static Diffie-Hellman key.
func (m Method) InitiatorStatic() bool { return m == StaticSignature || m == StaticStatic }

// ResponderStatic reports whether the Responder authenticates by a static Diffie-Hellman key.
func (m Method) ResponderStatic() bool { return m == SignatureStatic || m == StaticStatic }

func (m Method) valid() bool { return m >= SignatureSignature && m <= StaticStatic }

// AEAD is a COSE AEAD algorithm number (RFC 9053, 4).
type AEAD int

// The AEAD algorithms of the supported suites.
const (
	A128GCM          AEAD = 1
	A256GCM          AEAD = 3
	AESCCM16_64_128  AEAD = 10
	ChaCha20Poly1305 AEAD = 24
	AESCCM16_128_128 AEAD = 30
)

// lengths gives key, nonce and tag length in bytes; ok is false for an algorithm this package does not have.
func (a AEAD) lengths() (key, nonce, tag int, ok bool) {
	switch a {
	case A128GCM:
		return 16, 12, 16, true
	case A256GCM:
		return 32, 12, 16, true
	case AESCCM16_64_128:
		return 16, 13, 8, true
	case ChaCha20Poly1305:
		return 32, 12, 16, true
	case AESCCM16_128_128:
		return 16, 13, 16, true
	}
	return 0, 0, 0, false
}

// KeyLength is the key length in bytes, 0 for an algorithm this package does not have.
func (a AEAD) KeyLength() int { k, _, _, _ := a.lengths(); return k }

// open makes the cipher. It fails only in Go's FIPS-140-only mode, which refuses caller-chosen nonces.
func (a AEAD) open(key []byte) (cipher.AEAD, error) {
	if a == ChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	_, nonce, tag, _ := a.lengths()
	if a == A128GCM || a == A256GCM {
		return cipher.NewGCM(block)
	}
	return ccm.NewCCM(block, tag, nonce)
}

// Hash is a COSE hash algorithm number (RFC 9054).
type Hash int

// The hash algorithms of the supported suites, and those of x5t.
const (
	SHA256_64 Hash = -15 // x5t only
	SHA256    Hash = -16
	SHA384    Hash = -43
	SHA512    Hash = -44 // x5t only
)

// Size is the output length in bytes.
func (h Hash) Size() int {
	switch h {
	case SHA256_64:
		return 8
	case SHA384:
		return 48
	case SHA512:
		return 64
	default:
		return 32
	}
}

func (h Hash) new() func() hash.Hash {
	switch h {
	case SHA384:
		return sha512.New384
	case SHA512:
		return sha512.New
	default:
		return sha256.New
	}
}

func (h Hash) sum(b []byte) []byte {
	d := h.new()()
	d.Write(b)
	return d.Sum(nil)[:h.Size()]
}

// Signature is a COSE signature algorithm number (RFC 9053, 2).
type Signature int

// The signature algorithms of the supported suites. Each is used with one curve: ES256 with P-256, ES384 with P-384,
// EdDSA with Ed25519.
const (
	ES256 Signature = -7
	EdDSA Signature = -8
	ES384 Signature = -35
)

// length is the length of a signature in bytes (RFC 9053, 2.1 and 2.2).
func (s Signature) length() int {
	if s == ES384 {
		return 96
	}
	return 64
}

func (s Signature) cose() cose.Algorithm { return cose.Algorithm(s) }

// hashFunc is what a crypto.Signer is asked for; 0 for EdDSA, which takes the message itself.
func (s Signature) hashFunc() crypto.Hash {
	switch s {
	case ES256:
		return crypto.SHA256
	case ES384:
		return crypto.SHA384
	}
	return 0
}

// Suite is a cipher suite (RFC 9528, 3.6).
type Suite struct {
	ID        int // number on the wire
	AEAD      AEAD
	Hash      Hash
	MACLength int // bytes, for static Diffie-Hellman
	Curve     Curve
	Signature Signature
	AppAEAD   AEAD
	AppHash   Hash
}

// SuiteByID gives suites 0 to 6 and 24 of the IANA registry, and -24: the private suite of the same algorithms as 24
// on P-256, for hardware that has no P-384.
func SuiteByID(id int) (Suite, error) {
	switch id {
	case 0:
		return Suite{0, AESCCM16_64_128, SHA256, 8, X25519, EdDSA, AESCCM16_64_128, SHA256}, nil
	case 1:
		return Suite{1, AESCCM16_128_128, SHA256, 16, X25519, EdDSA, AESCCM16_64_128, SHA256}, nil
	case 2:
		return Suite{2, AESCCM16_64_128, SHA256, 8, P256, ES256, AESCCM16_64_128, SHA256}, nil
	case 3:
		return Suite{3, AESCCM16_128_128, SHA256, 16, P256, ES256, AESCCM16_64_128, SHA256}, nil
	case 4:
		return Suite{4, ChaCha20Poly1305, SHA256, 16, X25519, EdDSA, ChaCha20Poly1305, SHA256}, nil
	case 5:
		return Suite{5, ChaCha20Poly1305, SHA256, 16, P256, ES256, ChaCha20Poly1305, SHA256}, nil
	case 6:
		return Suite{6, A128GCM, SHA256, 16, X25519, ES256, A128GCM, SHA256}, nil
	case 24:
		return Suite{24, A256GCM, SHA384, 16, P384, ES384, A256GCM, SHA384}, nil
	case -24:
		return Suite{-24, A256GCM, SHA384, 16, P256, ES256, A256GCM, SHA384}, nil
	}
	return Suite{}, configError("no cipher suite %d", id)
}

// validate checks a suite of the caller's own making: algorithms this package has, lengths that RFC 9528 permits
// (3.6 and 9.3), and a number that is private or means the same in the registry.
func (s Suite) validate() error {
	known, err := SuiteByID(s.ID)
	private := s.ID >= -24 && s.ID <= -21
	if !private && (err != nil || known != s) {
		return configError("cipher suite %d is not the registered one", s.ID)
	}
	for _, a := range []AEAD{s.AEAD, s.AppAEAD} {
		if a.KeyLength() == 0 {
			return configError("cipher suite %d: AEAD algorithm %d", s.ID, a)
		}
	}
	for _, h := range []Hash{s.Hash, s.AppHash} {
		if h != SHA256 && h != SHA384 {
			return configError("cipher suite %d: hash algorithm %d", s.ID, h)
		}
	}
	if s.Curve.ecdh() == nil {
		return configError("cipher suite %d: curve %d", s.ID, s.Curve)
	}
	if s.Signature != ES256 && s.Signature != ES384 && s.Signature != EdDSA {
		return configError("cipher suite %d: signature algorithm %d", s.ID, s.Signature)
	}
	if s.MACLength < 8 || s.MACLength > s.Hash.Size() {
		return configError("cipher suite %d: MAC length of %d bytes", s.ID, s.MACLength)
	}
	return nil
}

// String names the suite by its number.
func (s Suite) String() string { return fmt.Sprintf("cipher suite %d", s.ID) }
