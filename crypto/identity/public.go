// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/veraison/go-cose"
)

// ErrKey: not a public key that can be an identity.
var ErrKey = errors.New("not an identity key (ECDSA on P-384 or P-256)")

// PublicKey is an identity's public key. It does not change once made.
type PublicKey struct {
	key *ecdsa.PublicKey
	der []byte
	kid Kid
}

// NewPublicKey takes the *ecdsa.PublicKey of a signer.
func NewPublicKey(pub crypto.PublicKey) (*PublicKey, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: %T", ErrKey, pub)
	}
	if key.Curve != elliptic.P384() && key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: another curve", ErrKey)
	}
	if _, err := key.ECDH(); err != nil { // a point off the curve
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := sha256.Sum256(der)
	return &PublicKey{key: key, der: der, kid: Kid(sum[:KidSize])}, nil
}

// ParseDER reads a DER SubjectPublicKeyInfo. Only the one encoding that DER and
// this package write is taken, so that a key has one kid.
func ParseDER(der []byte) (*PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k, err := NewPublicKey(pub)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(k.der, der) {
		return nil, fmt.Errorf("%w: encoded in another way than usual", ErrKey)
	}
	return k, nil
}

// ParsePublicKey reads a SubjectPublicKeyInfo as text: one "PUBLIC KEY" PEM
// block, or its standard base64 on one line.
func ParsePublicKey(text string) (*PublicKey, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "-----BEGIN") {
		der, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return ParseDER(der)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) != 0 || block.Type != "PUBLIC KEY" || len(block.Headers) != 0 {
		return nil, fmt.Errorf("%w: not one PUBLIC KEY block", ErrKey)
	}
	return ParseDER(block.Bytes)
}

// Kid returns the key's id.
func (k *PublicKey) Kid() Kid { return k.kid }

// ECDSA returns the key. The caller does not change it.
func (k *PublicKey) ECDSA() *ecdsa.PublicKey { return k.key }

// DER returns the SubjectPublicKeyInfo.
func (k *PublicKey) DER() []byte { return bytes.Clone(k.der) }

// String returns the DER in base64, which ParsePublicKey reads.
func (k *PublicKey) String() string { return base64.StdEncoding.EncodeToString(k.der) }

// PEM returns the DER as a "PUBLIC KEY" block.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.der})
}

// Equal reports whether both are the same key.
func (k *PublicKey) Equal(other *PublicKey) bool {
	return other != nil && bytes.Equal(k.der, other.der)
}

// Algorithm returns the only algorithm that goes with the key: ES384 for P-384,
// ES256 for P-256 (RFC 9053, 2.1).
func (k *PublicKey) Algorithm() cose.Algorithm {
	if k.key.Curve == elliptic.P384() {
		return cose.AlgorithmES384
	}
	return cose.AlgorithmES256
}
