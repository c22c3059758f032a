// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// party is one side's keys for a suite.
type party struct {
	signCred, dhCred *Credential
	signer           crypto.Signer
	static           *ecdh.PrivateKey
}

func mustSuite(t testing.TB, id int) Suite {
	t.Helper()
	s, err := SuiteByID(id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newParty makes software keys for a suite: a signature key under kidBase and a static key under kidBase+1.
func newParty(t testing.TB, s Suite, name string, kidBase byte) *party {
	t.Helper()
	p := &party{}
	var err error
	switch s.Signature {
	case EdDSA:
		_, p.signer, err = ed25519.GenerateKey(rand.Reader)
	case ES256:
		p.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		p.signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.static, err = s.Curve.ecdh().GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.signCred = mustCCS(t, name, []byte{kidBase}, p.signer.Public())
	p.dhCred = mustCCS(t, name, []byte{kidBase + 1}, p.static.PublicKey())
	return p
}

func mustCCS(t testing.TB, name string, kid []byte, pub crypto.PublicKey) *Credential {
	t.Helper()
	c, err := NewCCS(name, kid, pub)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *party) identities() []Identity {
	return []Identity{
		{Credential: p.signCred, ID: ByKID(p.signCred.kid), Signer: p.signer},
		{Credential: p.dhCred, ID: ByKID(p.dhCred.kid), KeyExchanger: p.static},
	}
}

// bench is a pair of configurations that fit together.
type bench struct {
	suite    Suite
	method   Method
	i, r     *party
	initCfg  Config
	respCfg  Config
	tracked  [][]byte // every secret either side held, when track was called
	tracking bool
	extra    *Credential // for tests that need one more

	ead1, ead2, ead3, ead4 []EAD
}

type ecdhPrivate = ecdh.PrivateKey

func newBench(t testing.TB, method Method, suiteID int) *bench {
	t.Helper()
	s := mustSuite(t, suiteID)
	b := &bench{suite: s, method: method, i: newParty(t, s, "initiator", 0x20), r: newParty(t, s, "responder", 0x41)}
	b.initCfg = Config{
		Methods: []Method{method}, Suites: []Suite{s}, ConnectionID: []byte{0x2d},
		Identities: b.i.identities(), Lookup: LookupKnown(b.r.signCred, b.r.dhCred), Message4: true, KeepOnFailure: true,
	}
	b.respCfg = Config{
		Methods: []Method{method}, Suites: []Suite{s}, ConnectionID: []byte{0x18},
		Identities: b.r.identities(), Lookup: LookupKnown(b.i.signCred, b.i.dhCred), Message4: true, KeepOnFailure: true,
	}
	return b
}

func (b *bench) initiator(t testing.TB) *Initiator {
	t.Helper()
	i, err := NewInitiator(b.initCfg)
	if err != nil {
		t.Fatal(err)
	}
	if b.tracking {
		i.secrets.track = &b.tracked
	}
	return i
}

func (b *bench) responder(t testing.TB) *Responder {
	t.Helper()
	r, err := NewResponder(b.respCfg)
	if err != nil {
		t.Fatal(err)
	}
	if b.tracking {
		r.secrets.track = &b.tracked
	}
	return r
}

// run is a handshake as far as it got.
type run struct {
	i              *Initiator
	r              *Responder
	m1, m2, m3, m4 []byte
	si, sr         *Session
}

// through runs a handshake up to and including the making of message n; each message but the last is processed.
func (b *bench) through(t testing.TB, n int) *run {
	t.Helper()
	h := &run{i: b.initiator(t), r: b.responder(t)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.m1, err = h.i.Message1()
	must(err)
	if n == 1 {
		return h
	}
	_, err = h.r.Message1(h.m1)
	must(err)
	h.m2, err = h.r.Message2()
	must(err)
	if n == 2 {
		return h
	}
	_, err = h.i.Message2(h.m2)
	must(err)
	h.m3, err = h.i.Message3()
	must(err)
	if n == 3 {
		return h
	}
	_, err = h.r.Message3(h.m3)
	must(err)
	h.m4, err = h.r.Message4()
	must(err)
	if n == 4 {
		return h
	}
	_, err = h.i.Message4(h.m4)
	must(err)
	h.si, err = h.i.Session()
	must(err)
	h.sr, err = h.r.Session()
	must(err)
	return h
}

func (h *run) close() {
	h.i.Close()
	h.r.Close()
	for _, s := range []*Session{h.si, h.sr} {
		if s != nil {
			s.Close()
		}
	}
}

func mustPadding(t testing.TB, n int) []EAD {
	t.Helper()
	p, err := Padding(n)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fixedKey is an ephemeral key that is known in advance and counts how it is used.
type fixedKey struct {
	*ecdh.PrivateKey
	exchanges, closed int
	err               error // from ECDH
	closeErr          error
}

func (k *fixedKey) ECDH(p *ecdh.PublicKey) ([]byte, error) {
	k.exchanges++
	if k.err != nil {
		return nil, k.err
	}
	if k.closed > 0 {
		return nil, errors.New("key was destroyed")
	}
	return k.PrivateKey.ECDH(p)
}

func (k *fixedKey) Close() error { k.closed++; return k.closeErr }

func (k *fixedKey) factory(ecdh.Curve) (EphemeralKey, error) { return k, nil }

func freshKey(t testing.TB, s Suite) *fixedKey {
	t.Helper()
	k, err := s.Curve.ecdh().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &fixedKey{PrivateKey: k}
}

// deterministic signs ECDSA as RFC 6979 has it, so that whole messages can be compared.
type deterministic struct{ crypto.Signer }

func (d deterministic) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return d.Signer.Sign(nil, digest, o)
}

// recorder remembers what it signed.
type recorder struct {
	crypto.Signer
	content []byte
}

func (r *recorder) Sign(rnd io.Reader, content []byte, o crypto.SignerOpts) ([]byte, error) {
	r.content = append([]byte(nil), content...)
	return r.Signer.Sign(rnd, content, o)
}

// wantCheck fails the test unless err is the refusal by a check at a message.
func wantCheck(t testing.TB, err error, message int, c Check) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want check %q at message %d", err, string(c), message)
	}
	if e.Check != c || e.Message != message {
		t.Fatalf("error is %v, want check %q at message %d", err, string(c), message)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sharedData reads a file of the shared data beside the project and skips the test when the folder is not there.
func sharedData(t testing.TB, name string) map[string]any {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the package")
		}
		dir = filepath.Dir(dir)
	}
	root := filepath.Join(dir, "..", "shared", "data")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("shared data is absent: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(root, "edhoc", name))
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
