// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// Role is the side of an exchange.
type Role int

// The two roles.
const (
	RoleInitiator Role = iota
	RoleResponder
)

// String names the role.
func (r Role) String() string {
	if r == RoleResponder {
		return "Responder"
	}
	return "Initiator"
}

// State is where a session stands (RFC 9528, Appendix I).
type State int

// The states. COMPLETED is left out of one side's path where it has nothing to wait for.
const (
	StateStart            State = iota // nothing sent or received
	StateVerifiedMessage1              // Responder: message_1 was accepted, message_2 can be made
	StateWaitMessage2                  // Initiator
	StateVerifiedMessage2              // Initiator: message_2 was accepted, message_3 can be made
	StateWaitMessage3                  // Responder
	StateCompleted                     // message_3 was made or accepted
	StatePersisted                     // message_4 was made or accepted
	StateAborted                       // ended by failure or Close; all secrets are wiped
)

// String names the state.
func (s State) String() string {
	return [...]string{"START", "VRFD_M1", "WAIT_M2", "VRFD_M2", "WAIT_M3", "COMPLETED", "PERSISTED", "ABORTED"}[s]
}

// Peer is what a verified message_2 or message_3 says about the other side.
type Peer struct {
	ConnectionID []byte // C_R for an Initiator, C_I for a Responder
	ID           IDCred
	Credential   *Credential
	EAD          []EAD // EAD_2 or EAD_3 without padding
}

// core is what both roles have in common.
type core struct {
	cfg    Config
	role   Role
	state  State
	method Method
	suite  Suite
	own    *Identity
	peer   Peer

	gX, gY   []byte
	cI, cR   []byte
	hm1      []byte // H(message_1)
	th2, th3 []byte
	th4      []byte
	eph      EphemeralKey

	secrets          *vault
	prk2e            []byte
	prk3e2m, prk4e3m []byte
	prkOut           []byte

	sent []byte                         // the last message that was made
	seen map[[sha256.Size]byte]struct{} // messages that were accepted, to tell a repeated one from a foreign one
}

func newCore(cfg Config, role Role) *core {
	return &core{cfg: cfg, role: role, secrets: &vault{}, seen: make(map[[sha256.Size]byte]struct{})}
}

// State tells where the session stands.
func (c *core) State() State { return c.state }

// Suite is the selected cipher suite; for a Responder it is known after message_1.
func (c *core) Suite() Suite { return c.suite }

// Sent is the last message that was made, for repeating it when it may have been lost (RFC 9528, 7). A message is never
// made twice: a second signature would put two plaintexts under one key and nonce.
func (c *core) Sent() []byte { return append([]byte(nil), c.sent...) }

// Close ends the session, destroys the ephemeral key and wipes every secret. It may be called in any state and more
// than once; a [Session] that was handed out lives on.
func (c *core) Close() error {
	c.secrets.wipe()
	c.prk2e, c.prk3e2m, c.prk4e3m, c.prkOut = nil, nil, nil, nil
	c.state = StateAborted
	return c.dropEphemeral()
}

// dropEphemeral destroys the ephemeral key, once.
func (c *core) dropEphemeral() error {
	if c.eph == nil {
		return nil
	}
	err := c.eph.Close()
	c.eph = nil
	if err != nil {
		return fmt.Errorf("edhoc: destroy ephemeral key: %w", err)
	}
	return nil
}

// receive checks what concerns every message before it is looked into.
func (c *core) receive(message int, want State, msg []byte) *Error {
	if c.state != want {
		if _, repeated := c.seen[sha256.Sum256(msg)]; repeated && c.state != StateAborted {
			return fail(CheckDuplicate, "this message was processed before").at(message)
		}
		return fail(CheckState, "not expected in state %v", c.state).at(message)
	}
	return c.checkSize(msg).at(message)
}

// checkSize applies the limit to a message of either direction.
func (c *core) checkSize(msg []byte) *Error {
	if len(msg) > c.cfg.MaxMessageSize {
		return fail(CheckSize, "%d bytes, the limit is %d", len(msg), c.cfg.MaxMessageSize)
	}
	return nil
}

// accepted notes a message that moved the session on.
func (c *core) accepted(msg []byte) { c.seen[sha256.Sum256(msg)] = struct{}{} }

// expect checks that a message can be made now.
func (c *core) expect(message int, want State) *Error {
	if c.state != want {
		return fail(CheckState, "not to be made in state %v", c.state).at(message)
	}
	return nil
}

// settle ends the processing of a message: a failure ends the session, unless the caller wants to go on. A message in
// the wrong state ends nothing: after the last message a stray one must not cost the result (RFC 9528, 5.1), and before
// that lockstep makes it harmless.
func (c *core) settle(message int, e *Error) error {
	if e == nil {
		return nil
	}
	e.at(message)
	if e.Check == CheckState || e.Check == CheckDuplicate || c.cfg.KeepOnFailure {
		return e
	}
	if err := c.Close(); err != nil {
		e.Err = fmt.Errorf("%w; %w", e.Err, err)
	}
	return e
}

// release destroys the ephemeral key when it is no longer needed. That it was destroyed is part of the promise, so a
// failure ends the session whatever the configuration says.
func (c *core) release(message int) error {
	if err := c.dropEphemeral(); err != nil {
		_ = c.Close() // cannot fail: the key is gone from the session
		return fail(CheckLocal, "%w", err).at(message)
	}
	return nil
}

// ephemeral makes an ephemeral key and hands it to compose; the session owns it when that succeeds, and it is destroyed
// when that fails, so that every attempt has its own.
func (c *core) ephemeral(compose func(EphemeralKey) *Error) *Error {
	eph, err := c.cfg.Ephemeral(c.suite.Curve.ecdh())
	if err != nil {
		return fail(CheckLocal, "make ephemeral key: %w", err)
	}
	e := fail(CheckLocal, "the ephemeral key is not on the curve of %v", c.suite)
	if pub := eph.PublicKey(); pub != nil && pub.Curve() == c.suite.Curve.ecdh() {
		e = compose(eph)
	}
	if e != nil {
		if err := eph.Close(); err != nil {
			e.Err = fmt.Errorf("%w; destroy ephemeral key: %w", e.Err, err)
		}
		return e
	}
	c.eph = eph
	return nil
}

// persist ends the exchange: nothing but PRK_out is needed any more.
func (c *core) persist() {
	clear(c.prk4e3m)
	c.prk4e3m = nil
	c.state = StatePersisted
}

// adopt moves a secret from the scratch vault of a message to the session.
func (c *core) adopt(b []byte) []byte { return c.secrets.copy(b) }

// statementOf describes what one side authenticates.
func (c *core) statementOf(message int, id IDCred, cred *Credential, ead []byte) *statement {
	st := &statement{message: message, idCred: id.Bytes(), cred: cred.encoded, ead: ead}
	if message == 2 {
		st.static, st.th, st.cR = c.method.ResponderStatic(), c.th2, encodeIdentifier(c.cR)
	} else {
		st.static, st.th = c.method.InitiatorStatic(), c.th3
	}
	return st
}

// authenticate finds the credential of the peer and checks its Signature_or_MAC_x by way of the given function, which
// gets one candidate after another.
func (c *core) authenticate(message int, id IDCred, ead []EAD, verify func(*Credential) *Error) (*Credential, *Error) {
	candidates, err := c.cfg.Lookup(LookupRequest{Message: message, ID: id, Method: c.method, Suite: c.suite, EAD: ead})
	if err != nil && !errors.Is(err, ErrUnknownCredential) {
		return nil, fail(CheckCredentialRejected, "%w", err)
	}
	e := fail(CheckCredentialUnknown, "no credential under %v", id)
	for _, cred := range candidates {
		if e = c.authenticateAs(message, id, cred, verify); e == nil {
			return cred, nil
		}
	}
	return nil, e
}

func (c *core) authenticateAs(message int, id IDCred, cred *Credential, verify func(*Credential) *Error) *Error {
	if e := cred.identifiedBy(id); e != nil {
		return e
	}
	// A peer that shows our own credential is ourselves, reflected (RFC 9528, 9.2).
	if string(cred.encoded) == string(c.own.Credential.encoded) {
		return fail(CheckOwnCredential, "the credential is our own")
	}
	static := c.method.ResponderStatic()
	if message == 3 {
		static = c.method.InitiatorStatic()
	}
	if e := cred.fits(c.suite, static); e != nil {
		return e
	}
	return verify(cred)
}

// plaintext reads ( ID_CRED_x, Signature_or_MAC_x, ? EAD_x ) of PLAINTEXT_2 (behind C_R) and PLAINTEXT_3.
func (c *core) plaintext(seq []item) (id IDCred, auth []byte, ead []EAD, rawEAD []byte, e *Error) {
	if len(seq) < 2 {
		return id, nil, nil, nil, fail(CheckCDDL, "the plaintext is too short")
	}
	if id, e = parseIDCred(seq[0]); e != nil {
		return id, nil, nil, nil, e
	}
	auth, ok := seq[1].val.([]byte)
	if !ok {
		return id, nil, nil, nil, fail(CheckCDDL, "Signature_or_MAC is not a byte string")
	}
	if ead, e = parseEAD(seq[2:]); e != nil {
		return id, nil, nil, nil, e
	}
	if e = c.cfg.knownEAD(ead); e != nil {
		return id, nil, nil, nil, e
	}
	for _, it := range seq[2:] {
		rawEAD = append(rawEAD, it.raw...)
	}
	return id, auth, ead, rawEAD, nil
}

// readError processes an error message in a state in which one may come; place tells whether a code can answer what was
// sent last.
func (c *core) readError(msg []byte, waiting bool, place func(code int64) bool) (*ErrorMessage, error) {
	if !waiting {
		return nil, c.settle(0, fail(CheckState, "not expected in state %v", c.state))
	}
	if e := c.checkSize(msg); e != nil {
		return nil, c.settle(0, e)
	}
	m, e := parseError(msg)
	if e == nil && !place(m.Code) {
		e = fail(CheckErrorPlace, "error code %d does not answer what was sent", m.Code)
	}
	if e != nil {
		return nil, c.settle(0, e)
	}
	if !c.cfg.KeepOnFailure {
		return m, c.Close()
	}
	return m, nil
}

// ErrorReply gives the error message with which RFC 9528 answers a refusal, or nil where it wants none: after the last
// message, in reply to an error message, for a message out of turn. It says which check failed only for message_1;
// behind that it would tell an attacker about contents that he cannot read.
func (c *core) ErrorReply(err error) []byte {
	var e *Error
	if !errors.As(err, &e) || e.Message == 0 || e.Check == CheckState || e.Check == CheckDuplicate ||
		c.state == StateCompleted && !c.cfg.Message4 || c.state == StatePersisted {
		return nil
	}
	m := &ErrorMessage{Code: CodeUnspecified, Text: fmt.Sprintf("message_%d refused", e.Message)}
	switch {
	case e.Check == CheckCredentialUnknown:
		m = &ErrorMessage{Code: CodeUnknownCredential}
	case e.Message != 1:
	case e.Check == CheckSuite || e.Check == CheckSuiteOrder || e.Check == CheckSuitePinned:
		m = &ErrorMessage{Code: CodeWrongSuite, Suites: c.cfg.suiteIDs()}
	default:
		m.Text += ": " + string(e.Check)
	}
	return m.Encode()
}

// finish hands out the result.
func (c *core) finish() *Session {
	s := &Session{
		role: c.role, method: c.method, suite: c.suite,
		cI: c.cI, cR: c.cR, th4: c.th4, peer: c.peer,
		secrets: c.secrets.scratch(),
	}
	s.set(s.secrets.copy(c.prkOut))
	clear(c.prkOut)
	c.prkOut = nil
	return s
}
