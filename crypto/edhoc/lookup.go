// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

// LookupRequest is what is known about a peer when its credential is needed. Nothing in it has been verified.
type LookupRequest struct {
	Message int    // 2: the peer is the Responder, 3: it is the Initiator
	ID      IDCred // ID_CRED_R or ID_CRED_I
	Method  Method
	Suite   Suite
	EAD     []EAD // EAD_2 or EAD_3 without padding
}

// LookupFunc finds the credentials that an identifier may mean and that the application is willing to accept: trust,
// validity, revocation and the identity of the peer are decided here (RFC 9528, Appendix D). A kid need not be unique,
// so several may be returned; each is tried. None, or [ErrUnknownCredential], becomes error code 3; any other error
// refuses the message.
type LookupFunc func(LookupRequest) ([]*Credential, error)

// LookupKnown accepts exactly the given credentials: a CCS under the kid in its COSE_Key, a certificate by x5t or x5chain.
func LookupKnown(known ...*Credential) LookupFunc {
	return func(r LookupRequest) ([]*Credential, error) {
		var out []*Credential
		for _, c := range known {
			switch {
			case r.ID.kid != nil:
				if c.kid != nil && bytes.Equal(c.kid, r.ID.kid) {
					out = append(out, c)
				}
			case c.identifiedBy(r.ID) == nil:
				out = append(out, c)
			}
		}
		return out, nil
	}
}

// LookupX509 accepts a certificate sent as x5chain that chains to a root of the options. Extended key usage is not
// asked for unless the options name one. Revocation is not checked.
func LookupX509(opts x509.VerifyOptions) LookupFunc {
	return func(r LookupRequest) ([]*Credential, error) {
		if r.ID.chain == nil {
			return nil, ErrUnknownCredential
		}
		c, err := NewCertificate(r.ID.chain[0])
		if err != nil {
			return nil, err
		}
		o := opts
		if o.Intermediates == nil {
			o.Intermediates = x509.NewCertPool()
		} else {
			o.Intermediates = o.Intermediates.Clone()
		}
		for i, der := range r.ID.chain[1:] {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("x5chain: certificate %d: %w", i+2, err)
			}
			o.Intermediates.AddCert(cert)
		}
		if o.KeyUsages == nil {
			o.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		}
		if _, err := c.cert.Verify(o); err != nil {
			return nil, err
		}
		return []*Credential{c}, nil
	}
}

// LookupAny asks one after another and takes the first answer that is not "unknown".
func LookupAny(lookups ...LookupFunc) LookupFunc {
	return func(r LookupRequest) ([]*Credential, error) {
		for _, l := range lookups {
			creds, err := l(r)
			if err != nil && !errors.Is(err, ErrUnknownCredential) {
				return nil, err
			}
			if len(creds) > 0 {
				return creds, nil
			}
		}
		return nil, ErrUnknownCredential
	}
}
