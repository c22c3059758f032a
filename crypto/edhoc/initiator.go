// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto/ecdh"
	"crypto/subtle"
	"slices"
)

// Initiator is the side that sends message_1. It is not safe for concurrent use.
type Initiator struct {
	*core
	suitesI []int
	peerKey *ecdh.PublicKey // G_Y
}

// NewInitiator prepares a session. No key is made before [Initiator.Message1].
func NewInitiator(cfg Config) (*Initiator, error) {
	cfg, err := cfg.prepare(RoleInitiator)
	if err != nil {
		return nil, err
	}
	i := &Initiator{core: newCore(cfg, RoleInitiator)}
	selected := 0
	if len(cfg.PeerSuites) > 0 {
		selected = slices.IndexFunc(cfg.Suites, func(s Suite) bool { return slices.Contains(cfg.PeerSuites, s.ID) })
		if selected < 0 {
			return nil, configError("none of the peer's cipher suites %v is supported", cfg.PeerSuites)
		}
	}
	i.method, i.suite = cfg.Methods[0], cfg.Suites[selected]
	// All suites preferred to the selected one are named, so that the Responder sees a downgrade (RFC 9528, 5.2.2).
	i.suitesI = cfg.suiteIDs()[:selected+1]
	if i.own = cfg.identity(i.suite, i.method.InitiatorStatic()); i.own == nil {
		return nil, configError("no identity for method %d with %v", i.method, i.suite)
	}
	return i, nil
}

// Message1 makes the ephemeral key and message_1 (RFC 9528, 5.2.2).
func (i *Initiator) Message1(ead ...EAD) ([]byte, error) {
	msg, e := i.message1(ead)
	return msg, i.settle(1, e)
}

func (i *Initiator) message1(ead []EAD) ([]byte, *Error) {
	if e := i.expect(1, StateStart); e != nil {
		return nil, e
	}
	field, err := encodeEAD(ead)
	if err != nil {
		return nil, fail(CheckLocal, "%w", err)
	}
	var msg []byte
	e := i.ephemeral(func(eph EphemeralKey) *Error {
		gX := compact(i.suite.Curve, eph.PublicKey())
		cI := i.cfg.connectionID(nil)
		msg = sequence(int(i.method), raw(encodeSuites(i.suitesI)), gX, raw(encodeIdentifier(cI)))
		msg = append(msg, field...)
		if e := i.checkSize(msg); e != nil {
			return e
		}
		i.gX, i.cI, i.hm1 = gX, cI, i.suite.Hash.sum(msg)
		return nil
	})
	if e != nil {
		return nil, e
	}
	i.state, i.sent = StateWaitMessage2, msg
	return bytes.Clone(msg), nil
}

// Message2 processes message_2 (RFC 9528, 5.3.3). What it returns has been verified.
func (i *Initiator) Message2(msg []byte) (*Peer, error) {
	// Everything is computed beside the session, which changes only when all is well.
	tmp := i.secrets.scratch()
	defer tmp.wipe()
	peer, e := i.message2(msg, tmp)
	if err := i.settle(2, e); err != nil {
		return nil, err
	}
	if err := i.release(2); err != nil {
		return nil, err
	}
	return peer, nil
}

func (i *Initiator) message2(msg []byte, tmp *vault) (*Peer, *Error) {
	if e := i.receive(2, StateWaitMessage2, msg); e != nil {
		return nil, e
	}
	s := i.suite
	gYc, e := oneByteString(msg)
	if e != nil {
		return nil, e
	}
	n := s.Curve.size()
	if len(gYc) < n {
		return nil, fail(CheckKeyLength, "%d bytes are too few for G_Y", len(gYc))
	}
	gY, ciphertext := bytes.Clone(gYc[:n]), gYc[n:]
	// Ephemeral keys are fresh on both sides (RFC 9528, 9.2): our own one coming back is a reflection.
	if bytes.Equal(gY, i.gX) {
		return nil, fail(CheckKeyReuse, "G_Y is G_X")
	}
	peerKey, e := expand(s.Curve, gY)
	if e != nil {
		return nil, e
	}
	gXY, e := agree(i.eph, s.Curve, peerKey, tmp)
	if e != nil {
		return nil, e
	}
	th2 := s.transcript(gY, i.hm1)
	prk2e := s.extract(tmp, th2, gXY)
	plaintext := tmp.keep(make([]byte, len(ciphertext)))
	subtle.XORBytes(plaintext, ciphertext, s.keystream2(tmp, prk2e, th2, len(ciphertext)))

	seq, e := items(plaintext)
	if e != nil {
		return nil, e
	}
	if len(seq) == 0 {
		return nil, fail(CheckCDDL, "the plaintext is empty")
	}
	cR, e := seq[0].identifier()
	if e != nil {
		return nil, e
	}
	id, auth, ead, rawEAD, e := i.plaintext(seq[1:])
	if e != nil {
		return nil, e
	}

	var prk3e2m []byte
	next := *i.core // only to describe the statement; it is not kept
	next.th2, next.cR = th2, cR
	cred, e := i.authenticate(2, id, ead, func(cred *Credential) *Error {
		prk3e2m = prk2e
		if i.method.ResponderStatic() {
			gRX, e := agree(i.eph, s.Curve, cred.key.exchange, tmp)
			if e != nil {
				return e
			}
			prk3e2m = s.saltPRK(tmp, prk2e, labelSalt3e2m, th2, gRX)
		}
		return next.statementOf(2, id, cred, rawEAD).verify(s, tmp, prk3e2m, cred.key.sign, auth)
	})
	if e != nil {
		return nil, e
	}
	if e := i.cfg.processEAD(2, ead); e != nil {
		return nil, e
	}

	i.peerKey, i.gY, i.cR = peerKey, gY, cR
	i.th2, i.th3 = th2, s.transcript(th2, raw(plaintext), raw(cred.encoded))
	i.prk3e2m = i.adopt(prk3e2m)
	i.peer = Peer{ConnectionID: bytes.Clone(cR), ID: id, Credential: cred, EAD: ead}
	i.state = StateVerifiedMessage2
	i.accepted(msg)
	peer := i.peer
	return &peer, nil
}

// Message3 makes message_3 (RFC 9528, 5.4.2).
func (i *Initiator) Message3(ead ...EAD) ([]byte, error) {
	tmp := i.secrets.scratch()
	defer tmp.wipe()
	msg, e := i.message3(ead, tmp)
	return msg, i.settle(3, e)
}

func (i *Initiator) message3(ead []EAD, tmp *vault) ([]byte, *Error) {
	if e := i.expect(3, StateVerifiedMessage2); e != nil {
		return nil, e
	}
	s := i.suite
	field, err := encodeEAD(ead)
	if err != nil {
		return nil, fail(CheckLocal, "%w", err)
	}
	prk4e3m := i.prk3e2m
	if i.method.InitiatorStatic() {
		gIY, e := agree(i.own.KeyExchanger, s.Curve, i.peerKey, tmp)
		if e != nil {
			return nil, e
		}
		prk4e3m = s.saltPRK(tmp, i.prk3e2m, labelSalt4e3m, i.th3, gIY)
	}
	auth, e := i.statementOf(3, i.own.ID, i.own.Credential, field).prove(s, tmp, prk4e3m, i.own.Signer)
	if e != nil {
		return nil, e
	}
	plaintext := tmp.keep(append(append(i.own.ID.wire(), sequence(auth)...), field...))
	ciphertext, e := s.seal(tmp, i.prk3e2m, 3, i.th3, plaintext)
	if e != nil {
		return nil, e
	}
	msg := sequence(ciphertext)
	if e := i.checkSize(msg); e != nil {
		return nil, e
	}
	i.complete(prk4e3m, plaintext, i.own.Credential)
	i.sent = msg
	return bytes.Clone(msg), nil
}

// Message4 processes message_4 and gives EAD_4 without padding (RFC 9528, 5.5.3). With it the Responder has confirmed
// the key.
func (i *Initiator) Message4(msg []byte) ([]EAD, error) {
	tmp := i.secrets.scratch()
	defer tmp.wipe()
	ead, e := i.message4(msg, tmp)
	return ead, i.settle(4, e)
}

func (i *Initiator) message4(msg []byte, tmp *vault) ([]EAD, *Error) {
	if !i.cfg.Message4 {
		return nil, fail(CheckState, "message_4 is not part of the exchange")
	}
	if e := i.receive(4, StateCompleted, msg); e != nil {
		return nil, e
	}
	ciphertext, e := oneByteString(msg)
	if e != nil {
		return nil, e
	}
	plaintext, e := i.suite.unseal(tmp, i.prk4e3m, 4, i.th4, ciphertext)
	if e != nil {
		return nil, e
	}
	seq, e := items(plaintext)
	if e != nil {
		return nil, e
	}
	ead, e := parseEAD(seq)
	if e != nil {
		return nil, e
	}
	if e := i.cfg.knownEAD(ead); e != nil {
		return nil, e
	}
	if e := i.cfg.processEAD(4, ead); e != nil {
		return nil, e
	}
	i.persist()
	i.accepted(msg)
	return ead, nil
}

// Error processes an error message of the Responder. A nil error means that it was a proper one; the session is over
// then, unless the configuration says to go on. See [Initiator.Renegotiate] for what may follow.
func (i *Initiator) Error(msg []byte) (*ErrorMessage, error) {
	waiting := i.state == StateWaitMessage2 || i.state == StateCompleted && i.cfg.Message4
	first := i.state == StateWaitMessage2
	return i.readError(msg, waiting, func(code int64) bool {
		// SUITES_R answers message_1 only, "unknown credential" only a message that names one (RFC 9528, 6.3 and 6.4).
		return code != CodeWrongSuite && code != CodeUnknownCredential || first == (code == CodeWrongSuite)
	})
}

// Renegotiate prepares the next attempt after error code 2: the most preferred of our suites that SUITES_R names, with a
// new ephemeral key. It refuses when the suite is pinned, when SUITES_R has none of ours, and when it has the one that
// was just selected, since then the error message contradicts itself or a suite we prefer. This session is closed.
func (i *Initiator) Renegotiate(m *ErrorMessage) (*Initiator, error) {
	if m.Code != CodeWrongSuite {
		return nil, fail(CheckErrorPlace, "error code %d is not about cipher suites", m.Code)
	}
	if i.cfg.PinSuite {
		return nil, fail(CheckSuitePinned, "the peer asks for cipher suites %v, %v is pinned", m.Suites, i.suite)
	}
	cfg := i.cfg
	cfg.PeerSuites = m.Suites
	next, err := NewInitiator(cfg)
	if err != nil {
		return nil, &Error{Check: CheckSuite, Err: err}
	}
	if next.suite.ID == i.suite.ID {
		return nil, fail(CheckSuite, "the peer refuses %v and asks for it", i.suite)
	}
	if err := i.Close(); err != nil {
		return nil, fail(CheckLocal, "%w", err)
	}
	return next, nil
}

// Session hands out the result, once: after message_4 if that is part of the exchange, else after message_3. In the
// latter case the Responder has not confirmed the key yet, and the result should not be stored for good before it did
// (RFC 9528, 5.4.2).
func (i *Initiator) Session() (*Session, error) {
	if i.prkOut == nil || i.state != StatePersisted && (i.state != StateCompleted || i.cfg.Message4) {
		return nil, fail(CheckState, "no result in state %v", i.state).at(3)
	}
	return i.finish(), nil
}

// complete computes what follows from message_3 on both sides: TH_4, PRK_out and the key of message_4.
func (c *core) complete(prk4e3m, plaintext3 []byte, credI *Credential) {
	c.th4 = c.suite.transcript(c.th3, raw(plaintext3), raw(credI.encoded))
	prkOut := c.suite.kdf(c.secrets, prk4e3m, labelPRKOut, c.th4, c.suite.Hash.Size())
	var prk4 []byte
	if c.cfg.Message4 {
		prk4 = c.adopt(prk4e3m)
	}
	// Nothing needs PRK_2e and PRK_3e2m any more.
	clear(c.prk2e)
	clear(c.prk3e2m)
	c.prk2e, c.prk3e2m = nil, nil
	c.prk4e3m, c.prkOut = prk4, prkOut
	c.state = StateCompleted
}
