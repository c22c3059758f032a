// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// negotiationBench has both sides ready for P-256 and X25519 suites alike.
func negotiationBench(t testing.TB, initiator, responder []int) *bench {
	b := newBench(t, SignatureSignature, 2)
	x := newBench(t, SignatureSignature, 0)
	set := func(c *Config, ids []int, identities []Identity) {
		c.Suites = nil
		for _, id := range ids {
			c.Suites = append(c.Suites, mustSuite(t, id))
		}
		c.Identities = append(c.Identities, identities...)
	}
	set(&b.initCfg, initiator, x.i.identities())
	set(&b.respCfg, responder, x.r.identities())
	b.initCfg.Lookup = LookupKnown(b.r.signCred, x.r.signCred)
	b.respCfg.Lookup = LookupKnown(b.i.signCred, x.i.signCred)
	// Two keys of one party under one kid: each is tried.
	return b
}

// TestNegotiation follows the examples of RFC 9528, 6.3.2, with suites that exist: the Initiator prefers 0, 2, 3, 5 and
// 6 in this order.
func TestNegotiation(t *testing.T) {
	for _, c := range []struct {
		name      string
		responder []int
		guess     []int // PeerSuites of the first attempt
		suites    []string
		errors    []string
	}{
		{"agreed at once", []int{0, 2}, nil, []string{"00"}, nil},
		{"example 1", []int{2}, nil, []string{"00", "820002"}, []string{"0202"}},
		{"example 2", []int{5, 6}, []int{2}, []string{"820002", "8400020305"}, []string{"02820506"}},
		{"note 1", []int{0}, []int{2}, []string{"820002", "00"}, []string{"0200"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := negotiationBench(t, []int{0, 2, 3, 5, 6}, c.responder)
			b.initCfg.PeerSuites = c.guess
			i := b.initiator(t)
			var keys [][]byte
			for n, want := range c.suites {
				m1, err := i.Message1()
				if err != nil {
					t.Fatal(err)
				}
				if head := "00" + want; !strings.HasPrefix(fmt.Sprintf("%x", m1), head) {
					t.Fatalf("message_1 %x does not begin with %s", m1, head)
				}
				for _, k := range keys {
					if bytes.Equal(k, i.gX) {
						t.Fatal("an ephemeral key was used twice")
					}
				}
				keys = append(keys, i.gX)
				r := b.responder(t)
				offer, err := r.Message1(m1)
				if n < len(c.errors) {
					reply := r.ErrorReply(err)
					if !bytes.Equal(reply, unhex(t, c.errors[n])) {
						t.Fatalf("%v answered by %x, want %s", err, reply, c.errors[n])
					}
					em, err := i.Error(reply)
					if err != nil {
						t.Fatal(err)
					}
					if i, err = i.Renegotiate(em); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if offer.Suite.ID != i.Suite().ID || offer.Suites[len(offer.Suites)-1] != offer.Suite.ID || r.Suite() != i.Suite() {
					t.Fatalf("offer %+v, Initiator has %v", offer, i.Suite())
				}
				m2, err := r.Message2()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := i.Message2(m2); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestRenegotiateRefuses(t *testing.T) {
	b := negotiationBench(t, []int{0, 2}, []int{2})
	try := func(change func(c *Config), m ErrorMessage) error {
		t.Helper()
		c := b.initCfg
		change(&c)
		i, err := NewInitiator(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := i.Message1(); err != nil {
			t.Fatal(err)
		}
		_, err = i.Renegotiate(&m)
		return err
	}
	same := func(*Config) {}
	pinned := func(c *Config) { c.PinSuite, c.Suites = true, c.Suites[:1] }
	for _, c := range []struct {
		name   string
		change func(*Config)
		m      ErrorMessage
		want   Check
	}{
		{"another code", same, ErrorMessage{Code: 1}, CheckErrorPlace},
		{"a pinned suite", pinned, ErrorMessage{Code: 2, Suites: []int{2}}, CheckSuitePinned},
		{"a pinned suite that is asked for", pinned, ErrorMessage{Code: 2, Suites: []int{0}}, CheckSuitePinned},
		{"nothing in common", same, ErrorMessage{Code: 2, Suites: []int{24, 25}}, CheckSuite},
		{"what was just refused", same, ErrorMessage{Code: 2, Suites: []int{0, 2}}, CheckSuite},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := try(c.change, c.m); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %s", err, string(c.want))
			}
		})
	}
	c := b.initCfg
	c.Ephemeral = func(curve ecdh.Curve) (EphemeralKey, error) {
		k := freshKey(t, mustSuite(t, 0))
		k.closeErr = errHardware
		return k, nil
	}
	i, err := NewInitiator(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Message1(); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Renegotiate(&ErrorMessage{Code: 2, Suites: []int{2}}); !errors.Is(err, errHardware) {
		t.Fatal(err)
	}
}

// TestPinnedSuiteReportsOnly: a forged SUITES_R reaches the caller and changes nothing.
func TestPinnedSuiteReportsOnly(t *testing.T) {
	b := newBench(t, SignatureSignature, 24)
	b.initCfg.PinSuite, b.respCfg.PinSuite = true, true
	h := b.through(t, 2)
	m, err := h.i.Error(sequence(2, []int{2, 3}))
	if err != nil || len(m.Suites) != 2 {
		t.Fatalf("%v, %v", m, err)
	}
	if _, err := h.i.Renegotiate(m); !errors.Is(err, CheckSuitePinned) {
		t.Fatal(err)
	}
	if _, err := h.i.Message2(h.m2); err != nil {
		t.Fatalf("the session did not go on: %v", err)
	}
}

// TestDowngradeIsNoticed: an attacker who takes the preferred suite out of SUITES_I is found at message_2.
func TestDowngradeIsNoticed(t *testing.T) {
	b := negotiationBench(t, []int{0, 2}, []int{2})
	b.initCfg.PeerSuites = []int{2} // a forged SUITES_R led here
	i, r := b.initiator(t), b.responder(t)
	m1, err := i.Message1()
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte{0x00, 0x02}, m1[4:]...) // [0, 2] became 2
	if _, err := r.Message1(forged); err != nil {
		t.Fatal(err)
	}
	m2, err := r.Message2()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Message2(m2); err == nil {
		t.Fatal("the downgrade was not noticed")
	}
}

func TestConfig(t *testing.T) {
	other := newParty(t, mustSuite(t, 24), "other", 0x30)
	for _, c := range []struct {
		name   string
		role   Role
		change func(c *Config)
	}{
		{"no method", RoleInitiator, func(c *Config) { c.Methods = nil }},
		{"two methods", RoleInitiator, func(c *Config) { c.Methods = []Method{0, 1} }},
		{"no such method", RoleInitiator, func(c *Config) { c.Methods = []Method{4} }},
		{"no suite", RoleInitiator, func(c *Config) { c.Suites = nil }},
		{"a suite twice", RoleInitiator, func(c *Config) { c.Suites = append(c.Suites, c.Suites[0]) }},
		{"two pinned suites", RoleInitiator, func(c *Config) { c.Suites = append(c.Suites, mustSuite(t, -24)); c.PinSuite = true }},
		{"peer suites and a pinned one", RoleInitiator, func(c *Config) { c.PeerSuites = []int{24}; c.PinSuite = true }},
		{"peer suites for a Responder", RoleResponder, func(c *Config) { c.PeerSuites = []int{24} }},
		{"no common suite", RoleInitiator, func(c *Config) { c.PeerSuites = []int{2} }},
		{"no lookup", RoleResponder, func(c *Config) { c.Lookup = nil }},
		{"no identity for the Initiator", RoleInitiator, func(c *Config) { c.Identities = nil }},
		{"no identity for a method", RoleResponder, func(c *Config) { c.Methods = []Method{0, 1}; c.Identities = c.Identities[:1] }},
		{"no identity for a suite", RoleResponder, func(c *Config) { c.Suites = append(c.Suites, mustSuite(t, 0)) }},
		{"no credential", RoleInitiator, func(c *Config) { c.Identities[0].Credential = nil }},
		{"no identifier", RoleInitiator, func(c *Config) { c.Identities[0].ID = IDCred{} }},
		{"an identifier of something else", RoleInitiator, func(c *Config) { c.Identities[0].ID = ByX5Chain([]byte{1}) }},
		{"no private key", RoleInitiator, func(c *Config) { c.Identities[0].Signer = nil }},
		{"another signature key", RoleInitiator, func(c *Config) { c.Identities[0].Signer = other.signer }},
		{"another static key", RoleInitiator, func(c *Config) { c.Identities[1].KeyExchanger = other.static }},
		{"a signer for a key that cannot sign", RoleInitiator, func(c *Config) {
			c.Identities[1].Signer = other.signer
			c.Identities[1].Credential = keyOps(t, c.Identities[1].Credential, 7)
		}},
		{"a changed registered suite", RoleInitiator, func(c *Config) { c.Suites[0].MACLength = 8 }},
		{"an unregistered suite", RoleInitiator, func(c *Config) { c.Suites[0].ID = 1000 }},
		{"a private suite with an AEAD we do not have", RoleInitiator, func(c *Config) { c.Suites[0].ID, c.Suites[0].AEAD = -21, 99 }},
		{"a private suite with an application AEAD we do not have", RoleInitiator, func(c *Config) { c.Suites[0].ID, c.Suites[0].AppAEAD = -21, 99 }},
		{"a private suite with a short hash", RoleInitiator, func(c *Config) { c.Suites[0].ID, c.Suites[0].Hash = -22, SHA256_64 }},
		{"a private suite with a signature curve", RoleInitiator, func(c *Config) { c.Suites[0].ID, c.Suites[0].Curve = -23, Ed25519 }},
		{"a private suite with a signature we do not have", RoleInitiator, func(c *Config) { c.Suites[0].ID, c.Suites[0].Signature = -23, -36 }},
		{"a private suite with a short MAC", RoleInitiator, func(c *Config) { c.Suites[0].ID, c.Suites[0].MACLength = -24, 7 }},
		{"a private suite with a long MAC", RoleInitiator, func(c *Config) { c.Suites[0].ID, c.Suites[0].MACLength = -24, 49 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, SignatureSignature, 24)
			cfg := b.initCfg
			if c.role == RoleResponder {
				cfg = b.respCfg
			}
			c.change(&cfg)
			var err error
			if c.role == RoleResponder {
				_, err = NewResponder(cfg)
			} else {
				_, err = NewInitiator(cfg)
			}
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("%v", err)
			}
		})
	}
	for _, change := range []func(s *Suite){
		func(s *Suite) { s.Hash = SHA512 },
		func(s *Suite) { s.AppHash = SHA256_64 },
		func(s *Suite) { s.Signature = -36 },
	} {
		s := mustSuite(t, -24)
		change(&s)
		if err := s.validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	b := newBench(t, SignatureSignature, 24)
	b.initCfg.Identities[0].Signer = nil
	if _, err := NewInitiator(b.initCfg); err == nil || !strings.Contains(err.Error(), "no private key") {
		t.Error(err)
	}
	if _, err := SuiteByID(25); !errors.Is(err, ErrConfig) {
		t.Fatal(err)
	}
	if A256GCM.KeyLength() != 32 || AEAD(99).KeyLength() != 0 {
		t.Fatal("key lengths")
	}
	if RoleInitiator.String() != "Initiator" || RoleResponder.String() != "Responder" {
		t.Fatal("names of the roles")
	}
}

// TestPrivateSuite: a suite of one's own making works under a private number.
func TestPrivateSuite(t *testing.T) {
	b := newBench(t, StaticStatic, 24)
	s := Suite{ID: -21, AEAD: ChaCha20Poly1305, Hash: SHA384, MACLength: 32, Curve: P384, Signature: ES384, AppAEAD: A128GCM, AppHash: SHA256}
	b.initCfg.Suites, b.respCfg.Suites = []Suite{s}, []Suite{s}
	if h := b.through(t, 5); h.si.Suite() != s {
		t.Fatal("suite")
	}
}

func TestConnectionIdentifiers(t *testing.T) {
	for _, c := range []struct {
		id   []byte
		wire string
	}{
		{[]byte{0x00}, "00"}, {[]byte{0x17}, "17"}, {[]byte{0x20}, "20"}, {[]byte{0x37}, "37"}, {[]byte{0x2d}, "2d"},
		{[]byte{0x18}, "4118"}, {[]byte{0x1f}, "411f"}, {[]byte{0x38}, "4138"}, {[]byte{0xff}, "41ff"},
		{[]byte{}, "40"}, {[]byte{0xab, 0xcd}, "42abcd"}, {[]byte{0x00, 0x00}, "420000"},
	} {
		wire := encodeIdentifier(c.id)
		if !bytes.Equal(wire, unhex(t, c.wire)) {
			t.Errorf("%x is %x, want %s", c.id, wire, c.wire)
		}
		seq, e := items(wire)
		if e != nil {
			t.Fatal(e)
		}
		back, e := seq[0].identifier()
		if e != nil || !bytes.Equal(back, c.id) {
			t.Errorf("%x became %x, %v", c.id, back, e)
		}
		b := newBench(t, SignatureSignature, 0)
		b.initCfg.ConnectionID, b.respCfg.ConnectionID = c.id, append([]byte{0xee}, c.id...)
		h := b.through(t, 5)
		if cI, cR := h.sr.ConnectionIDs(); !bytes.Equal(cI, c.id) || !bytes.Equal(cR, append([]byte{0xee}, c.id...)) {
			t.Errorf("C_I %x, C_R %x", cI, cR)
		}
	}
	// Chosen by the library: one byte on the wire, and different ones.
	b := newBench(t, SignatureSignature, 0)
	b.initCfg.ConnectionID, b.respCfg.ConnectionID = nil, nil
	seen := map[byte]bool{}
	for range 60 {
		h := b.through(t, 3)
		if !isShortInt(h.i.cI) || !isShortInt(h.i.cR) || bytes.Equal(h.i.cI, h.i.cR) {
			t.Fatalf("C_I %x, C_R %x", h.i.cI, h.i.cR)
		}
		seen[h.i.cI[0]] = true
	}
	if len(seen) < 10 {
		t.Fatalf("%d identifiers in 60 sessions", len(seen))
	}
}
