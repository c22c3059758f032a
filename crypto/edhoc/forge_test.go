// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto"
	"crypto/ecdh"
	"crypto/subtle"
	"testing"
)

// forgery is a message_2 or message_3 made by a peer that holds all the right keys and follows the protocol, but for
// what a test alters here. Everything behind the alteration (transcript, MAC, signature, encryption) fits it, so that
// nothing but a check of the altered thing can notice.
type forgery struct {
	cR     raw // C_R as it stands in PLAINTEXT_2 and context_2
	idWire raw // ID_CRED_x in the plaintext
	idMap  raw // ID_CRED_x as authenticated
	cred   raw // CRED_x
	ead    raw

	signer crypto.Signer
	static *ecdh.PrivateKey
	auth   func([]byte) []byte // alters Signature_or_MAC_x
	plain  func([]byte) []byte // alters the plaintext
	gY     func([]byte) []byte // alters G_Y after all else was made with the right one
	body   func([]byte) []byte // alters the message
}

func alterWith(f func([]byte) []byte, b []byte) []byte {
	if f == nil {
		return b
	}
	return f(b)
}

// genuine is the forgery that alters nothing.
func (b *bench) genuine(message int) *forgery {
	p, static, cR := b.r, b.method.ResponderStatic(), raw(encodeIdentifier(b.respCfg.ConnectionID))
	if message == 3 {
		p, static, cR = b.i, b.method.InitiatorStatic(), nil
	}
	f := &forgery{cR: cR, signer: p.signer, static: p.static}
	cred := p.signCred
	if static {
		cred = p.dhCred
	}
	f.as(cred, ByKID(cred.kid))
	return f
}

// as sets the credential.
func (f *forgery) as(cred *Credential, id IDCred) {
	f.cred, f.idWire, f.idMap = cred.encoded, id.wire(), id.Bytes()
}

func (f *forgery) statement(message int, static bool, th []byte) *statement {
	return &statement{message: message, static: static, cR: f.cR, idCred: f.idMap, th: th, cred: f.cred, ead: f.ead}
}

// message2 answers a message_1 that r has accepted, with the ephemeral key y.
func (f *forgery) message2(t testing.TB, r *Responder, y *ecdh.PrivateKey) []byte {
	t.Helper()
	s, v := r.suite, &vault{}
	gY := compact(s.Curve, y.PublicKey())
	gXY, e := agree(y, s.Curve, r.peerKey, v)
	if e != nil {
		t.Fatal(e)
	}
	th2 := s.transcript(gY, r.hm1)
	prk2e := s.extract(v, th2, gXY)
	prk3e2m := prk2e
	if r.method.ResponderStatic() {
		gRX, e := agree(f.static, s.Curve, r.peerKey, v)
		if e != nil {
			t.Fatal(e)
		}
		prk3e2m = s.saltPRK(v, prk2e, labelSalt3e2m, th2, gRX)
	}
	auth, e := f.statement(2, r.method.ResponderStatic(), th2).prove(s, v, prk3e2m, f.signer)
	if e != nil {
		t.Fatal(e)
	}
	plain := sequence(f.cR, f.idWire, alterWith(f.auth, auth), f.ead)
	plain = alterWith(f.plain, plain)
	ct := make([]byte, len(plain))
	subtle.XORBytes(ct, plain, s.keystream2(v, prk2e, th2, len(plain)))
	return alterWith(f.body, sequence(append(append([]byte{}, alterWith(f.gY, gY)...), ct...)))
}

// message3 goes on where i has accepted message_2.
func (f *forgery) message3(t testing.TB, i *Initiator) []byte {
	t.Helper()
	s, v := i.suite, &vault{}
	prk4e3m := i.prk3e2m
	if i.method.InitiatorStatic() {
		gIY, e := agree(f.static, s.Curve, i.peerKey, v)
		if e != nil {
			t.Fatal(e)
		}
		prk4e3m = s.saltPRK(v, i.prk3e2m, labelSalt4e3m, i.th3, gIY)
	}
	auth, e := f.statement(3, i.method.InitiatorStatic(), i.th3).prove(s, v, prk4e3m, f.signer)
	if e != nil {
		t.Fatal(e)
	}
	plain := alterWith(f.plain, sequence(f.idWire, alterWith(f.auth, auth), f.ead))
	ct, e := s.seal(v, i.prk3e2m, 3, i.th3, plain)
	if e != nil {
		t.Fatal(e)
	}
	return alterWith(f.body, sequence(ct))
}

// forge4 makes a message_4 with any plaintext.
func forge4(t testing.TB, r *Responder, plain []byte) []byte {
	t.Helper()
	ct, e := r.suite.seal(&vault{}, r.prk4e3m, 4, r.th4, plain)
	if e != nil {
		t.Fatal(e)
	}
	return sequence(ct)
}
