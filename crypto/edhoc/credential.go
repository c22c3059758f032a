// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/veraison/go-cose"
)

// Credential is an authentication credential, CRED_x, with the public key in it (RFC 9528, 3.5.2): a CWT Claims Set or an
// X.509 certificate. It is immutable.
type Credential struct {
	encoded []byte // one CBOR data item, as it is authenticated
	subject string
	kid     []byte
	cert    *x509.Certificate // nil for a CCS
	key     publicKey
}

// publicKey is a key as a credential names it. P-256 and P-384 keys serve either purpose unless the credential says
// otherwise.
type publicKey struct {
	curve    Curve
	sign     crypto.PublicKey // *ecdsa.PublicKey or ed25519.PublicKey; nil when it cannot sign
	exchange *ecdh.PublicKey  // nil when it cannot exchange keys
}

// NewCCS makes the CWT Claims Set of a public key, deterministically encoded: {2: subject, 8: {1: COSE_Key}}. An empty
// subject and a nil kid are left out; without a subject nothing but the key itself is authenticated. pub is an
// *ecdsa.PublicKey or *ecdh.PublicKey on P-256 or P-384, an ed25519.PublicKey, or an *ecdh.PublicKey on X25519.
func NewCCS(subject string, kid []byte, pub crypto.PublicKey) (*Credential, error) {
	key := map[int64]any{}
	if kid != nil {
		key[2] = kid
	}
	switch p := pub.(type) {
	case ed25519.PublicKey:
		key[1], key[-1], key[-2] = cose.KeyTypeOKP, Ed25519, []byte(p)
	case *ecdh.PublicKey:
		if p == nil {
			return nil, configError("no public key")
		}
		if p.Curve() == ecdh.X25519() {
			key[1], key[-1], key[-2] = cose.KeyTypeOKP, X25519, p.Bytes()
			break
		}
		if err := ec2(key, p.Bytes()); err != nil {
			return nil, err
		}
	case *ecdsa.PublicKey:
		if p == nil {
			return nil, configError("no public key")
		}
		point, err := p.Bytes()
		if err != nil {
			return nil, configError("public key: %w", err)
		}
		if err := ec2(key, point); err != nil {
			return nil, err
		}
	default:
		return nil, configError("public key of type %T", pub)
	}
	claims := map[int64]any{8: map[int64]any{1: key}}
	if subject != "" {
		claims[2] = subject
	}
	return ParseCCS(sequence(claims))
}

// ec2 fills in the parameters of an uncompressed point.
func ec2(key map[int64]any, point []byte) error {
	n := (len(point) - 1) / 2
	switch n {
	case P256.size():
		key[-1] = P256
	case P384.size():
		key[-1] = P384
	default:
		return configError("public key on a curve of %d bytes", n)
	}
	key[1], key[-2], key[-3] = cose.KeyTypeEC2, point[1:1+n], point[1+n:]
	return nil
}

// ParseCCS reads a CWT Claims Set. It is kept as it is; that it is deterministically encoded is required, so that two
// parties who hold the same claims hold the same credential.
func ParseCCS(encoded []byte) (*Credential, error) {
	seq, e := items(encoded)
	if e != nil {
		return nil, fmt.Errorf("edhoc: parse CCS: %w", e.Err)
	}
	c, err := parseClaims(seq)
	if err != nil {
		return nil, fmt.Errorf("edhoc: parse CCS: %w", err)
	}
	c.encoded = bytes.Clone(encoded)
	return c, nil
}

func parseClaims(seq []item) (*Credential, error) {
	if len(seq) != 1 {
		return nil, errors.New("not one data item")
	}
	claims, ok := seq[0].val.(map[any]any)
	if !ok {
		return nil, errors.New("not a map")
	}
	c := &Credential{}
	if sub, has := claims[cose.CWTClaimSubject]; has {
		if c.subject, ok = sub.(string); !ok {
			return nil, errors.New("claim sub is not text")
		}
	}
	cnf, ok := claims[cose.CWTClaimConfirmation].(map[any]any)
	if !ok {
		return nil, errors.New("no claim cnf")
	}
	key, ok := cnf[int64(1)].(map[any]any)
	if !ok {
		return nil, errors.New("claim cnf holds no COSE_Key")
	}
	var err error
	c.key, c.kid, err = parseKey(key)
	return c, err
}

// parseKey reads a COSE_Key (RFC 9053, 7). go-cose has a type for it, but that takes coordinates without their leading
// zeros and does not survive a curve named by text.
func parseKey(k map[any]any) (key publicKey, kid []byte, err error) {
	if v, has := k[int64(2)]; has {
		var ok bool
		if kid, ok = v.([]byte); !ok {
			return key, nil, errors.New("COSE_Key: kid is not a byte string")
		}
	}
	if _, has := k[int64(-4)]; has {
		return key, nil, errors.New("COSE_Key: holds a private key")
	}
	crv, _ := k[int64(-1)].(int64)
	x, _ := k[int64(-2)].([]byte)
	key.curve = Curve(crv)
	switch k[int64(1)] {
	case int64(cose.KeyTypeOKP):
		err = key.setOKP(x)
	case int64(cose.KeyTypeEC2):
		err = key.setEC2(x, k[int64(-3)])
	default:
		err = errors.New("key type is not supported")
	}
	if err == nil {
		err = key.restrict(k)
	}
	if err != nil {
		return key, nil, fmt.Errorf("COSE_Key: %w", err)
	}
	return key, kid, nil
}

func (p *publicKey) setOKP(x []byte) error {
	switch {
	case len(x) != ed25519.PublicKeySize:
		return errors.New("x has not the length of the curve")
	case p.curve == Ed25519:
		p.sign = ed25519.PublicKey(bytes.Clone(x))
	case p.curve == X25519:
		pub, e := expand(X25519, x)
		if e != nil {
			return e.Err
		}
		p.exchange = pub
	default:
		return fmt.Errorf("curve %d with key type OKP", p.curve)
	}
	return nil
}

func (p *publicKey) setEC2(x []byte, y any) error {
	w := p.curve.weierstrass()
	if w == nil {
		return fmt.Errorf("curve %d with key type EC2", p.curve)
	}
	full, ok := y.([]byte)
	if !ok || len(x) != p.curve.size() || len(full) != p.curve.size() {
		return errors.New("x and y have not the length of the curve")
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(w, append(append([]byte{4}, x...), full...))
	if err != nil {
		return err
	}
	return p.setECDSA(pub)
}

func (p *publicKey) setECDSA(pub *ecdsa.PublicKey) error {
	exchange, err := pub.ECDH()
	if err != nil {
		return err
	}
	p.sign, p.exchange = pub, exchange
	return nil
}

// restrict applies alg (3) and key_ops (4) of a COSE_Key (RFC 9052, 7.1).
func (p *publicKey) restrict(k map[any]any) error {
	if v, has := k[int64(3)]; has {
		want := map[Curve]Signature{P256: ES256, P384: ES384, Ed25519: EdDSA}[p.curve]
		if want == 0 || v != int64(want) {
			return fmt.Errorf("algorithm %v does not fit the curve", v)
		}
		p.exchange = nil
	}
	v, has := k[int64(4)]
	if !has {
		return nil
	}
	ops, ok := v.([]any)
	if !ok || len(ops) == 0 {
		return errors.New("key_ops is not a list")
	}
	var verify, derive bool
	for _, op := range ops {
		switch op {
		case int64(cose.KeyOpVerify), "verify":
			verify = true
		case int64(cose.KeyOpDeriveKey), int64(cose.KeyOpDeriveBits), "deriveKey", "deriveBits":
			derive = true
		}
	}
	if !verify {
		p.sign = nil
	}
	if !derive {
		// The public half of a Diffie-Hellman key carries no operation at all (RFC 9053, 6.3.1): a list that is there
		// and names none of these is about something else.
		p.exchange = nil
	}
	return nil
}

// NewCertificate takes an X.509 certificate in DER. CRED_x is the certificate as a byte string. Nothing is validated
// here but that it can be parsed and has a key of a supported kind: trust is the business of the [LookupFunc].
func NewCertificate(der []byte) (*Credential, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("edhoc: parse certificate: %w", err)
	}
	c := &Credential{encoded: sequence(cert.Raw), subject: cert.Subject.String(), cert: cert}
	key := cert.PublicKey
	if key == nil {
		// crypto/x509 has no number for X25519 and leaves such a key alone in certificates.
		if key, err = x509.ParsePKIXPublicKey(cert.RawSubjectPublicKeyInfo); err != nil {
			return nil, fmt.Errorf("edhoc: certificate: %w", err)
		}
	}
	switch pub := key.(type) {
	case ed25519.PublicKey:
		c.key = publicKey{curve: Ed25519, sign: pub}
	case *ecdh.PublicKey:
		c.key = publicKey{curve: X25519, exchange: pub}
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case P256.weierstrass():
			c.key.curve = P256
		case P384.weierstrass():
			c.key.curve = P384
		default:
			return nil, fmt.Errorf("edhoc: certificate with a key on curve %s", pub.Params().Name)
		}
		if err := c.key.setECDSA(pub); err != nil {
			return nil, fmt.Errorf("edhoc: certificate: %w", err)
		}
	default:
		return nil, fmt.Errorf("edhoc: certificate with a key of type %T", key)
	}
	// RFC 9528, D.1: a certificate that restricts the use of its key means it.
	if cert.KeyUsage != 0 {
		if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			c.key.sign = nil
		}
		if cert.KeyUsage&x509.KeyUsageKeyAgreement == 0 {
			c.key.exchange = nil
		}
	}
	return c, nil
}

// Bytes is CRED_x as it is authenticated: one encoded CBOR data item.
func (c *Credential) Bytes() []byte { return bytes.Clone(c.encoded) }

// Subject is the claim sub of a CCS or the subject of a certificate.
func (c *Credential) Subject() string { return c.subject }

// KID is the kid in the COSE_Key of a CCS, nil when there is none.
func (c *Credential) KID() []byte { return bytes.Clone(c.kid) }

// Certificate is nil for a CCS.
func (c *Credential) Certificate() *x509.Certificate { return c.cert }

// PublicKey is an *ecdsa.PublicKey, an ed25519.PublicKey or an *ecdh.PublicKey.
func (c *Credential) PublicKey() crypto.PublicKey {
	if c.key.sign != nil {
		return c.key.sign
	}
	return c.key.exchange
}

// fits checks that the key can serve in a suite, as a signature key or a static Diffie-Hellman key (RFC 9528, 3.5.1).
func (c *Credential) fits(s Suite, static bool) *Error {
	if static {
		if c.key.exchange == nil || c.key.curve != s.Curve {
			return fail(CheckCredentialKey, "the credential has no static Diffie-Hellman key for %v", s)
		}
		return nil
	}
	want := map[Signature]Curve{ES256: P256, ES384: P384, EdDSA: Ed25519}[s.Signature]
	if c.key.sign == nil || c.key.curve != want {
		return fail(CheckCredentialKey, "the credential has no signature key for %v", s)
	}
	return nil
}

// identifiedBy checks what an identifier by hash or by value says about the credential. A kid says nothing.
func (c *Credential) identifiedBy(id IDCred) *Error {
	switch {
	case id.hash != nil:
		if c.cert == nil || !bytes.Equal(id.alg.sum(c.cert.Raw), id.hash) {
			return fail(CheckCredentialBinding, "the credential has another hash than x5t")
		}
	case id.chain != nil:
		if c.cert == nil || !bytes.Equal(c.cert.Raw, id.chain[0]) {
			return fail(CheckCredentialBinding, "the credential is not the first certificate of x5chain")
		}
	}
	return nil
}
