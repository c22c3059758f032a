// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"crypto/ecdh"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// ExchangeKey is an ECDH key inside the TPM, on Curve, meant for one exchange.
// It implements ecdh.KeyExchanger, so that crypto/hpke takes it as a private
// key. It occupies no slot of the TPM between uses, and it ends when the last
// copy of its PEM is deleted or its policy stops holding. It is safe for
// concurrent use.
type ExchangeKey struct {
	t   *TPM
	e   *entity
	pub *ecdh.PublicKey
}

var _ ecdh.KeyExchanger = (*ExchangeKey)(nil)

// CreateExchangeKey makes an ECDH key in the TPM.
func (t *TPM) CreateExchangeKey(ctx context.Context, policy Policy) (*ExchangeKey, error) {
	var key *ExchangeKey
	err := t.do(ctx, "create ECDH key", nil, func(x *tx) error {
		e, err := x.create(exchangeKind(), policy, nil)
		if err != nil {
			return err
		}
		key, err = t.exchangeKey(e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// ParseExchangeKey reads the PEM of a key made by CreateExchangeKey under the
// same policy.
func (t *TPM) ParseExchangeKey(pem []byte, policy Policy) (*ExchangeKey, error) {
	e, err := decode(pem, exchangeKind(), policy, t.opts.SRKHandle)
	if err != nil {
		return nil, &Error{Op: "parse ECDH key", Err: err}
	}
	key, err := t.exchangeKey(e)
	if err != nil {
		return nil, &Error{Op: "parse ECDH key", Err: err}
	}
	return key, nil
}

func (t *TPM) exchangeKey(e *entity) (*ExchangeKey, error) {
	pub, err := ecdhPublic(&e.public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrObject, err)
	}
	return &ExchangeKey{t: t, e: e, pub: pub}, nil
}

// PEM returns the wrapped key as a "TSS2 PRIVATE KEY" block.
func (k *ExchangeKey) PEM() []byte { return k.e.encode(k.t.opts.SRKHandle) }

// PublicKey implements ecdh.KeyExchanger.
func (k *ExchangeKey) PublicKey() *ecdh.PublicKey { return k.pub }

// Curve implements ecdh.KeyExchanger.
func (k *ExchangeKey) Curve() ecdh.Curve { return k.pub.Curve() }

// ECDH implements ecdh.KeyExchanger: the x coordinate of the shared point, as
// long as the field (SP 800-56A, 5.7.1.2). It takes at most Options.CallTimeout.
func (k *ExchangeKey) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), k.t.opts.CallTimeout)
	defer cancel()
	return k.ECDHContext(ctx, peer)
}

// ECDHContext is ECDH with a context.
func (k *ExchangeKey) ECDHContext(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	if peer.Curve() != k.pub.Curve() {
		return nil, &Error{Op: "ECDH", Err: ErrCurve}
	}
	// An ecdh.PublicKey is a checked point on its curve; the TPM checks it
	// once more.
	point := peer.Bytes()[1:]
	size := len(point) / 2
	var z []byte
	err := k.t.do(ctx, "ECDH", func() { clear(z) }, func(x *tx) error {
		h, err := x.use(k.e, encryptInOut)
		if err != nil {
			return err
		}
		rsp, err := execute(x, "TPM2_ECDH_ZGen", tpm2.ECDHZGen{
			KeyHandle: h,
			InPoint: tpm2.New2B(tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: point[:size]},
				Y: tpm2.TPM2BECCParameter{Buffer: point[size:]},
			}),
		})
		if err != nil {
			return err
		}
		out, err := rsp.OutPoint.Contents()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		z, err = leftPad(out.X.Buffer, size)
		clear(out.X.Buffer)
		clear(out.Y.Buffer)
		clear(rsp.OutPoint.Bytes())
		return err
	})
	if err != nil {
		return nil, err
	}
	return z, nil
}

// leftPad extends a big-endian number to size bytes: not every TPM writes leading
// zeros, and HPKE and EDHOC hash the fixed length.
func leftPad(b []byte, size int) ([]byte, error) {
	if len(b) > size {
		return nil, fmt.Errorf("%w: coordinate of %d bytes", ErrProtocol, len(b))
	}
	out := make([]byte, size)
	copy(out[size-len(b):], b)
	return out, nil
}
