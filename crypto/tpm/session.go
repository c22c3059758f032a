// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"github.com/google/go-tpm/tpm2"
)

// direction says which first parameters of a command are encrypted. The TPM
// refuses a direction whose first parameter is not a sized buffer.
type direction int

const (
	encryptNone direction = iota
	encryptIn
	encryptOut
	encryptInOut
)

type sessionOptions struct {
	direction direction
	auth      []byte
	unsalted  bool
}

// nonceSize of the caller's nonces: the digest size of sessionHash, which is the
// most that a session takes.
const nonceSize = 32

// sessionHash is the hash of sessions and policies, and so of the Names of all
// objects made here: every TPM 2.0 has it.
const sessionHash = tpm2.TPMAlgSHA256

func (x *tx) authOptions(o sessionOptions) []tpm2.AuthOption {
	var out []tpm2.AuthOption
	if !o.unsalted {
		out = append(out, tpm2.Salted(tpm2.TPMHandle(x.t.opts.SRKHandle), x.t.srk))
	}
	if len(o.auth) != 0 {
		out = append(out, tpm2.Auth(o.auth))
	}
	bits := tpm2.TPMKeyBits(128)
	if x.t.info.AES256 {
		bits = 256
	}
	switch o.direction {
	case encryptIn:
		out = append(out, tpm2.AESEncryption(bits, tpm2.EncryptIn))
	case encryptOut:
		out = append(out, tpm2.AESEncryption(bits, tpm2.EncryptOut))
	case encryptInOut:
		out = append(out, tpm2.AESEncryption(bits, tpm2.EncryptInOut))
	}
	return out
}

// hmacSession starts a session salted to the SRK. The bus flushes it at the end
// of the operation.
func (x *tx) hmacSession(o sessionOptions) (tpm2.Session, error) {
	if err := x.ctx.Err(); err != nil {
		return nil, x.wrap("TPM2_StartAuthSession", err)
	}
	s, _, err := tpm2.HMACSession(x.t.bus, sessionHash, nonceSize, x.authOptions(o)...)
	if err != nil {
		return nil, x.failed("TPM2_StartAuthSession", err)
	}
	return s, nil
}

// withSession runs fn with an HMAC session and flushes it: an operation of
// several commands would otherwise run out of slots.
func (x *tx) withSession(o sessionOptions, fn func(tpm2.Session) error) error {
	s, err := x.hmacSession(o)
	if err != nil {
		return err
	}
	err = fn(s)
	// The bus still knows the session if this fails.
	_, _ = tpm2.FlushContext{FlushHandle: s.Handle()}.Execute(x.t.bus)
	return err
}

// policySession starts a session salted to the SRK and satisfies policy in it,
// or returns the error of the step that does not hold. It is used for one
// command and never kept: a session that was satisfied before a counter moved
// would still open the object afterwards.
func (x *tx) policySession(policy Policy, use tpm2.TPMCC, d direction) (tpm2.Session, error) {
	if err := x.ctx.Err(); err != nil {
		return nil, x.wrap("TPM2_StartAuthSession", err)
	}
	s, _, err := tpm2.PolicySession(x.t.bus, sessionHash, nonceSize, x.authOptions(sessionOptions{direction: d})...)
	if err != nil {
		return nil, x.failed("TPM2_StartAuthSession", err)
	}
	for _, step := range policy.full(use) {
		if err := step.apply(x, s.Handle()); err != nil {
			return nil, err
		}
	}
	return s, nil
}
