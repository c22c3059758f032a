// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"context"
	"testing"

	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
)

// The benchmarks time swtpm with its socket. A chip takes 20 to 1,000 times as
// long.

func BenchmarkSign(b *testing.B) {
	m := tpmtest.Open(b)
	loaded, err := m.CreateSigningKey(context.Background(), nil)
	if err != nil {
		b.Fatal(err)
	}
	persistent, err := loaded.Persist(context.Background(), 0x81000010)
	if err != nil {
		b.Fatal(err)
	}
	for name, key := range map[string]*tpm.SigningKey{"blob": loaded, "persistent": persistent} {
		b.Run("key="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.Sign(nil, make([]byte, 48), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCreateExchangeKey(b *testing.B) {
	m := tpmtest.Open(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.CreateExchangeKey(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkECDH(b *testing.B) {
	m := tpmtest.Open(b)
	key, err := m.CreateExchangeKey(context.Background(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.ECDH(key.PublicKey()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnseal(b *testing.B) {
	ctx := context.Background()
	m := tpmtest.Open(b)
	id, value, err := m.CreateCounter(ctx, 0x01800100)
	if err != nil {
		b.Fatal(err)
	}
	for name, policy := range map[string]tpm.Policy{"none": nil, "counter": {tpm.CounterEquals(id, value)}} {
		blob, err := m.Seal(ctx, make([]byte, 32), policy)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("policy="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Unseal(ctx, blob, policy); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
