// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// leakFailures is how many operations must have failed for TestHandleLeak to show anything.
const leakFailures = 1000

// leakFault is done to one command of an operation: before it is sent, or to what the TPM answers.
type leakFault struct {
	name   string
	before func(cancel context.CancelFunc, c []byte) (send, answer []byte, err error)
	after  func(r []byte) ([]byte, error)
	// quick says that it is tried with -short, too.
	quick bool
}

// leakFaults are all ways in which a command fails. Codes are those of TPM 2.0 Part 2, 6.6.3.
func leakFaults() []leakFault {
	all := []leakFault{
		{name: "not sent", quick: true, before: func(context.CancelFunc, []byte) ([]byte, []byte, error) { return nil, nil, errLink }},
		{name: "answer lost", quick: true, after: func([]byte) ([]byte, error) { return nil, errLink }},
		{name: "response altered", quick: true, after: func(r []byte) ([]byte, error) {
			r = bytes.Clone(r)
			r[len(r)-1] ^= 1
			return r, nil
		}},
		{name: "response cut", after: func(r []byte) ([]byte, error) {
			r = bytes.Clone(r[:max(responseHeader, len(r)-3)])
			binary.BigEndian.PutUint32(r[2:], uint32(len(r)))
			return r, nil
		}},
		{name: "caller gone", quick: true, before: func(cancel context.CancelFunc, c []byte) ([]byte, []byte, error) {
			cancel()
			return c, nil, nil
		}},
	}
	for _, c := range []struct {
		name  string
		code  uint32
		quick bool
	}{
		{"TPM_RC_INITIALIZE", 0x100, false}, {"TPM_RC_FAILURE", 0x101, true}, {"TPM_RC_NV_SPACE", 0x14B, false}, {"TPM_RC_HANDLE", 0x18B, false},
		{"TPM_RC_OBJECT_MEMORY", 0x902, false}, {"TPM_RC_SESSION_MEMORY", 0x903, true}, {"TPM_RC_LOCKOUT", 0x921, false},
		{"TPM_RC_RETRY for ever", 0x922, true}, {"TPM_RC_NV_RATE for ever", 0x920, false}, {"TPM_RC_AUTH_FAIL", 0x98E, false},
		{"TPM_RC_POLICY_FAIL", 0x99D, false},
	} {
		all = append(all, leakFault{name: c.name, quick: c.quick, before: func(context.CancelFunc, []byte) ([]byte, []byte, error) {
			return nil, refuse(c.code), nil
		}})
	}
	return all
}

// leakOperation is one operation, and what is done, without faults, before it.
type leakOperation struct {
	name    string
	prepare func()
	run     func(context.Context) error
	// fails says that it fails also without a fault.
	fails bool
}

// leakOperations are all operations of the package that use the TPM, and the ways in which they are refused by it. past
// gives the bus past the API.
func leakOperations(t *testing.T, past func(func(*bus)), m *TPM) []leakOperation {
	ctx := t.Context()
	id, value, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := m.CreateCounter(ctx, testIndex+1)
	if err != nil {
		t.Fatal(err)
	}
	const scratch = testIndex + 2
	// purge removes a counter that an operation has left, whoever made it.
	purge := func() {
		past(func(b *bus) {
			index := tpm2.TPMHandle(scratch)
			public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(b)
			if err != nil {
				return // there is none
			}
			_, err = tpm2.NVUndefineSpace{
				AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
				NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			}.Execute(b)
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	var scratchID CounterID
	policy, stalePolicy := Policy{CounterEquals(id, value)}, Policy{CounterEquals(id, value+1)}
	blob, stale := must(m.Seal(ctx, []byte("secret"), policy))(t), must(m.Seal(ctx, []byte("x"), stalePolicy))(t)
	foreign := must(fresh(t).Seal(ctx, []byte("x"), nil))(t)
	signing, exchange := must(m.CreateSigningKey(ctx, policy))(t), must(m.CreateExchangeKey(ctx, policy))(t)
	staleSigning, staleExchange := must(m.CreateSigningKey(ctx, stalePolicy))(t), must(m.CreateExchangeKey(ctx, stalePolicy))(t)
	plain := must(m.CreateSigningKey(ctx, nil))(t)
	noAuth, noName := id, id
	noAuth.Auth = bytes.Repeat([]byte{7}, authSize)
	noName.Name = other.Name
	peer := exchange.PublicKey()
	return []leakOperation{
		{name: "seal", run: func(ctx context.Context) error { _, err := m.Seal(ctx, []byte("x"), policy); return err }},
		{name: "unseal", run: func(ctx context.Context) error { _, err := m.Unseal(ctx, blob, policy); return err }},
		{name: "create signing key", run: func(ctx context.Context) error { _, err := m.CreateSigningKey(ctx, policy); return err }},
		{name: "create exchange key", run: func(ctx context.Context) error { _, err := m.CreateExchangeKey(ctx, policy); return err }},
		{name: "sign", run: func(ctx context.Context) error { _, err := signing.SignContext(ctx, make([]byte, 48)); return err }},
		{name: "ECDH", run: func(ctx context.Context) error { _, err := exchange.ECDHContext(ctx, peer); return err }},
		{name: "read counter", run: func(ctx context.Context) error { _, err := m.ReadCounter(ctx, id); return err }},
		{name: "increment counter", run: func(ctx context.Context) error { _, err := m.IncrementCounter(ctx, other); return err }},
		{name: "create counter", prepare: purge, run: func(ctx context.Context) error { _, _, err := m.CreateCounter(ctx, scratch); return err }},
		{name: "delete counter", prepare: func() {
			purge()
			var err error
			if scratchID, _, err = m.CreateCounter(ctx, scratch); err != nil {
				t.Fatal(err)
			}
		}, run: func(ctx context.Context) error { return m.DeleteCounter(ctx, scratchID) }},
		{name: "persist and evict", run: func(ctx context.Context) error {
			k, err := plain.Persist(ctx, 0x81000011)
			if errors.Is(err, ErrHandleInUse) {
				// An earlier fault has hit the eviction, or its answer.
				if k, err = m.OpenSigningKey(ctx, 0x81000011, nil); err != nil {
					return err
				}
			}
			if err == nil {
				err = k.Evict(ctx)
			}
			return err
		}},
		{name: "nothing at the handle", fails: true, run: func(ctx context.Context) error { _, err := m.OpenSigningKey(ctx, 0x81000010, nil); return err }},
		{name: "index in use", fails: true, run: func(ctx context.Context) error { _, _, err := m.CreateCounter(ctx, testIndex); return err }},
		{name: "another counter", fails: true, run: func(ctx context.Context) error { _, err := m.IncrementCounter(ctx, noName); return err }},
		{name: "wrong authorisation", fails: true, run: func(ctx context.Context) error { _, err := m.IncrementCounter(ctx, noAuth); return err }},
		{name: "unseal, policy does not hold", fails: true, run: func(ctx context.Context) error { _, err := m.Unseal(ctx, stale, stalePolicy); return err }},
		{name: "sign, policy does not hold", fails: true, run: func(ctx context.Context) error {
			_, err := staleSigning.SignContext(ctx, make([]byte, 48))
			return err
		}},
		{name: "ECDH, policy does not hold", fails: true, run: func(ctx context.Context) error { _, err := staleExchange.ECDHContext(ctx, peer); return err }},
		{name: "blob of another TPM", fails: true, run: func(ctx context.Context) error { _, err := m.Unseal(ctx, foreign, nil); return err }},
	}
}

// TestHandleLeak fails operations of every kind at every command in every way, against an emulator with three slots for objects and
// three for sessions, and looks after each for what it has left. With -short it tries fewer faults.
func TestHandleLeak(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m, l := tapped(t, p, Options{RetryFor: time.Nanosecond})
	operations := leakOperations(t, func(f func(*bus)) { raw(t, p, f) }, m)
	control := must(m.Seal(ctx, []byte("secret"), nil))(t)
	failed, tried := 0, 0
	for _, o := range operations {
		for _, f := range leakFaults() {
			if testing.Short() && !f.quick {
				continue
			}
			for at := 0; ; at++ {
				hit, err := failAt(ctx, l, o, f, at)
				if hit == 0 {
					if (err != nil) != o.fails {
						t.Errorf("%s without a fault: %v", o.name, err)
					}
					break
				}
				tried++
				name := fmt.Sprintf("%s, %s at command %d", o.name, f.name, at)
				if err != nil {
					failed++
					var e *Error
					if !errors.As(err, &e) {
						t.Fatalf("%s: %v is no *Error", name, err)
					}
				}
				// At once, if the caller waited for the end and the fault did not hit the flush itself;
				if f.name != "caller gone" && hit != ccFlushContext {
					raw(t, p, func(b *bus) { wantNone(t, b, name) })
				}
				// in any case when the next operation begins.
				if err := m.do(ctx, "look", nil, func(*tx) error { wantNone(t, m.bus, name); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			// And an ordinary operation works.
			if got := must(m.Unseal(ctx, control, nil))(t); string(got) != "secret" {
				t.Fatalf("after %s, %s: %q", o.name, f.name, got)
			}
		}
	}
	wantNoHandles(t, m)
	t.Logf("%d operations failed, of %d with a fault in one of their commands; no handle was left", failed, tried)
	if testing.Short() {
		t.Logf("-short: %d are wanted without it", leakFailures)
	} else if failed < leakFailures {
		t.Fatalf("only %d operations failed", failed)
	}
}

// failAt runs an operation with a fault at one of its commands. hit is that command, 0 if there were fewer.
func failAt(ctx context.Context, l *tap, o leakOperation, f leakFault, at int) (hit uint32, err error) {
	if o.prepare != nil {
		o.prepare()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var n atomic.Int64
	var command atomic.Uint32
	l.set(func(c []byte) ([]byte, []byte, error) {
		if n.Add(1) != int64(at+1) {
			return c, nil, nil
		}
		command.Store(commandOf(c))
		if f.before != nil {
			return f.before(cancel, c)
		}
		return c, nil, nil
	}, func(_, r []byte) ([]byte, error) {
		if n.Load() == int64(at+1) && f.after != nil {
			return f.after(slices.Clone(r))
		}
		return r, nil
	})
	err = o.run(ctx)
	l.set(nil, nil)
	return command.Load(), err
}

// wantNone fails if the TPM holds an object or a session.
func wantNone(t *testing.T, b *bus, name string) {
	t.Helper()
	for _, class := range []uint32{handlesTransient, handlesLoadedSession, handlesSavedSession} {
		if left := b.handles(class); len(left) != 0 {
			t.Errorf("%s: handles %#x left", name, left)
		}
	}
}
