// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"io"
)

// Curve is a COSE elliptic curve number (RFC 9053, 7.1).
type Curve int

// The curves of the supported suites, and the curve of EdDSA keys.
const (
	P256    Curve = 1
	P384    Curve = 2
	X25519  Curve = 4
	Ed25519 Curve = 6
)

// ecdh is nil for a curve that is not used for key exchange.
func (c Curve) ecdh() ecdh.Curve {
	switch c {
	case P256:
		return ecdh.P256()
	case P384:
		return ecdh.P384()
	case X25519:
		return ecdh.X25519()
	}
	return nil
}

// size is the length of a coordinate in bytes.
func (c Curve) size() int {
	if c == P384 {
		return 48
	}
	return 32
}

// weierstrass is nil for the curves that have no y coordinate.
func (c Curve) weierstrass() elliptic.Curve {
	switch c {
	case P256:
		return elliptic.P256()
	case P384:
		return elliptic.P384()
	}
	return nil
}

// EphemeralKey is an ECDH key pair for one exchange. Close destroys it; the library closes each key exactly once, also
// when the exchange fails. ECDH may be called more than once before that: for the static Diffie-Hellman methods, and by
// an Initiator that was asked to go on after a forged message_2.
type EphemeralKey interface {
	ecdh.KeyExchanger
	io.Closer
}

// EphemeralFactory makes a fresh key pair on the given curve: in software, in a TPM, in another module.
type EphemeralFactory func(curve ecdh.Curve) (EphemeralKey, error)

// SoftwareEphemeral is the factory that is used when none is given: keys from crypto/ecdh.
func SoftwareEphemeral(curve ecdh.Curve) (EphemeralKey, error) {
	k, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &softwareKey{private: k, public: k.PublicKey()}, nil
}

// softwareKey forgets its private key on Close. The standard library offers no way to overwrite one; what was in memory
// is left to the collector.
type softwareKey struct {
	private *ecdh.PrivateKey
	public  *ecdh.PublicKey
}

func (k *softwareKey) PublicKey() *ecdh.PublicKey { return k.public }
func (k *softwareKey) Curve() ecdh.Curve          { return k.public.Curve() }

func (k *softwareKey) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	if k.private == nil {
		return nil, errors.New("ephemeral key was destroyed")
	}
	return k.private.ECDH(peer)
}

func (k *softwareKey) Close() error {
	k.private = nil
	return nil
}

// compact gives the compact representation of a public key: its x coordinate (RFC 9528, 3.7 and Appendix B).
func compact(c Curve, pub *ecdh.PublicKey) []byte {
	b := pub.Bytes()
	if c.weierstrass() != nil {
		return b[1 : 1+c.size()]
	}
	return b
}

// expand rebuilds a public key from its x coordinate. Which of the two points it takes does not matter, since only the
// x coordinate of the shared point is used. For P-256 and P-384 that x belongs to a point is the partial validation
// which RFC 9528, 9.2 demands; both curves have cofactor 1, so it is a full one. For X25519 points of small order are
// refused here by multiplying with a fixed scalar, so that the refusal does not wait for our own key.
func expand(c Curve, x []byte) (*ecdh.PublicKey, *Error) {
	if len(x) != c.size() {
		return nil, fail(CheckKeyLength, "public key of %d bytes, the curve has %d", len(x), c.size())
	}
	w := c.weierstrass()
	if w == nil {
		pub, err := ecdh.X25519().NewPublicKey(x)
		if err == nil {
			var probe *ecdh.PrivateKey
			if probe, err = ecdh.X25519().NewPrivateKey(make([]byte, 32)); err == nil {
				_, err = probe.ECDH(pub)
			}
		}
		if err != nil {
			return nil, fail(CheckPublicKey, "%w", err)
		}
		return pub, nil
	}
	px, py := elliptic.UnmarshalCompressed(w, append([]byte{2}, x...))
	if px == nil {
		return nil, fail(CheckPublicKey, "x is not the coordinate of a point")
	}
	point := make([]byte, 1+2*c.size())
	point[0] = 4
	px.FillBytes(point[1 : 1+c.size()])
	py.FillBytes(point[1+c.size():])
	pub, err := c.ecdh().NewPublicKey(point)
	if err != nil {
		return nil, fail(CheckPublicKey, "%w", err)
	}
	return pub, nil
}

// agree computes the shared secret. Hardware may hand it out without its leading zeros, so it is padded on the left to
// the length of the curve (RFC 9053, 6.3.1 by way of SEC 1, 2.3.5). An all-zero secret is refused (RFC 7748, 6).
func agree(k ecdh.KeyExchanger, c Curve, peer *ecdh.PublicKey, v *vault) ([]byte, *Error) {
	z, err := k.ECDH(peer)
	v.keep(z)
	if err != nil {
		return nil, fail(CheckLocal, "compute shared secret: %w", err)
	}
	if len(z) > c.size() {
		return nil, fail(CheckLocal, "shared secret of %d bytes, the curve has %d", len(z), c.size())
	}
	padded := v.keep(make([]byte, c.size()))
	copy(padded[c.size()-len(z):], z)
	if subtle.ConstantTimeCompare(padded, make([]byte, c.size())) == 1 {
		return nil, fail(CheckPublicKey, "shared secret is zero")
	}
	return padded, nil
}

// vault keeps track of secrets so that they can be overwritten together.
type vault struct {
	bufs [][]byte
	// track, when set, also gets every buffer and is never emptied: tests look there for what was left behind.
	track *[][]byte
}

// keep registers a secret and returns it.
func (v *vault) keep(b []byte) []byte {
	v.bufs = append(v.bufs, b)
	if v.track != nil {
		*v.track = append(*v.track, b)
	}
	return b
}

// copy keeps an own copy of a secret.
func (v *vault) copy(b []byte) []byte { return v.keep(append([]byte(nil), b...)) }

// wipe overwrites all secrets.
func (v *vault) wipe() {
	for _, b := range v.bufs {
		clear(b[:cap(b)])
	}
	v.bufs = nil
}

// scratch gives an empty vault for the processing of one message.
func (v *vault) scratch() *vault { return &vault{track: v.track} }
