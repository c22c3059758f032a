// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto/ecdh"
	"crypto/subtle"
	"slices"
)

// Responder is the side that receives message_1. It is not safe for concurrent use.
type Responder struct {
	*core
	peerKey *ecdh.PublicKey // G_X
}

// Offer is what message_1 says. Nothing in it has been verified.
type Offer struct {
	Method       Method
	Suites       []int // SUITES_I, the selected one last; numbers no suite can have appear as 1048576
	Suite        Suite // the selected one
	ConnectionID []byte
	EAD          []EAD // EAD_1 without padding
}

// NewResponder prepares a session. No key is made before [Responder.Message2].
func NewResponder(cfg Config) (*Responder, error) {
	cfg, err := cfg.prepare(RoleResponder)
	if err != nil {
		return nil, err
	}
	return &Responder{core: newCore(cfg, RoleResponder)}, nil
}

// Message1 processes message_1 (RFC 9528, 5.2.3).
func (r *Responder) Message1(msg []byte) (*Offer, error) {
	offer, e := r.message1(msg)
	return offer, r.settle(1, e)
}

func (r *Responder) message1(msg []byte) (*Offer, *Error) {
	if e := r.receive(1, StateStart, msg); e != nil {
		return nil, e
	}
	seq, e := items(msg)
	if e != nil {
		return nil, e
	}
	if len(seq) < 4 {
		return nil, fail(CheckCDDL, "%d data items where at least four belong", len(seq))
	}
	if !seq[0].isInt() {
		return nil, fail(CheckCDDL, "METHOD is not an integer")
	}
	suites, e := parseSuites(seq[1])
	if e != nil {
		return nil, e
	}
	gX, ok := seq[2].val.([]byte)
	if !ok {
		return nil, fail(CheckCDDL, "G_X is not a byte string")
	}
	cI, e := seq[3].identifier()
	if e != nil {
		return nil, e
	}
	ead, e := parseEAD(seq[4:])
	if e != nil {
		return nil, e
	}

	method, ok := seq[0].val.(int64)
	if !ok || !slices.Contains(r.cfg.Methods, Method(method)) {
		return nil, fail(CheckMethod, "method %v is not supported", seq[0].val)
	}
	suite, e := r.selectSuite(suites)
	if e != nil {
		return nil, e
	}
	peerKey, e := expand(suite.Curve, gX)
	if e != nil {
		return nil, e
	}
	if e := r.cfg.knownEAD(ead); e != nil {
		return nil, e
	}
	if e := r.cfg.processEAD(1, ead); e != nil {
		return nil, e
	}

	r.method, r.suite, r.peerKey = Method(method), *suite, peerKey
	r.own = r.cfg.identity(r.suite, r.method.ResponderStatic())
	r.gX, r.cI, r.hm1 = bytes.Clone(gX), cI, suite.Hash.sum(msg)
	r.state = StateVerifiedMessage1
	r.accepted(msg)
	offer := &Offer{Method: r.method, Suite: r.suite, ConnectionID: bytes.Clone(cI), EAD: ead}
	for _, s := range suites {
		offer.Suites = append(offer.Suites, int(s))
	}
	return offer, nil
}

// selectSuite takes the last of SUITES_I if it is supported and none before it is (RFC 9528, 5.2.3).
func (r *Responder) selectSuite(suites []int64) (*Suite, *Error) {
	last := len(suites) - 1
	if r.cfg.PinSuite && (last > 0 || suites[0] != int64(r.cfg.Suites[0].ID)) {
		return nil, fail(CheckSuitePinned, "SUITES_I is %v, %v is pinned", suites, r.cfg.Suites[0])
	}
	selected := r.cfg.suite(suites[last])
	if selected == nil {
		return nil, fail(CheckSuite, "the selected cipher suite %d is not supported", suites[last])
	}
	for _, s := range suites[:last] {
		if r.cfg.suite(s) != nil {
			return nil, fail(CheckSuiteOrder, "cipher suite %d is preferred and supported", s)
		}
	}
	return selected, nil
}

// Message2 makes the ephemeral key and message_2 (RFC 9528, 5.3.2).
func (r *Responder) Message2(ead ...EAD) ([]byte, error) {
	tmp := r.secrets.scratch()
	defer tmp.wipe()
	msg, e := r.message2(ead, tmp)
	if e != nil {
		return nil, r.settle(2, e)
	}
	// A static Diffie-Hellman Initiator needs G_IY, which is made from Y when message_3 is there.
	if !r.method.InitiatorStatic() {
		if err := r.release(2); err != nil {
			return nil, err
		}
	}
	return msg, nil
}

func (r *Responder) message2(ead []EAD, tmp *vault) ([]byte, *Error) {
	if e := r.expect(2, StateVerifiedMessage1); e != nil {
		return nil, e
	}
	field, err := encodeEAD(ead)
	if err != nil {
		return nil, fail(CheckLocal, "%w", err)
	}
	var msg []byte
	e := r.ephemeral(func(eph EphemeralKey) (e *Error) {
		msg, e = r.compose2(eph, field, tmp)
		return e
	})
	if e != nil {
		return nil, e
	}
	r.state, r.sent = StateWaitMessage3, msg
	return bytes.Clone(msg), nil
}

func (r *Responder) compose2(eph EphemeralKey, field []byte, tmp *vault) ([]byte, *Error) {
	s := r.suite
	gY := compact(s.Curve, eph.PublicKey())
	gXY, e := agree(eph, s.Curve, r.peerKey, tmp)
	if e != nil {
		return nil, e
	}
	cR := r.cfg.connectionID(r.cI)
	th2 := s.transcript(gY, r.hm1)
	prk2e := s.extract(tmp, th2, gXY)
	prk3e2m := prk2e
	if r.method.ResponderStatic() {
		gRX, e := agree(r.own.KeyExchanger, s.Curve, r.peerKey, tmp)
		if e != nil {
			return nil, e
		}
		prk3e2m = s.saltPRK(tmp, prk2e, labelSalt3e2m, th2, gRX)
	}
	next := *r.core // only to describe the statement; it is not kept
	next.th2, next.cR = th2, cR
	auth, e := next.statementOf(2, r.own.ID, r.own.Credential, field).prove(s, tmp, prk3e2m, r.own.Signer)
	if e != nil {
		return nil, e
	}
	plaintext := tmp.keep(append(append(append(encodeIdentifier(cR), r.own.ID.wire()...), sequence(auth)...), field...))
	ciphertext := make([]byte, len(plaintext))
	subtle.XORBytes(ciphertext, plaintext, s.keystream2(tmp, prk2e, th2, len(plaintext)))
	msg := sequence(append(bytes.Clone(gY), ciphertext...))
	if e := r.checkSize(msg); e != nil {
		return nil, e
	}

	r.gY, r.cR = gY, cR
	r.th2, r.th3 = th2, s.transcript(th2, raw(plaintext), raw(r.own.Credential.encoded))
	r.prk3e2m = r.adopt(prk3e2m)
	return msg, nil
}

// Message3 processes message_3 (RFC 9528, 5.4.3). What it returns has been verified.
func (r *Responder) Message3(msg []byte) (*Peer, error) {
	tmp := r.secrets.scratch()
	defer tmp.wipe()
	peer, e := r.message3(msg, tmp)
	if err := r.settle(3, e); err != nil {
		return nil, err
	}
	if err := r.release(3); err != nil {
		return nil, err
	}
	return peer, nil
}

func (r *Responder) message3(msg []byte, tmp *vault) (*Peer, *Error) {
	if e := r.receive(3, StateWaitMessage3, msg); e != nil {
		return nil, e
	}
	s := r.suite
	ciphertext, e := oneByteString(msg)
	if e != nil {
		return nil, e
	}
	plaintext, e := s.unseal(tmp, r.prk3e2m, 3, r.th3, ciphertext)
	if e != nil {
		return nil, e
	}
	seq, e := items(plaintext)
	if e != nil {
		return nil, e
	}
	id, auth, ead, rawEAD, e := r.plaintext(seq)
	if e != nil {
		return nil, e
	}
	var prk4e3m []byte
	cred, e := r.authenticate(3, id, ead, func(cred *Credential) *Error {
		prk4e3m = r.prk3e2m
		if r.method.InitiatorStatic() {
			gIY, e := agree(r.eph, s.Curve, cred.key.exchange, tmp)
			if e != nil {
				return e
			}
			prk4e3m = s.saltPRK(tmp, r.prk3e2m, labelSalt4e3m, r.th3, gIY)
		}
		return r.statementOf(3, id, cred, rawEAD).verify(s, tmp, prk4e3m, cred.key.sign, auth)
	})
	if e != nil {
		return nil, e
	}
	if e := r.cfg.processEAD(3, ead); e != nil {
		return nil, e
	}
	r.peer = Peer{ConnectionID: bytes.Clone(r.cI), ID: id, Credential: cred, EAD: ead}
	r.complete(prk4e3m, plaintext, cred)
	r.accepted(msg)
	peer := r.peer
	return &peer, nil
}

// Message4 makes message_4 (RFC 9528, 5.5.2).
func (r *Responder) Message4(ead ...EAD) ([]byte, error) {
	tmp := r.secrets.scratch()
	defer tmp.wipe()
	msg, e := r.message4(ead, tmp)
	return msg, r.settle(4, e)
}

func (r *Responder) message4(ead []EAD, tmp *vault) ([]byte, *Error) {
	if !r.cfg.Message4 {
		return nil, fail(CheckState, "message_4 is not part of the exchange")
	}
	if e := r.expect(4, StateCompleted); e != nil {
		return nil, e
	}
	field, err := encodeEAD(ead)
	if err != nil {
		return nil, fail(CheckLocal, "%w", err)
	}
	ciphertext, e := r.suite.seal(tmp, r.prk4e3m, 4, r.th4, field)
	if e != nil {
		return nil, e
	}
	msg := sequence(ciphertext)
	if e := r.checkSize(msg); e != nil {
		return nil, e
	}
	r.persist()
	r.sent = msg
	return bytes.Clone(msg), nil
}

// Error processes an error message of the Initiator. A nil error means that it was a proper one; the session is over
// then, unless the configuration says to go on.
func (r *Responder) Error(msg []byte) (*ErrorMessage, error) {
	return r.readError(msg, r.state == StateWaitMessage3, func(code int64) bool {
		return code != CodeWrongSuite // only a Responder has reason to send SUITES_R (RFC 9528, 6.3)
	})
}

// Session hands out the result, once, as soon as message_3 has been verified.
func (r *Responder) Session() (*Session, error) {
	if r.prkOut == nil || r.state != StateCompleted && r.state != StatePersisted {
		return nil, fail(CheckState, "no result in state %v", r.state).at(3)
	}
	return r.finish(), nil
}
