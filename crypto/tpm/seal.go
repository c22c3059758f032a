// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// MaxSealed is the most bytes that one sealed object holds (MAX_SYM_DATA: TPM
// 2.0 Part 2, 11.1.14).
const MaxSealed = 128

// Seal wraps 1 to MaxSealed bytes so that only this TPM, and only while policy
// holds, gives them back. The result is a "TSS2 PRIVATE KEY" PEM block.
func (t *TPM) Seal(ctx context.Context, secret []byte, policy Policy) ([]byte, error) {
	if len(secret) == 0 || len(secret) > MaxSealed {
		return nil, &Error{Op: "seal", Err: fmt.Errorf("%w: %d bytes, 1 to %d are possible", ErrTooLong, len(secret), MaxSealed)}
	}
	// The caller may leave, and wipe its copy, before the TPM is done.
	secret = bytes.Clone(secret)
	var blob []byte
	err := t.do(ctx, "seal", func() { clear(secret) }, func(x *tx) error {
		defer clear(secret)
		e, err := x.create(sealedKind(), policy, secret)
		if err != nil {
			return err
		}
		blob = e.encode(t.opts.SRKHandle)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return blob, nil
}

// Unseal gives back what Seal wrapped under the same policy. The caller wipes
// it.
func (t *TPM) Unseal(ctx context.Context, blob []byte, policy Policy) ([]byte, error) {
	e, err := decode(blob, sealedKind(), policy, t.opts.SRKHandle)
	if err != nil {
		return nil, &Error{Op: "unseal", Err: err}
	}
	var secret []byte
	err = t.do(ctx, "unseal", func() { clear(secret) }, func(x *tx) error {
		// Unseal has no parameter to encrypt on the way in.
		h, err := x.use(e, encryptOut)
		if err != nil {
			return err
		}
		rsp, err := execute(x, "TPM2_Unseal", tpm2.Unseal{ItemHandle: h})
		if err != nil {
			return err
		}
		secret = rsp.OutData.Buffer
		return nil
	})
	if err != nil {
		return nil, err
	}
	return secret, nil
}

// Sealer seals and unseals under one policy, for callers that know nothing of
// TPMs. Each call takes at most Options.CallTimeout.
type Sealer struct {
	TPM    *TPM
	Policy Policy
}

// Seal is TPM.Seal.
func (s Sealer) Seal(secret []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.TPM.opts.CallTimeout)
	defer cancel()
	return s.TPM.Seal(ctx, secret, s.Policy)
}

// Unseal is TPM.Unseal.
func (s Sealer) Unseal(blob []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.TPM.opts.CallTimeout)
	defer cancel()
	return s.TPM.Unseal(ctx, blob, s.Policy)
}
