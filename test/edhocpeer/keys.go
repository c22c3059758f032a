// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cellward/cellward/crypto/edhoc"
)

// config makes the application profile from the arguments.
func (o *options) config() (edhoc.Config, error) {
	cfg := edhoc.Config{
		Methods: []edhoc.Method{edhoc.Method(o.method)}, PeerSuites: o.peerSuites, PinSuite: o.pin,
		Message4: o.message4, EADLabels: o.eadLabels, MaxMessageSize: maxFrame,
	}
	for _, id := range o.suites {
		s, err := edhoc.SuiteByID(id)
		if err != nil {
			return cfg, err
		}
		cfg.Suites = append(cfg.Suites, s)
	}
	if o.connectionID != "" {
		id, err := hex.DecodeString(o.connectionID)
		if err != nil {
			return cfg, fmt.Errorf("%w: -cid: %w", errUsage, err)
		}
		cfg.ConnectionID = id
	}
	if o.ephemeral != "" {
		d, err := hex.DecodeString(o.ephemeral)
		if err != nil {
			return cfg, fmt.Errorf("%w: -ephemeral: %w", errUsage, err)
		}
		cfg.Ephemeral = func(curve ecdh.Curve) (edhoc.EphemeralKey, error) {
			k, err := curve.NewPrivateKey(d)
			return fixedKey{k}, err
		}
	}
	method := edhoc.Method(o.method)
	static := method.InitiatorStatic()
	if o.role == "responder" {
		static = method.ResponderStatic()
	}
	id, err := o.identity(cfg.Suites[len(cfg.Suites)-1], static)
	if err != nil {
		return cfg, err
	}
	cfg.Identities = []edhoc.Identity{id}
	cfg.Lookup, err = o.lookup()
	return cfg, err
}

// fixedKey is an ephemeral key for reproducing a trace. It is not destroyed.
type fixedKey struct{ *ecdh.PrivateKey }

func (fixedKey) Close() error { return nil }

// identity reads key, credential and identifier.
func (o *options) identity(s edhoc.Suite, static bool) (edhoc.Identity, error) {
	var id edhoc.Identity
	key, err := readKey(o.key, s, static)
	if err != nil {
		return id, fmt.Errorf("read -key: %w", err)
	}
	var public crypto.PublicKey
	if static {
		exchanger, err := exchangeKey(key)
		if err != nil {
			return id, fmt.Errorf("read -key: %w", err)
		}
		id.KeyExchanger, public = exchanger, exchanger.PublicKey()
	} else {
		signer, ok := key.(crypto.Signer)
		if !ok {
			return id, fmt.Errorf("read -key: a key of type %T does not sign", key)
		}
		id.Signer, public = signer, signer.Public()
	}

	kind, value, _ := strings.Cut(o.id, ":")
	kid, err := hex.DecodeString(value)
	if err != nil {
		return id, fmt.Errorf("%w: -id: %w", errUsage, err)
	}
	if name, ok := strings.CutPrefix(o.cred, "ccs:"); ok {
		id.Credential, err = edhoc.NewCCS(name, kid, public)
	} else {
		id.Credential, err = readCredential(o.cred)
	}
	if err != nil {
		return id, fmt.Errorf("read -cred: %w", err)
	}
	switch kind {
	case "kid":
		id.ID = edhoc.ByKID(kid)
		return id, nil
	case "x5t", "x5chain":
		cert := id.Credential.Certificate()
		if cert == nil {
			return id, fmt.Errorf("%w: -id %s is for certificates", errUsage, kind)
		}
		id.ID = edhoc.ByX5Chain(cert.Raw)
		if kind == "x5t" {
			id.ID = edhoc.ByX5T(edhoc.SHA256_64, cert.Raw)
		}
		return id, nil
	}
	return id, fmt.Errorf("%w: -id is kid:HEX, x5t or x5chain", errUsage)
}

// readKey reads a PKCS #8 file, or a scalar in hex.
func readKey(arg string, s edhoc.Suite, static bool) (any, error) {
	if scalar, ok := strings.CutPrefix(arg, "hex:"); ok {
		d, err := hex.DecodeString(scalar)
		if err != nil {
			return nil, err
		}
		return keyOfScalar(d, s, static)
	}
	b, err := os.ReadFile(arg)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if block.Type == "EC PRIVATE KEY" {
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

// keyOfScalar takes the curve from the suite, or Ed25519's seed, with or without the public key behind it.
func keyOfScalar(d []byte, s edhoc.Suite, static bool) (any, error) {
	if static {
		switch s.Curve {
		case edhoc.P256:
			return ecdh.P256().NewPrivateKey(d)
		case edhoc.P384:
			return ecdh.P384().NewPrivateKey(d)
		default:
			return ecdh.X25519().NewPrivateKey(d)
		}
	}
	switch s.Signature {
	case edhoc.ES256:
		return ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	case edhoc.ES384:
		return ecdsa.ParseRawPrivateKey(elliptic.P384(), d)
	}
	if len(d) != ed25519.SeedSize && len(d) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("an Ed25519 key of %d bytes", len(d))
	}
	return ed25519.NewKeyFromSeed(d[:ed25519.SeedSize]), nil
}

// exchangeKey makes a static Diffie-Hellman key of a parsed one.
func exchangeKey(key any) (*ecdh.PrivateKey, error) {
	switch k := key.(type) {
	case *ecdh.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return k.ECDH()
	}
	return nil, fmt.Errorf("a key of type %T does not exchange", key)
}

// readCredential reads a CCS or a certificate.
func readCredential(arg string) (*edhoc.Credential, error) {
	if text, ok := strings.CutPrefix(arg, "hex:"); ok {
		b, err := hex.DecodeString(text)
		if err != nil {
			return nil, err
		}
		return credential(b)
	}
	b, err := os.ReadFile(arg)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	return credential(b)
}

// credential tells a certificate from a CCS by its first byte: a DER sequence, or a CBOR map.
func credential(b []byte) (*edhoc.Credential, error) {
	if bytes.HasPrefix(b, []byte{0x30}) {
		return edhoc.NewCertificate(b)
	}
	return edhoc.ParseCCS(b)
}

// lookup accepts the named credentials, and chains to the roots.
func (o *options) lookup() (edhoc.LookupFunc, error) {
	var known []*edhoc.Credential
	for _, arg := range o.peers {
		c, err := readCredential(arg)
		if err != nil {
			return nil, fmt.Errorf("read -peer: %w", err)
		}
		known = append(known, c)
	}
	if o.roots == "" {
		return edhoc.LookupKnown(known...), nil
	}
	b, err := os.ReadFile(o.roots)
	if err != nil {
		return nil, fmt.Errorf("read -roots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("read -roots: no certificate")
	}
	return edhoc.LookupAny(edhoc.LookupKnown(known...), edhoc.LookupX509(x509.VerifyOptions{Roots: pool})), nil
}

// parseEADs reads MESSAGE:LABEL[:HEX].
func parseEADs(args []string) (map[int][]edhoc.EAD, error) {
	out := map[int][]edhoc.EAD{}
	for _, arg := range args {
		parts := strings.Split(arg, ":")
		if len(parts) != 2 && len(parts) != 3 {
			return nil, fmt.Errorf("%w: -ead %q", errUsage, arg)
		}
		message, err := strconv.Atoi(parts[0])
		if err != nil || message < 1 || message > 4 {
			return nil, fmt.Errorf("%w: -ead %q: message", errUsage, arg)
		}
		label, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: -ead %q: label", errUsage, arg)
		}
		e := edhoc.EAD{Label: max(label, -label), Critical: label < 0}
		if len(parts) == 3 {
			if e.Value, err = hex.DecodeString(parts[2]); err != nil {
				return nil, fmt.Errorf("%w: -ead %q: value", errUsage, arg)
			}
		}
		out[message] = append(out[message], e)
	}
	return out, nil
}
