// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrClosed is returned by a session that was closed.
var ErrClosed = errors.New("edhoc: session is closed")

// Session is the result of a completed exchange: PRK_out and what both sides agreed on. It is not safe for concurrent
// use.
type Session struct {
	role   Role
	method Method
	suite  Suite
	cI, cR []byte
	th4    []byte
	peer   Peer

	secrets     *vault
	prkOut      []byte
	prkExporter []byte
}

// set takes a new PRK_out and wipes the old one with everything derived from it.
func (s *Session) set(prkOut []byte) {
	fresh := s.secrets.scratch()
	out := fresh.copy(prkOut)
	exporter := s.suite.kdf(fresh, out, labelPRKExporter, nil, s.suite.Hash.Size())
	s.secrets.wipe()
	s.secrets, s.prkOut, s.prkExporter = fresh, out, exporter
}

// Role is our own role.
func (s *Session) Role() Role { return s.role }

// Method is the authentication method.
func (s *Session) Method() Method { return s.method }

// Suite is the selected cipher suite, with the application algorithms.
func (s *Session) Suite() Suite { return s.suite }

// ConnectionIDs are C_I and C_R.
func (s *Session) ConnectionIDs() (cI, cR []byte) { return bytes.Clone(s.cI), bytes.Clone(s.cR) }

// Peer is the verified other side.
func (s *Session) Peer() Peer { return s.peer }

// TH4 is the transcript hash over the whole exchange. It is no secret.
func (s *Session) TH4() []byte { return bytes.Clone(s.th4) }

// Exporter derives keying material (EDHOC_Exporter; RFC 9528, 4.2.1). A pair of label and context must serve one purpose
// only. length is 1 to 255 times the hash length of the suite. The caller wipes the result when done.
func (s *Session) Exporter(label uint64, context []byte, length int) ([]byte, error) {
	if s.prkExporter == nil {
		return nil, ErrClosed
	}
	if length < 1 || length > 255*s.suite.Hash.Size() {
		return nil, fmt.Errorf("edhoc: export %d bytes: the limit is %d", length, 255*s.suite.Hash.Size())
	}
	// An own vault: the result belongs to the caller and outlives the session.
	return s.suite.kdf(&vault{}, s.prkExporter, label, context, length), nil
}

// KeyUpdate replaces PRK_out by a hash of itself and a context on which both sides agree, and wipes the old one
// (EDHOC_KeyUpdate; RFC 9528, Appendix H). It gives forward secrecy and nothing against who knows PRK_out.
func (s *Session) KeyUpdate(context []byte) error {
	if s.prkOut == nil {
		return ErrClosed
	}
	s.set(s.suite.kdf(s.secrets, s.prkOut, labelKeyUpdate, context, s.suite.Hash.Size()))
	return nil
}

// OSCORE is what an OSCORE security context is made from (RFC 9528, A.1).
type OSCORE struct {
	MasterSecret []byte
	MasterSalt   []byte
	SenderID     []byte
	RecipientID  []byte
	AEAD         AEAD
	Hash         Hash
}

// OSCORE derives the parameters with the default lengths. It fails when both sides chose the same connection
// identifier, which OSCORE does not permit (RFC 9528, 3.3.3).
func (s *Session) OSCORE() (*OSCORE, error) {
	if bytes.Equal(s.cI, s.cR) {
		return nil, errors.New("edhoc: C_I and C_R are the same, OSCORE needs two identifiers (RFC 9528, 3.3.3)")
	}
	secret, err := s.Exporter(0, nil, s.suite.AppAEAD.KeyLength())
	if err != nil {
		return nil, err
	}
	salt, err := s.Exporter(1, nil, 8)
	if err != nil {
		return nil, err
	}
	o := &OSCORE{MasterSecret: secret, MasterSalt: salt, AEAD: s.suite.AppAEAD, Hash: s.suite.AppHash}
	o.SenderID, o.RecipientID = bytes.Clone(s.cR), bytes.Clone(s.cI)
	if s.role == RoleResponder {
		o.SenderID, o.RecipientID = o.RecipientID, o.SenderID
	}
	return o, nil
}

// Close wipes the session.
func (s *Session) Close() {
	s.secrets.wipe()
	s.prkOut, s.prkExporter = nil, nil
}
