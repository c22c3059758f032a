// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"slices"
)

// DefaultMaxMessageSize is the limit on a message in bytes when the configuration gives none.
const DefaultMaxMessageSize = 16384

// Identity is one of our own credentials with the private key that belongs to it. The key is only ever used through the
// interface, so it may lie in hardware.
type Identity struct {
	Credential   *Credential
	ID           IDCred            // how the peer is told about it
	Signer       crypto.Signer     // for a signature key
	KeyExchanger ecdh.KeyExchanger // for a static Diffie-Hellman key
}

// Config is the application profile (RFC 9528, 3.9) of one side. It must not be changed while a session uses it; many
// sessions may share it if its functions and keys are safe for concurrent use.
type Config struct {
	// Methods are the authentication methods: for an Initiator exactly one, for a Responder all that it accepts.
	Methods []Method

	// Suites are the supported cipher suites. An Initiator lists them in order of preference.
	Suites []Suite

	// PeerSuites, for an Initiator, is what is known of the Responder's suites (SUITES_R of an earlier error message,
	// which may have been forged). The first of Suites that is among them is selected; the ones before it are named in
	// message_1 all the same, so that a forged list is noticed. Empty: the first of Suites.
	PeerSuites []int

	// PinSuite says that exactly one suite is ever used. An Initiator reports a SUITES_R and never follows it; a
	// Responder refuses a message_1 that names any other suite.
	PinSuite bool

	// ConnectionID is C_I or C_R. Nil: a random one of those that take one byte.
	ConnectionID []byte

	// Identities are our credentials. The first one whose key fits method and suite is used.
	Identities []Identity

	// Lookup finds and accepts the credential of the peer. Required.
	Lookup LookupFunc

	// Ephemeral makes the ephemeral key. Nil: SoftwareEphemeral.
	Ephemeral EphemeralFactory

	// EADLabels are the labels of the EAD items that the application can process. A critical item with another label
	// refuses the message.
	EADLabels []int64

	// ProcessEAD, if set, is asked about the EAD field of each message (1 to 4), without padding, also when it is
	// empty: for message_1 after it was decoded, for the others after they were verified and before the session moves
	// on. An error refuses the message.
	ProcessEAD func(message int, field []EAD) error

	// Message4 says that message_4 is part of the exchange: the Responder sends it, and the Initiator's session is not
	// complete without it.
	Message4 bool

	// KeepOnFailure says that a refused message, and an error message, leaves the session as it was, so that the right
	// message can still come (RFC 9528, 9.7). Without it any failure ends the session and wipes it (5.1).
	KeepOnFailure bool

	// MaxMessageSize is the limit on a message in bytes, sent or received. 0: DefaultMaxMessageSize.
	MaxMessageSize int
}

// prepare checks the configuration for a role and fills in its defaults.
func (c Config) prepare(role Role) (Config, error) {
	if len(c.Methods) == 0 || role == RoleInitiator && len(c.Methods) > 1 {
		return c, configError("%d methods for the %v", len(c.Methods), role)
	}
	for _, m := range c.Methods {
		if !m.valid() {
			return c, configError("method %d", m)
		}
	}
	if len(c.Suites) == 0 || c.PinSuite && len(c.Suites) > 1 {
		return c, configError("%d cipher suites", len(c.Suites))
	}
	for i, s := range c.Suites {
		if err := s.validate(); err != nil {
			return c, err
		}
		for _, earlier := range c.Suites[:i] {
			if earlier.ID == s.ID {
				return c, configError("%v is listed twice", s)
			}
		}
	}
	if len(c.PeerSuites) > 0 && (c.PinSuite || role == RoleResponder) {
		return c, configError("PeerSuites are for an Initiator without a pinned suite")
	}
	if c.Lookup == nil {
		return c, configError("no Lookup")
	}
	for i := range c.Identities {
		if err := c.Identities[i].validate(); err != nil {
			return c, configError("identity %d: %w", i+1, err)
		}
	}
	// A Responder must be able to follow every pair that it accepts; an Initiator only the one it selects.
	if role == RoleResponder {
		for _, m := range c.Methods {
			for _, s := range c.Suites {
				if c.identity(s, m.ResponderStatic()) == nil {
					return c, configError("no identity for method %d with %v", m, s)
				}
			}
		}
	}
	if c.Ephemeral == nil {
		c.Ephemeral = SoftwareEphemeral
	}
	if c.MaxMessageSize == 0 {
		c.MaxMessageSize = DefaultMaxMessageSize
	}
	return c, nil
}

// validate checks that the parts of an identity belong together.
func (id *Identity) validate() error {
	if id.Credential == nil {
		return errors.New("no credential")
	}
	if id.ID.Bytes() == nil {
		return errors.New("no identifier")
	}
	if e := id.Credential.identifiedBy(id.ID); e != nil {
		return e.Err
	}
	if id.Signer == nil && id.KeyExchanger == nil {
		return errors.New("no private key")
	}
	if id.Signer != nil {
		pub, ok := id.Signer.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || id.Credential.key.sign == nil || !pub.Equal(id.Credential.key.sign) {
			return errors.New("the signer's key is not the credential's")
		}
	}
	if id.KeyExchanger != nil {
		if id.Credential.key.exchange == nil || !id.KeyExchanger.PublicKey().Equal(id.Credential.key.exchange) {
			return errors.New("the key exchanger's key is not the credential's")
		}
	}
	return nil
}

// identity is the first identity for a suite, nil when there is none.
func (c *Config) identity(s Suite, static bool) *Identity {
	for i := range c.Identities {
		id := &c.Identities[i]
		if id.Credential.fits(s, static) != nil {
			continue
		}
		if static && id.KeyExchanger != nil || !static && id.Signer != nil {
			return id
		}
	}
	return nil
}

// suite is the supported suite with a number, nil when there is none.
func (c *Config) suite(id int64) *Suite {
	i := slices.IndexFunc(c.Suites, func(s Suite) bool { return int64(s.ID) == id })
	if i < 0 {
		return nil
	}
	return &c.Suites[i]
}

// suiteIDs is SUITES_R: all that is supported.
func (c *Config) suiteIDs() []int {
	out := make([]int, len(c.Suites))
	for i, s := range c.Suites {
		out[i] = s.ID
	}
	return out
}

// connectionID gives the configured identifier, or a random one-byte one other than taken.
func (c *Config) connectionID(taken []byte) []byte {
	if c.ConnectionID != nil {
		return slices.Clone(c.ConnectionID)
	}
	for {
		b := make([]byte, 1)
		rand.Read(b)
		b[0] &= 0x3f
		if isShortInt(b) && !slices.Equal(b, taken) {
			return b
		}
	}
}
