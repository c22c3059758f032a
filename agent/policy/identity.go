// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto"
	"encoding/base64"

	"github.com/cellward/cellward/crypto/identity"
)

// Identity is the pinned public key of a node or a gateway.
type Identity struct {
	KID       identity.Kid
	PublicKey []byte // DER SubjectPublicKeyInfo (RFC 5480) of a P-256 or P-384 key
}

// NewIdentity returns the identity of an *ecdsa.PublicKey on P-256 or P-384. Errors wrap identity.ErrKey.
func NewIdentity(pub crypto.PublicKey) (Identity, error) {
	key, err := identity.NewPublicKey(pub)
	if err != nil {
		return Identity{}, err
	}
	return Identity{KID: key.Kid(), PublicKey: key.DER()}, nil
}

// ParseIdentity returns the identity of a public key as documents hold it: base64 of its DER SubjectPublicKeyInfo, in
// one piece. Errors wrap identity.ErrKey.
func ParseIdentity(text string) (Identity, error) {
	key, err := identity.ParsePublicKey(text)
	if err != nil {
		return Identity{}, err
	}
	return Identity{KID: key.Kid(), PublicKey: key.DER()}, nil
}

// Key returns the public key. It fails only for an Identity that was neither read from a document nor made by
// [NewIdentity] or [ParseIdentity].
func (i Identity) Key() (*identity.PublicKey, error) { return identity.ParseDER(i.PublicKey) }

// String returns the public key as documents hold it.
func (i Identity) String() string { return base64.StdEncoding.EncodeToString(i.PublicKey) }

// identity reads an identity and checks that its kid is that of its key.
func (v value) identity() (id Identity) {
	o, ok := v.object("kid", "publicKey")
	if !ok {
		return id
	}
	kid, haveKID := "", false
	kidField, ok := o.required("kid")
	if ok {
		kid, haveKID = kidField.match(kidPattern)
	}
	keyField, ok := o.required("publicKey")
	if !ok {
		return id
	}
	encoded, ok := keyField.match(base64Pattern)
	if !ok {
		return id
	}
	id, err := ParseIdentity(encoded)
	if err != nil {
		keyField.errorf("%s", err)
		return Identity{}
	}
	if haveKID && kid != id.KID.String() {
		kidField.errorf("the kid of this public key is %q (first 8 bytes of SHA-256 over its DER), got %q", id.KID, kid)
	}
	return id
}
