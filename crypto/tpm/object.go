// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"encoding/pem"
	"fmt"

	keyfile "github.com/foxboron/go-tpm-keyfiles"
	"github.com/google/go-tpm/tpm2"
)

// kind is one of the kinds of object that this package makes.
type kind struct {
	what string     // for messages
	use  tpm2.TPMCC // the only command that its policy allows
	// template is the public area without policy and key.
	template func(p384 bool) tpm2.TPMTPublic
}

func signingKind() kind {
	return kind{what: "signing key", use: tpm2.TPMCCSign, template: func(p384 bool) tpm2.TPMTPublic {
		curve, hash := curveOf(p384)
		public := object(tpm2.TPMAlgECC)
		public.ObjectAttributes.SensitiveDataOrigin = true
		public.ObjectAttributes.SignEncrypt = true
		public.Parameters = eccParams(curve, tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash}),
		}).Parameters
		return public
	}}
}

func exchangeKind() kind {
	return kind{what: "ECDH key", use: tpm2.TPMCCECDHZGen, template: func(p384 bool) tpm2.TPMTPublic {
		curve, _ := curveOf(p384)
		public := object(tpm2.TPMAlgECC)
		public.ObjectAttributes.SensitiveDataOrigin = true
		public.ObjectAttributes.Decrypt = true
		public.Parameters = eccParams(curve, tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull}).Parameters
		return public
	}}
}

func sealedKind() kind {
	return kind{what: "sealed data", use: tpm2.TPMCCUnseal, template: func(bool) tpm2.TPMTPublic {
		public := object(tpm2.TPMAlgKeyedHash)
		public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		})
		return public
	}}
}

// object is what all kinds have in common: it cannot leave this TPM and this
// parent, only its policy opens it (userWithAuth clear), also for changing its
// authorisation or certifying it (adminWithPolicy), and failed attempts on other
// objects cannot lock it (noDA: there is no authValue to guess).
func object(alg tpm2.TPMAlgID) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    alg,
		NameAlg: sessionHash,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM:        true,
			FixedParent:     true,
			AdminWithPolicy: true,
			NoDA:            true,
		},
	}
}

func curveOf(p384 bool) (tpm2.TPMECCCurve, tpm2.TPMIAlgHash) {
	if p384 {
		return tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384
	}
	return tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256
}

// entity is an object of ours: its public area, and its wrapped private area
// unless it lies at a persistent handle. It does not change once made.
type entity struct {
	kind    kind
	policy  Policy
	public  tpm2.TPMTPublic
	name    tpm2.TPM2BName
	private tpm2.TPM2BPrivate
	handle  uint32 // persistent handle, or 0
}

// newEntity accepts a public area only if it is exactly what this package makes
// of that kind under that policy. Without this, a blob with userWithAuth set or
// with another policy, put in place of ours, would open without the policy.
func newEntity(k kind, policy Policy, public tpm2.TPMTPublic) (*entity, error) {
	digest, err := policy.digest(k.use)
	if err != nil {
		return nil, err
	}
	for _, p384 := range []bool{true, false} {
		want := k.template(p384)
		want.AuthPolicy = tpm2.TPM2BDigest{Buffer: digest}
		want.Unique = public.Unique
		if public.Type != want.Type || !bytes.Equal(tpm2.Marshal(want), tpm2.Marshal(public)) {
			continue
		}
		name, err := tpm2.ObjectName(&public)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrObject, err)
		}
		return &entity{kind: k, policy: policy, public: public, name: *name}, nil
	}
	if bytes.Equal(public.AuthPolicy.Buffer, digest) {
		return nil, fmt.Errorf("%w: no %s", ErrObject, k.what)
	}
	return nil, fmt.Errorf("%w: not under the expected policy", ErrObject)
}

// create makes an object under the SRK. secret is nil for keys, which the TPM
// makes itself. The session authenticates the response, so the public key is
// the TPM's own.
func (x *tx) create(k kind, policy Policy, secret []byte) (*entity, error) {
	digest, err := policy.digest(k.use)
	if err != nil {
		return nil, err
	}
	template := k.template(x.t.info.P384)
	template.AuthPolicy = tpm2.TPM2BDigest{Buffer: digest}
	if template.Type == tpm2.TPMAlgECC {
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	} else {
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{})
	}
	sensitive := &tpm2.TPMSSensitiveCreate{}
	if secret != nil {
		sensitive.Data = tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})
	}
	session, err := x.hmacSession(sessionOptions{direction: encryptInOut})
	if err != nil {
		return nil, err
	}
	rsp, err := execute(x, "TPM2_Create", tpm2.Create{
		ParentHandle: x.parent(session),
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: sensitive},
		InPublic:     tpm2.New2B(template),
	})
	if err != nil {
		return nil, err
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	e, err := newEntity(k, policy, *public)
	if err != nil {
		return nil, err
	}
	e.private = rsp.OutPrivate
	return e, nil
}

// use makes the object usable by one command: it loads it unless it is
// persistent, and returns it with a policy session satisfied for that command.
// The session's HMAC covers the Name computed from our own copy of the public
// area, so an object loaded in its place by somebody on the bus is refused.
func (x *tx) use(e *entity, d direction) (tpm2.AuthHandle, error) {
	h := tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.handle), Name: e.name}
	if e.handle == 0 {
		rsp, err := execute(x, "TPM2_Load", tpm2.Load{
			ParentHandle: x.parent(tpm2.PasswordAuth(nil)),
			InPrivate:    e.private,
			InPublic:     tpm2.New2B(e.public),
		})
		if err != nil {
			return h, err
		}
		h.Handle = rsp.ObjectHandle
	}
	session, err := x.policySession(e.policy, e.kind.use, d)
	if err != nil {
		return h, err
	}
	h.Auth = session
	return h, nil
}

// encode writes the object as "TSS2 PRIVATE KEY" PEM
// (draft-bottomley-tpm2-keys). The optional policy and description fields are
// left out: tpm2-tools up to 5.4 at least refuse a file that has them, there is
// no agreed encoding for PolicyNV, and whoever opens the object has to say under
// which policy it expects it anyway.
func (e *entity) encode(parent uint32) []byte {
	oid := keyfile.OIDLoadableKey
	if e.kind.use == tpm2.TPMCCUnseal {
		oid = keyfile.OIDSealedKey
	}
	key := keyfile.NewTPMKey(oid, tpm2.New2B(e.public), e.private,
		keyfile.WithParent(tpm2.TPMHandle(parent)))
	return key.Bytes()
}

// maxKeyFile bounds what decode looks at; a P-384 key is about 1,000 bytes.
const maxKeyFile = 16 << 10

// decode reads what encode wrote, and nothing else: an encoding that differs in
// any byte is refused, so a file cannot be altered and still be taken.
func decode(data []byte, k kind, policy Policy, parent uint32) (*entity, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%w: %d bytes", ErrBlob, len(data))
	}
	block, rest := pem.Decode(data)
	if block == nil || len(rest) != 0 || len(block.Headers) != 0 || block.Type != "TSS2 PRIVATE KEY" {
		return nil, fmt.Errorf("%w: not one TSS2 PRIVATE KEY block", ErrBlob)
	}
	key, err := keyfile.Parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlob, err)
	}
	public, err := key.Pubkey.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: public area: %w", ErrBlob, err)
	}
	if uint32(key.Parent) != parent {
		return nil, fmt.Errorf("%w: parent 0x%08X, the storage root key is at 0x%08X", ErrObject, uint32(key.Parent), parent)
	}
	e, err := newEntity(k, policy, *public)
	if err != nil {
		return nil, err
	}
	e.private = key.Privkey
	if !bytes.Equal(e.encode(parent), data) {
		return nil, fmt.Errorf("%w: not in the form that it is written in", ErrBlob)
	}
	return e, nil
}
