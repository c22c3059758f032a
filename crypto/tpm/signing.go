// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// SigningKey is an ECDSA key inside the TPM: P-384 with SHA-384, or P-256 with
// SHA-256 where the TPM has no P-384. It implements crypto.Signer and is safe
// for concurrent use.
type SigningKey struct {
	t   *TPM
	e   *entity
	pub *ecdsa.PublicKey
}

var _ crypto.Signer = (*SigningKey)(nil)

// CreateSigningKey makes a signing key in the TPM. It lies nowhere until its
// PEM is stored or Persist is called.
func (t *TPM) CreateSigningKey(ctx context.Context, policy Policy) (*SigningKey, error) {
	var key *SigningKey
	err := t.do(ctx, "create signing key", nil, func(x *tx) error {
		e, err := x.create(signingKind(), policy, nil)
		if err != nil {
			return err
		}
		key, err = t.signingKey(e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// ParseSigningKey reads the PEM of a key made by CreateSigningKey under the same
// policy. The TPM is asked only when the key is used: a blob of another TPM then
// gives ErrForeignBlob.
func (t *TPM) ParseSigningKey(pem []byte, policy Policy) (*SigningKey, error) {
	e, err := decode(pem, signingKind(), policy, t.opts.SRKHandle)
	if err != nil {
		return nil, &Error{Op: "parse signing key", Err: err}
	}
	key, err := t.signingKey(e)
	if err != nil {
		return nil, &Error{Op: "parse signing key", Err: err}
	}
	return key, nil
}

// OpenSigningKey takes the signing key at a persistent handle. The caller
// compares Public with what it pinned.
func (t *TPM) OpenSigningKey(ctx context.Context, handle uint32, policy Policy) (*SigningKey, error) {
	var key *SigningKey
	err := t.do(ctx, "open signing key", nil, func(x *tx) error {
		public, err := x.readPublic(handle)
		if err != nil {
			return err
		}
		e, err := newEntity(signingKind(), policy, *public)
		if err != nil {
			return err
		}
		e.handle = handle
		key, err = t.signingKey(e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

func (t *TPM) signingKey(e *entity) (*SigningKey, error) {
	pub, err := tpm2.Pub(e.public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrObject, err)
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: %T", ErrObject, pub)
	}
	if _, err := ec.ECDH(); err != nil { // checks that the point is on the curve
		return nil, fmt.Errorf("%w: %w", ErrObject, err)
	}
	return &SigningKey{t: t, e: e, pub: ec}, nil
}

// Persist keeps the key in the TPM at a handle from 0x81000000 to 0x817FFFFF,
// which saves loading it for each signature, and returns the key there. A taken
// handle gives ErrHandleInUse.
func (k *SigningKey) Persist(ctx context.Context, handle uint32) (*SigningKey, error) {
	e := *k.e
	err := k.t.do(ctx, "persist signing key", nil, func(x *tx) error {
		rsp, err := execute(x, "TPM2_Load", tpm2.Load{
			ParentHandle: x.parent(tpm2.PasswordAuth(nil)),
			InPrivate:    e.private,
			InPublic:     tpm2.New2B(e.public),
		})
		if err != nil {
			return err
		}
		session, err := x.hmacSession(sessionOptions{auth: k.t.opts.OwnerAuth})
		if err != nil {
			return err
		}
		_, err = execute(x, "TPM2_EvictControl", tpm2.EvictControl{
			Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session},
			ObjectHandle:     &tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: e.name},
			PersistentHandle: tpm2.TPMHandle(handle),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	e.handle = handle
	return &SigningKey{t: k.t, e: &e, pub: k.pub}, nil
}

// Evict removes the key from its persistent handle. A key that is not persistent
// is left as it is.
func (k *SigningKey) Evict(ctx context.Context) error {
	if k.e.handle == 0 {
		return nil
	}
	return k.t.do(ctx, "evict signing key", nil, func(x *tx) error {
		session, err := x.hmacSession(sessionOptions{auth: k.t.opts.OwnerAuth})
		if err != nil {
			return err
		}
		_, err = execute(x, "TPM2_EvictControl", tpm2.EvictControl{
			Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session},
			ObjectHandle:     &tpm2.NamedHandle{Handle: tpm2.TPMHandle(k.e.handle), Name: k.e.name},
			PersistentHandle: tpm2.TPMHandle(k.e.handle),
		})
		return err
	})
}

// PEM returns the wrapped key as a "TSS2 PRIVATE KEY" block. It is empty for a
// key that OpenSigningKey found at its handle.
func (k *SigningKey) PEM() []byte {
	if len(k.e.private.Buffer) == 0 {
		return nil
	}
	return k.e.encode(k.t.opts.SRKHandle)
}

// Public returns the *ecdsa.PublicKey.
func (k *SigningKey) Public() crypto.PublicKey { return k.pub }

// Hash returns the hash that goes with the key: SHA-384 or SHA-256.
func (k *SigningKey) Hash() crypto.Hash {
	if k.pub.Params().BitSize == 384 {
		return crypto.SHA384
	}
	return crypto.SHA256
}

// Sign implements crypto.Signer: digest is the hash by Hash of the message, and
// the signature is an ASN.1 ECDSA-Sig-Value. opts may be nil; rand is not used,
// the TPM has its own. It takes at most Options.CallTimeout.
func (k *SigningKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts.HashFunc() != k.Hash() {
		return nil, &Error{Op: "sign", Err: fmt.Errorf("%w: %v, the key signs %v", ErrHash, opts.HashFunc(), k.Hash())}
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.t.opts.CallTimeout)
	defer cancel()
	return k.SignContext(ctx, digest)
}

// SignContext is Sign with a context.
func (k *SigningKey) SignContext(ctx context.Context, digest []byte) ([]byte, error) {
	if len(digest) != k.Hash().Size() {
		return nil, &Error{Op: "sign", Err: fmt.Errorf("%w: %d bytes, %v has %d", ErrHash, len(digest), k.Hash(), k.Hash().Size())}
	}
	digest = append([]byte(nil), digest...) // the caller may leave before the TPM is done
	var signature []byte
	err := k.t.do(ctx, "sign", nil, func(x *tx) error {
		h, err := x.use(k.e, encryptIn)
		if err != nil {
			return err
		}
		rsp, err := execute(x, "TPM2_Sign", tpm2.Sign{
			KeyHandle:  h,
			Digest:     tpm2.TPM2BDigest{Buffer: digest},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, // the key's own
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		})
		if err != nil {
			return err
		}
		ec, err := rsp.Signature.Signature.ECDSA()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		signature, err = asn1.Marshal(struct{ R, S *big.Int }{
			new(big.Int).SetBytes(ec.SignatureR.Buffer),
			new(big.Int).SetBytes(ec.SignatureS.Buffer),
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		// A faulty chip must not make us send signatures that nobody
		// accepts.
		if !ecdsa.VerifyASN1(k.pub, digest, signature) {
			return fmt.Errorf("%w: the signature does not verify", ErrProtocol)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return signature, nil
}

// ecdhPublic is the public point of an ECC object.
func ecdhPublic(public *tpm2.TPMTPublic) (*ecdh.PublicKey, error) {
	params, err := public.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, err
	}
	// SetBytes in go-tpm takes points of any length; one that does not fit
	// the curve would panic further down.
	if len(point.X.Buffer) > 48 || len(point.Y.Buffer) > 48 {
		return nil, errors.New("coordinate too long")
	}
	return tpm2.ECDHPub(params, point)
}
