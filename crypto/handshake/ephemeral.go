// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cellward/cellward/crypto/edhoc"
	"github.com/cellward/cellward/crypto/tpm"
)

// ErrDestroyed is returned by an ephemeral key that was destroyed.
var ErrDestroyed = errors.New("ephemeral key was destroyed")

// TPMEphemerals makes ephemeral keys inside a TPM, each for one exchange. Such a key occupies no slot of the TPM between
// its uses; destroying it drops the only copy of its wrapped form, without which the TPM cannot load it again. timeout
// bounds the making of a key; 0 is 60 seconds.
func TPMEphemerals(t *tpm.TPM, timeout time.Duration) edhoc.EphemeralFactory {
	if timeout == 0 {
		timeout = time.Minute
	}
	return func(curve ecdh.Curve) (edhoc.EphemeralKey, error) {
		if curve != t.Curve() {
			return nil, fmt.Errorf("the TPM makes keys on %v, not on %v", t.Curve(), curve)
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		k, err := t.CreateExchangeKey(ctx, nil)
		if err != nil {
			return nil, err
		}
		e := &tpmEphemeral{public: k.PublicKey()}
		e.key.Store(k)
		return e, nil
	}
}

type tpmEphemeral struct {
	public *ecdh.PublicKey
	key    atomic.Pointer[tpm.ExchangeKey]
}

func (e *tpmEphemeral) PublicKey() *ecdh.PublicKey { return e.public }
func (e *tpmEphemeral) Curve() ecdh.Curve          { return e.public.Curve() }

func (e *tpmEphemeral) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	k := e.key.Load()
	if k == nil {
		return nil, ErrDestroyed
	}
	return k.ECDH(peer)
}

func (e *tpmEphemeral) Close() error {
	e.key.Store(nil)
	return nil
}
