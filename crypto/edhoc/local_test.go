// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
)

var errHardware = errors.New("hardware says no")

// brokenSigner signs with whatever f gives.
type brokenSigner struct {
	crypto.Signer
	f func() ([]byte, error)
}

func (b brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return b.f() }

// TestLocalFailures lets our own keys fail in every way, at every place, and looks that nothing is left behind.
func TestLocalFailures(t *testing.T) {
	failing := func(err error) EphemeralFactory {
		return func(ecdh.Curve) (EphemeralKey, error) { return nil, err }
	}
	key := func(b *bench, change func(k *fixedKey)) EphemeralFactory {
		return func(ecdh.Curve) (EphemeralKey, error) {
			k := freshKey(t, b.suite)
			change(k)
			return k, nil
		}
	}
	signWith := func(f func() ([]byte, error)) func(c *Config) {
		return func(c *Config) { c.Identities[0].Signer = brokenSigner{c.Identities[0].Signer, f} }
	}
	fails := func() ([]byte, error) { return nil, errHardware }
	gives := func(b ...byte) func() ([]byte, error) { return func() ([]byte, error) { return b, nil } }

	for _, c := range []struct {
		name    string
		method  Method
		suite   int
		config  func(b *bench)
		message int // the call that fails
		want    error
	}{
		{name: "no ephemeral key for the Initiator", suite: 24, message: 1, want: errHardware,
			config: func(b *bench) { b.initCfg.Ephemeral = failing(errHardware) }},
		{name: "an ephemeral key of another curve", suite: 24, message: 1,
			config: func(b *bench) {
				b.initCfg.Ephemeral = func(ecdh.Curve) (EphemeralKey, error) { return SoftwareEphemeral(ecdh.P256()) }
			}},
		{name: "message_1 above the limit", suite: 24, message: 1, want: CheckSize,
			config: func(b *bench) { b.initCfg.MaxMessageSize = 40 }},
		{name: "no ephemeral key for the Responder", suite: 24, message: 2, want: errHardware,
			config: func(b *bench) { b.respCfg.Ephemeral = failing(errHardware) }},
		{name: "no shared secret for the Responder", suite: 24, message: 2, want: errHardware,
			config: func(b *bench) { b.respCfg.Ephemeral = key(b, func(k *fixedKey) { k.err = errHardware }) }},
		{name: "no shared secret and no end of the key", suite: 24, message: 2, want: io.ErrClosedPipe,
			config: func(b *bench) {
				b.respCfg.Ephemeral = key(b, func(k *fixedKey) { k.err, k.closeErr = errHardware, io.ErrClosedPipe })
			}},
		{name: "no signature from the Responder", suite: 24, message: 2, want: errHardware,
			config: func(b *bench) { signWith(fails)(&b.respCfg) }},
		{name: "a signature that is no ASN.1", suite: 24, message: 2,
			config: func(b *bench) { signWith(gives(1, 2, 3))(&b.respCfg) }},
		{name: "a signature with a negative number", suite: 24, message: 2,
			config: func(b *bench) { signWith(gives(0x30, 6, 2, 1, 0xff, 2, 1, 1))(&b.respCfg) }},
		{name: "a signature with something behind it", suite: 24, message: 2,
			config: func(b *bench) { signWith(gives(0x30, 6, 2, 1, 1, 2, 1, 1, 0))(&b.respCfg) }},
		{name: "a signature of a longer curve", suite: -24, message: 2,
			config: func(b *bench) {
				k, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				signWith(func() ([]byte, error) { return k.Sign(rand.Reader, make([]byte, 32), crypto.SHA256) })(&b.respCfg)
			}},
		{name: "an Ed25519 signature of the wrong length", suite: 0, message: 2,
			config: func(b *bench) { signWith(gives(1, 2, 3))(&b.respCfg) }},
		{name: "no Ed25519 signature", suite: 0, message: 2, want: errHardware,
			config: func(b *bench) { signWith(fails)(&b.respCfg) }},
		{name: "message_2 above the limit", suite: 24, message: 2, want: CheckSize,
			config: func(b *bench) { b.respCfg.MaxMessageSize = 100 }},
		{name: "no static secret for the Responder", suite: 24, method: StaticStatic, message: 2, want: errHardware,
			config: func(b *bench) {
				b.respCfg.Identities[1].KeyExchanger = &fixedKey{PrivateKey: b.r.static, err: errHardware}
			}},
		{name: "the Responder's ephemeral key does not end", suite: 24, message: 2, want: io.ErrClosedPipe,
			config: func(b *bench) { b.respCfg.Ephemeral = key(b, func(k *fixedKey) { k.closeErr = io.ErrClosedPipe }) }},
		{name: "no shared secret for the Initiator", suite: 24, message: 3, want: errHardware,
			config: func(b *bench) { b.initCfg.Ephemeral = key(b, func(k *fixedKey) { k.err = errHardware }) }},
		{name: "the Initiator's ephemeral key does not end", suite: 24, message: 3, want: io.ErrClosedPipe,
			config: func(b *bench) { b.initCfg.Ephemeral = key(b, func(k *fixedKey) { k.closeErr = io.ErrClosedPipe }) }},
		{name: "no second shared secret for the Initiator", suite: 24, method: StaticStatic, message: 3, want: errHardware,
			config: func(b *bench) { b.initCfg.Ephemeral = limited(t, b, 1) }},
		{name: "no signature from the Initiator", suite: 24, message: 4, want: errHardware,
			config: func(b *bench) { signWith(fails)(&b.initCfg) }},
		{name: "message_3 above the limit", suite: 24, message: 4, want: CheckSize,
			config: func(b *bench) { b.initCfg.MaxMessageSize = 160; b.ead3 = mustPadding(t, 100) }},
		{name: "no static secret for the Initiator", suite: 24, method: StaticStatic, message: 4, want: errHardware,
			config: func(b *bench) {
				b.initCfg.Identities[1].KeyExchanger = &fixedKey{PrivateKey: b.i.static, err: errHardware}
			}},
		{name: "no second shared secret for the Responder", suite: 24, method: StaticStatic, message: 5, want: errHardware,
			config: func(b *bench) { b.respCfg.Ephemeral = limited(t, b, 1) }},
		{name: "the Responder's kept ephemeral key does not end", suite: 24, method: StaticStatic, message: 5, want: io.ErrClosedPipe,
			config: func(b *bench) { b.respCfg.Ephemeral = key(b, func(k *fixedKey) { k.closeErr = io.ErrClosedPipe }) }},
		{name: "message_4 above the limit", suite: 24, message: 6, want: CheckSize,
			config: func(b *bench) { b.respCfg.MaxMessageSize = 160; b.ead4 = mustPadding(t, 200) }},
		{name: "a bad EAD_1", suite: 24, message: 1, want: ErrConfig, config: func(b *bench) { b.ead1 = []EAD{{Label: -1}} }},
		{name: "a bad EAD_2", suite: 24, message: 2, want: ErrConfig, config: func(b *bench) { b.ead2 = []EAD{{Critical: true}} }},
		{name: "a bad EAD_3", suite: 24, message: 4, want: ErrConfig, config: func(b *bench) { b.ead3 = []EAD{{Label: 1}, {Label: 1, Critical: true}} }},
		{name: "a bad EAD_4", suite: 24, message: 6, want: ErrConfig, config: func(b *bench) { b.ead4 = []EAD{{Label: -1}} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.method, c.suite)
			b.tracking = true
			c.config(b)
			b.initCfg.KeepOnFailure, b.respCfg.KeepOnFailure = false, false
			i, r := b.initiator(t), b.responder(t)
			at, err := b.steps(i, r)
			if err == nil || at != c.message {
				t.Fatalf("step %d: %v", at, err)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Fatalf("%v is not %v", err, c.want)
			}
			if c.want != CheckSize && !errors.Is(err, CheckLocal) {
				t.Fatalf("%v is not a local failure", err)
			}
			failed := i.core
			if at == 2 || at == 5 || at == 6 {
				failed = r.core
			}
			if failed.State() != StateAborted {
				t.Fatalf("state %v", failed.State())
			}
			i.Close()
			r.Close()
			b.noSecrets(t)
		})
	}
}

// steps runs an exchange and tells at which of its calls it stopped: 1 Initiator.Message1, 2 Responder.Message2 (with
// Message1), 3 Initiator.Message2, 4 Initiator.Message3, 5 Responder.Message3, 6 Responder.Message4.
func (b *bench) steps(i *Initiator, r *Responder) (int, error) {
	m1, err := i.Message1(b.ead1...)
	if err != nil {
		return 1, err
	}
	if _, err := r.Message1(m1); err != nil {
		return 0, err
	}
	m2, err := r.Message2(b.ead2...)
	if err != nil {
		return 2, err
	}
	if _, err := i.Message2(m2); err != nil {
		return 3, err
	}
	m3, err := i.Message3(b.ead3...)
	if err != nil {
		return 4, err
	}
	if _, err := r.Message3(m3); err != nil {
		return 5, err
	}
	m4, err := r.Message4(b.ead4...)
	if err != nil {
		return 6, err
	}
	_, err = i.Message4(m4)
	return 7, err
}

// limited is an ephemeral key that works n times.
func limited(t testing.TB, b *bench, n int) EphemeralFactory {
	return func(ecdh.Curve) (EphemeralKey, error) {
		return &countedKey{fixedKey: freshKey(t, b.suite), left: n}, nil
	}
}

type countedKey struct {
	*fixedKey
	left int
}

func (k *countedKey) ECDH(p *ecdh.PublicKey) ([]byte, error) {
	if k.left == 0 {
		return nil, errHardware
	}
	k.left--
	return k.fixedKey.ECDH(p)
}

// TestSigningFailureCanBeRepeated: a signature that hardware could not make leaves no key and nonce used.
func TestSigningFailureCanBeRepeated(t *testing.T) {
	b := newBench(t, SignatureSignature, 24)
	tries := 0
	good := b.initCfg.Identities[0].Signer
	b.initCfg.Identities[0].Signer = brokenSignerOnce{good, &tries}
	h := b.through(t, 2)
	if _, err := h.i.Message2(h.m2); err != nil {
		t.Fatal(err)
	}
	if _, err := h.i.Message3(); !errors.Is(err, errHardware) {
		t.Fatal(err)
	}
	m3, err := h.i.Message3()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.r.Message3(m3); err != nil {
		t.Fatal(err)
	}
	if _, err := h.i.Message3(); !errors.Is(err, CheckState) {
		t.Fatalf("message_3 was made twice: %v", err)
	}
	if string(h.i.Sent()) != string(m3) {
		t.Fatal("the message that was sent is not kept for repetition")
	}
}

type brokenSignerOnce struct {
	crypto.Signer
	tries *int
}

func (b brokenSignerOnce) Sign(r io.Reader, d []byte, o crypto.SignerOpts) ([]byte, error) {
	if *b.tries++; *b.tries == 1 {
		return nil, errHardware
	}
	return b.Signer.Sign(r, d, o)
}

// exchanger gives a fixed answer in place of a shared secret.
type exchanger struct {
	*ecdh.PrivateKey
	z []byte
}

func (e exchanger) ECDH(*ecdh.PublicKey) ([]byte, error) { return e.z, nil }

func TestSharedSecretForms(t *testing.T) {
	k, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		z    []byte
		want string // first byte and length, or the check
	}{
		{"stripped of its leading zeros", []byte{7}, ""},
		{"full length", append(make([]byte, 47), 7), ""},
		{"too long", make([]byte, 49), string(CheckLocal)},
		{"all zero", make([]byte, 48), string(CheckPublicKey)},
		{"empty", nil, string(CheckPublicKey)},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &vault{}
			z, e := agree(exchanger{k, c.z}, P384, k.PublicKey(), v)
			if c.want != "" {
				if e == nil || string(e.Check) != c.want {
					t.Fatalf("%v", e)
				}
				return
			}
			if e != nil || len(z) != 48 || z[47] != 7 || strings.Trim(string(z[:47]), "\x00") != "" {
				t.Fatalf("%x, %v", z, e)
			}
			v.wipe()
			if z[47] != 0 || c.z[len(c.z)-1] != 0 {
				t.Fatal("not wiped")
			}
		})
	}
}

func TestSoftwareEphemeral(t *testing.T) {
	k, err := SoftwareEphemeral(ecdh.P384())
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if k.Curve() != ecdh.P384() {
		t.Fatal("curve")
	}
	if _, err := k.ECDH(other.PublicKey()); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.ECDH(other.PublicKey()); err == nil {
		t.Fatal("a destroyed key works")
	}
}
