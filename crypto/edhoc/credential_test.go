// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// TestCCSForm: the deterministic encoding, key by key.
func TestCCSForm(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	c := mustCCS(t, "node", []byte{1, 2, 3, 4, 5, 6, 7, 8}, &k.PublicKey)
	want := "a2" + "02" + "646e6f6465" + "08" + "a1" + "01" + "a5" + "0102" + "02480102030405060708" + "2002" +
		"215830" + hex.EncodeToString(point[1:49]) + "225830" + hex.EncodeToString(point[49:])
	if got := hex.EncodeToString(c.Bytes()); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if c.Subject() != "node" || !bytes.Equal(c.KID(), []byte{1, 2, 3, 4, 5, 6, 7, 8}) || c.Certificate() != nil {
		t.Fatalf("%+v", c)
	}
	if !k.PublicKey.Equal(c.PublicKey()) {
		t.Fatal("public key")
	}
	// A naked COSE_Key is dressed as {8: {1: key}}: it begins with a1 08 a1 01.
	naked := mustCCS(t, "", nil, &k.PublicKey)
	if !bytes.HasPrefix(naked.Bytes(), []byte{0xa1, 0x08, 0xa1, 0x01, 0xa4}) || naked.KID() != nil {
		t.Fatalf("%x", naked.Bytes())
	}
}

func TestCCSKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, curve := range []ecdh.Curve{ecdh.P256(), ecdh.P384(), ecdh.X25519()} {
		k, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := mustCCS(t, "x", nil, k.PublicKey())
		if !c.key.exchange.Equal(k.PublicKey()) {
			t.Fatalf("%v: another key", curve)
		}
		if curve == ecdh.X25519() && !k.PublicKey().Equal(c.PublicKey()) {
			t.Fatal("public key")
		}
	}
	if c := mustCCS(t, "x", nil, ed.Public()); !ed.Public().(ed25519.PublicKey).Equal(c.PublicKey()) {
		t.Fatal("another key")
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dh521, err := ecdh.P521().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range []crypto.PublicKey{
		&p521.PublicKey, dh521.PublicKey(), nil, "key", (*ecdsa.PublicKey)(nil), (*ecdh.PublicKey)(nil),
	} {
		if _, err := NewCCS("x", nil, pub); !errors.Is(err, ErrConfig) {
			t.Errorf("%T: %v", pub, err)
		}
	}
}

// TestParseCCS refuses every form that is not a CCS with a usable key, one fault at a time.
func TestParseCCS(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	type m = map[int]any
	key := func(change m) m {
		out := m{1: 2, -1: 1, -2: x, -3: y}
		for label, v := range change {
			if v == nil {
				delete(out, label)
			} else {
				out[label] = v
			}
		}
		return out
	}
	okp := m{1: 1, -1: 4, -2: append([]byte{9}, make([]byte, 31)...)}
	ccs := func(key any) any { return m{2: "x", 8: m{1: key}} }
	offCurve := append(bytes.Clone(y[:31]), y[31]^1)
	for _, c := range []struct {
		name string
		v    any
		want string // part of the error; empty: it is fine
	}{
		{"as it should be", ccs(key(nil)), ""},
		{"more claims", m{1: "iss", 2: "x", 4: 17, 8: m{1: key(nil), 3: []byte{1}}, 100: []any{1.5, nil, true}}, ""},
		{"algorithm", ccs(key(m{3: -7})), ""},
		{"operations", ccs(key(m{4: []any{2, 7}})), ""},
		{"operations by name", ccs(key(m{4: []any{"verify", "deriveBits", "sign"}})), ""},
		{"X25519", ccs(okp), ""},
		{"two items", raw(append(sequence(1), 2)), "not one data item"},
		{"not a map", 7, "not a map"},
		{"sub is a number", m{2: 7, 8: m{1: key(nil)}}, "claim sub"},
		{"no cnf", m{2: "x"}, "no claim cnf"},
		{"cnf is no map", m{8: 1}, "no claim cnf"},
		{"cnf without a key", m{8: m{3: key(nil)}}, "no COSE_Key"},
		{"the key is no map", ccs(1), "no COSE_Key"},
		{"kid is text", ccs(key(m{2: "x"})), "kid"},
		{"a private key", ccs(key(m{-4: x})), "private key"},
		{"no key type", ccs(key(m{1: nil})), "key type"},
		{"symmetric", ccs(m{1: 4, -1: x}), "key type"},
		{"no curve", ccs(key(m{-1: nil})), "curve 0"},
		{"a curve by name", ccs(key(m{-1: "P-256"})), "curve 0"},
		{"a curve of the other type", ccs(key(m{-1: 6})), "curve 6"},
		{"P-521", ccs(key(m{-1: 3})), "curve 3"},
		{"no x", ccs(key(m{-2: nil})), "length of the curve"},
		{"x without its leading zero", ccs(key(m{-2: x[1:]})), "length of the curve"},
		{"x of another curve", ccs(key(m{-1: 2})), "length of the curve"},
		{"y is a sign", ccs(key(m{-3: true})), "length of the curve"},
		{"off the curve", ccs(key(m{-3: offCurve})), "COSE_Key"},
		{"another algorithm", ccs(key(m{3: -35})), "algorithm"},
		{"an algorithm by name", ccs(key(m{3: "ES256"})), "algorithm"},
		{"an algorithm for X25519", ccs(m{1: 1, -1: 4, -2: okp[-2], 3: -8}), "algorithm"},
		{"operations are no list", ccs(key(m{4: 2})), "key_ops"},
		{"no operations", ccs(key(m{4: []any{}})), "key_ops"},
		{"OKP with a curve of EC2", ccs(m{1: 1, -1: 1, -2: x}), "curve 1"},
		{"OKP with a short x", ccs(m{1: 1, -1: 6, -2: x[1:]}), "length of the curve"},
		{"X25519 of small order", ccs(m{1: 1, -1: 4, -2: make([]byte, 32)}), "low order"},
		{"keys out of order", raw(unhex(t, "a208a1010002617a")), "deterministic"},
		{"a tag", raw(unhex(t, "c1a0")), "tag"},
		{"nothing", raw(nil), "not one data item"},
		{"rubbish", raw{0xff}, "parse CCS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseCCS(sequence(c.v))
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), sequence(c.v)) {
					t.Fatal("the bytes were not kept")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestKeyRestrictions: alg and key_ops of a COSE_Key, and the key usage of a certificate, decide what a key is for.
func TestKeyRestrictions(t *testing.T) {
	s := mustSuite(t, 2)
	p := newParty(t, s, "x", 1)
	for _, c := range []struct {
		name         string
		c            *Credential
		sign, static bool
	}{
		{"nothing said", p.signCred, true, true},
		{"verify", keyOps(t, p.signCred, 2), true, false},
		{"deriveKey", keyOps(t, p.signCred, 7), false, true},
		{"deriveBits", keyOps(t, p.signCred, 8), false, true},
		{"both", keyOps(t, p.signCred, 2, 8), true, true},
		{"encrypt", keyOps(t, p.signCred, 3), false, false},
		{"certificate without usage", selfSigned(t, p.signer, 0), true, true},
		{"digitalSignature", selfSigned(t, p.signer, x509.KeyUsageDigitalSignature), true, false},
		{"keyAgreement", selfSigned(t, p.signer, x509.KeyUsageKeyAgreement), false, true},
		{"certSign", selfSigned(t, p.signer, x509.KeyUsageCertSign), false, false},
	} {
		if got := c.c.fits(s, false) == nil; got != c.sign {
			t.Errorf("%s: signs: %v", c.name, got)
		}
		if got := c.c.fits(s, true) == nil; got != c.static {
			t.Errorf("%s: agrees: %v", c.name, got)
		}
		if c.c.fits(mustSuite(t, 24), false) == nil || c.c.fits(mustSuite(t, 0), true) == nil {
			t.Errorf("%s fits another curve", c.name)
		}
	}
}

// issue makes a certificate under a CA (nil: self-signed).
func issue(t testing.TB, name string, pub crypto.PublicKey, ca *x509.Certificate, caKey crypto.Signer, isCA bool) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<40))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if isCA {
		tmpl.KeyUsage = x509.KeyUsageCertSign
	}
	if ca == nil {
		ca = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, pub, caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestX5Chain: a chain over an intermediate CA is validated, and a handshake runs on it.
func TestX5Chain(t *testing.T) {
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	parse := func(der []byte) *x509.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rootKey, midKey, otherKey := newKey(), newKey(), newKey()
	root := parse(issue(t, "root", rootKey.Public(), nil, rootKey, true))
	mid := parse(issue(t, "mid", midKey.Public(), root, rootKey, true))
	other := parse(issue(t, "other", otherKey.Public(), nil, otherKey, true))
	pool := x509.NewCertPool()
	pool.AddCert(root)

	b := newBench(t, SignatureSignature, 24)
	leaf := issue(t, "responder", b.r.signer.Public(), mid, midKey, false)
	cred, err := NewCertificate(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if cred.Subject() != "CN=responder" || cred.Certificate() == nil {
		t.Fatalf("%+v", cred)
	}
	use := func(id IDCred, lookup LookupFunc) error {
		b.respCfg.Identities = []Identity{{Credential: cred, ID: id, Signer: b.r.signer}}
		b.initCfg.Lookup = lookup
		h := b.through(t, 2)
		peer, err := h.i.Message2(h.m2)
		if err == nil && !bytes.Equal(peer.Credential.Bytes(), sequence(leaf)) {
			t.Fatal("another credential")
		}
		return err
	}
	withMid := x509.NewCertPool()
	withMid.AddCert(mid)
	wrong := x509.NewCertPool()
	wrong.AddCert(other)
	for _, c := range []struct {
		name   string
		id     IDCred
		lookup LookupFunc
		want   error
	}{
		{"with the intermediate", ByX5Chain(leaf, mid.Raw), LookupX509(x509.VerifyOptions{Roots: pool}), nil},
		{"the intermediate is known", ByX5Chain(leaf), LookupX509(x509.VerifyOptions{Roots: pool, Intermediates: withMid}), nil},
		{"without the intermediate", ByX5Chain(leaf), LookupX509(x509.VerifyOptions{Roots: pool}), CheckCredentialRejected},
		{"another root", ByX5Chain(leaf, mid.Raw), LookupX509(x509.VerifyOptions{Roots: wrong}), CheckCredentialRejected},
		{"expired", ByX5Chain(leaf, mid.Raw), LookupX509(x509.VerifyOptions{Roots: pool, CurrentTime: time.Now().Add(2 * time.Hour)}), CheckCredentialRejected},
		{"another usage", ByX5Chain(leaf, mid.Raw), LookupX509(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), nil},
		{"rubbish in the chain", ByX5Chain(leaf, []byte{1}), LookupX509(x509.VerifyOptions{Roots: pool}), CheckCredentialRejected},
		{"by hash", ByX5T(SHA256_64, leaf), LookupX509(x509.VerifyOptions{Roots: pool}), CheckCredentialUnknown},
		{"by hash, known", ByX5T(SHA256_64, leaf), LookupKnown(cred), nil},
		{"by SHA-512, known", ByX5T(SHA512, leaf), LookupKnown(b.r.signCred, cred), nil},
		{"by SHA-384, known", ByX5T(SHA384, leaf), LookupAny(LookupX509(x509.VerifyOptions{Roots: pool}), LookupKnown(), LookupKnown(cred)), nil},
		{"chain, known", ByX5Chain(leaf), LookupKnown(cred), nil},
		{"not known to any", ByX5T(SHA384, leaf), LookupAny(LookupKnown(), LookupKnown()), CheckCredentialUnknown},
		{"refused by the first", ByX5Chain(leaf), LookupAny(LookupX509(x509.VerifyOptions{Roots: pool}), LookupKnown(cred)), CheckCredentialRejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := use(c.id, c.lookup); c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Fatal(err)
			}
		})
	}
	if _, err := LookupX509(x509.VerifyOptions{Roots: pool})(LookupRequest{ID: ByX5Chain([]byte{1})}); err == nil {
		t.Fatal("rubbish was taken for a certificate")
	}
}

func TestCertificateKeys(t *testing.T) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pub   crypto.PublicKey
		curve Curve
	}{
		{caKey.Public(), P256}, {ed.Public(), Ed25519}, {p521.Public(), 0}, {rsaKey.Public(), 0},
	} {
		got, err := NewCertificate(issue(t, "x", c.pub, nil, caKey, false))
		if (err == nil) != (c.curve != 0) || err == nil && got.key.curve != c.curve {
			t.Errorf("%T: %v", c.pub, err)
		}
	}
	// crypto/x509 does not make certificates of X25519 keys, so one is patched out of an Ed25519 certificate, whose
	// algorithm identifier differs in one byte. Its signature is wrong then, which is not looked at here.
	der := issue(t, "x", ed.Public(), nil, caKey, false)
	oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 101, 112})
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(der, oid)
	der[at+len(oid)-1] = 110
	copy(der[at+len(oid)+3:], x.PublicKey().Bytes())
	got, err := NewCertificate(der)
	if err != nil || got.key.curve != X25519 || !x.PublicKey().Equal(got.PublicKey()) {
		t.Fatalf("X25519: %v", err)
	}
	if _, err := NewCertificate([]byte{0x30, 0x00}); err == nil {
		t.Fatal("an empty sequence was taken for a certificate")
	}
}

// TestKIDIsNotUnique: several credentials under one kid are tried one after another.
func TestKIDIsNotUnique(t *testing.T) {
	for _, method := range []Method{SignatureSignature, StaticStatic} {
		b := newBench(t, method, 2)
		kid := []byte("shared")
		var all []*Credential
		for range 3 {
			all = append(all, mustCCS(t, "other", kid, newParty(t, b.suite, "x", 0).signer.Public()))
		}
		mine := mustCCS(t, "right", kid, b.r.signer.Public())
		if method == StaticStatic {
			mine = mustCCS(t, "right", kid, b.r.static.PublicKey())
		}
		wrongCurve := mustCCS(t, "x", kid, newParty(t, mustSuite(t, 24), "x", 0).signer.Public())
		b.respCfg.Identities = []Identity{{Credential: mine, ID: ByKID(kid), Signer: b.r.signer}}
		if method == StaticStatic {
			b.respCfg.Identities = []Identity{{Credential: mine, ID: ByKID(kid), KeyExchanger: b.r.static}}
		}
		b.initCfg.Lookup = LookupKnown(append(append(all, wrongCurve), mine)...)
		h := b.through(t, 2)
		peer, err := h.i.Message2(h.m2)
		if err != nil || peer.Credential != mine {
			t.Fatalf("%v, %v", peer, err)
		}
		b.initCfg.Lookup = LookupKnown(all...)
		h = b.through(t, 2)
		if _, err := h.i.Message2(h.m2); !errors.Is(err, CheckSignature) && !errors.Is(err, CheckMAC) {
			t.Fatal(err)
		}
	}
}

func TestIDCred(t *testing.T) {
	der := []byte("certificate")
	for _, c := range []struct {
		id        IDCred
		map_      string
		wire      string
		text      string
		roundTrip bool
	}{
		{ByKID([]byte{0x21}), "a1044121", "21", "kid 21", true},
		{ByKID([]byte{0xff}), "a10441ff", "41ff", "kid ff", true},
		{ByKID([]byte{}), "a10440", "40", "kid ", true},
		{ByX5Chain(der), "a118214b6365727469666963617465", "a118214b6365727469666963617465", "x5chain of 1", true},
		{ByX5Chain([]byte{1}, []byte{2}), "a118218241014102", "a118218241014102", "x5chain of 2", true},
		{IDCred{}, "", "", "no identifier", false},
	} {
		if got := fmt.Sprintf("%x", c.id.Bytes()); got != c.map_ {
			t.Errorf("%v: map %s, want %s", c.id, got, c.map_)
		}
		if got := fmt.Sprintf("%x", c.id.wire()); got != c.wire {
			t.Errorf("%v: wire %s, want %s", c.id, got, c.wire)
		}
		if c.id.String() != c.text {
			t.Errorf("%q, want %q", c.id.String(), c.text)
		}
		if !c.roundTrip {
			continue
		}
		seq, e := items(c.id.wire())
		if e != nil {
			t.Fatal(e)
		}
		back, e := parseIDCred(seq[0])
		if e != nil || !bytes.Equal(back.Bytes(), c.id.Bytes()) {
			t.Errorf("%v became %v, %v", c.id, back, e)
		}
	}
	for _, alg := range []Hash{SHA256_64, SHA256, SHA384, SHA512} {
		id := ByX5T(alg, der)
		got, hash := id.X5T()
		if got != alg || len(hash) != alg.Size() || id.KID() != nil || id.X5Chain() != nil {
			t.Errorf("%v", id)
		}
		if !strings.HasPrefix(id.String(), fmt.Sprintf("x5t %d:", alg)) {
			t.Errorf("%q", id.String())
		}
	}
	if id := ByKID([]byte{1}); !bytes.Equal(id.KID(), []byte{1}) {
		t.Error("kid")
	}
	if id := ByX5Chain(der); !bytes.Equal(id.X5Chain()[0], der) {
		t.Error("x5chain")
	}
}
