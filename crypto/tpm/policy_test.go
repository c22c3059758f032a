// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

const testIndex = uint32(0x01800100)

// TestPolicyDigest compares the computed policy with what the TPM computes in a
// trial session.
func TestPolicyDigest(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	m := openAt(t, p, Options{})
	id, value, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]Policy{
		"plain":   nil,
		"equals":  {CounterEquals(id, value)},
		"at most": {CounterAtMost(id, value+7)},
		"both":    {CounterAtMost(id, value+7), CounterEquals(id, value)},
	} {
		for _, k := range []kind{signingKind(), exchangeKind(), sealedKind()} {
			want := must(policy.digest(k.use))(t)
			var got []byte
			err := m.do(ctx, "trial", nil, func(x *tx) error {
				s, err := x.policySession(policy, k.use, encryptNone)
				if err != nil {
					return err
				}
				rsp, err := execute(x, "TPM2_PolicyGetDigest", tpm2.PolicyGetDigest{PolicySession: s.Handle()})
				if err == nil {
					got = rsp.PolicyDigest.Buffer
				}
				return err
			})
			if err != nil {
				t.Fatalf("%s, %s: %v", name, k.what, err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s, %s: TPM has %x, computed %x", name, k.what, got, want)
			}
		}
	}
	wantNoHandles(t, m)
}

// TestPolicyHolds is retirement: what is bound to a value of the counter ends
// when the counter moves, for all kinds of object.
func TestPolicyHolds(t *testing.T) {
	ctx := t.Context()
	m := fresh(t)
	id, value, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	now := Policy{CounterEquals(id, value)}
	soon := Policy{CounterAtMost(id, value+1)}
	blobNow := must(m.Seal(ctx, []byte("now"), now))(t)
	blobSoon := must(m.Seal(ctx, []byte("soon"), soon))(t)
	key := must(m.CreateExchangeKey(ctx, now))(t)
	signing := must(m.CreateSigningKey(ctx, now))(t)
	peer := key.PublicKey()
	digest := make([]byte, 48)

	must(m.Unseal(ctx, blobNow, now))(t)
	must(m.Unseal(ctx, blobSoon, soon))(t)
	must(key.ECDH(peer))(t)
	must(signing.Sign(nil, digest, nil))(t)

	if v := must(m.IncrementCounter(ctx, id))(t); v != value+1 {
		t.Fatalf("counter went from %d to %d", value, v)
	}
	_, err = m.Unseal(ctx, blobNow, now)
	wantError(t, err, ErrPolicy)
	if !rcIs(err, tpm2.TPMRCPolicy) {
		t.Errorf("refused with %v", err)
	}
	_, err = key.ECDH(peer)
	wantError(t, err, ErrPolicy)
	_, err = signing.Sign(nil, digest, nil)
	wantError(t, err, ErrPolicy)
	must(m.Unseal(ctx, blobSoon, soon))(t)

	must(m.IncrementCounter(ctx, id))(t)
	_, err = m.Unseal(ctx, blobSoon, soon)
	wantError(t, err, ErrPolicy)

	// Claiming another policy than the one it was made under does not help.
	_, err = m.Unseal(ctx, blobNow, nil)
	wantError(t, err, ErrObject)
	wantNoHandles(t, m)
}

// TestPolicyBinds satisfies another policy than the object's, past the check of
// the public area: the TPM itself refuses.
func TestPolicyBinds(t *testing.T) {
	ctx := t.Context()
	m := fresh(t)
	id, value, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	now := Policy{CounterEquals(id, value)}
	blob := must(m.Seal(ctx, []byte("secret"), now))(t)
	e := must(decode(blob, sealedKind(), now, DefaultSRKHandle))(t)
	must(m.IncrementCounter(ctx, id))(t)
	for name, tc := range map[string]struct {
		policy Policy
		use    tpm2.TPMCC
	}{
		"no counter":      {nil, tpm2.TPMCCUnseal},
		"new value":       {Policy{CounterEquals(id, value+1)}, tpm2.TPMCCUnseal},
		"another command": {nil, tpm2.TPMCCSign},
	} {
		forged := *e
		forged.policy = tc.policy
		forged.kind.use = tc.use
		err := m.do(ctx, "unseal", nil, func(x *tx) error {
			h, err := x.use(&forged, encryptOut)
			if err != nil {
				return err
			}
			_, err = execute(x, "TPM2_Unseal", tpm2.Unseal{ItemHandle: h})
			return err
		})
		if err == nil {
			t.Fatalf("%s: opened", name)
		}
		wantError(t, err, ErrPolicy)
	}
	// A password cannot stand in for the policy: userWithAuth is clear.
	err = m.do(ctx, "unseal", nil, func(x *tx) error {
		h, err := x.use(&entity{kind: e.kind, public: e.public, name: e.name, private: e.private}, encryptOut)
		if err != nil {
			return err
		}
		h.Auth = tpm2.PasswordAuth(nil)
		_, err = execute(x, "TPM2_Unseal", tpm2.Unseal{ItemHandle: h})
		return err
	})
	wantError(t, err, ErrAuth)
	wantNoHandles(t, m)
}

// TestAttributes reads the attributes of one object of each kind.
func TestAttributes(t *testing.T) {
	ctx := t.Context()
	m := fresh(t)
	signing := must(m.CreateSigningKey(ctx, nil))(t)
	exchange := must(m.CreateExchangeKey(ctx, nil))(t)
	sealed := must(decode(must(m.Seal(ctx, []byte("x"), nil))(t), sealedKind(), nil, DefaultSRKHandle))(t)
	for _, e := range []*entity{signing.e, exchange.e, sealed} {
		a := e.public.ObjectAttributes
		if !a.FixedTPM || !a.FixedParent || !a.AdminWithPolicy || !a.NoDA || a.UserWithAuth || a.Restricted || a.EncryptedDuplication {
			t.Errorf("%s: attributes %+v", e.kind.what, a)
		}
		if made := e != sealed; a.SensitiveDataOrigin != made {
			t.Errorf("%s: sensitiveDataOrigin %v", e.kind.what, a.SensitiveDataOrigin)
		}
		if a.SignEncrypt != (e == signing.e) || a.Decrypt != (e == exchange.e) {
			t.Errorf("%s: sign %v, decrypt %v", e.kind.what, a.SignEncrypt, a.Decrypt)
		}
	}
}

func TestCounter(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	p := emulatorIn(t, dir)
	m := openAt(t, p, Options{})
	id, first, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(id.Auth, 0) || len(id.Auth) != authSize {
		t.Fatal("authorisation value with a zero byte or of the wrong length")
	}
	_, _, err = m.CreateCounter(ctx, testIndex)
	wantError(t, err, ErrHandleInUse)

	var rsp *tpm2.NVReadPublicResponse
	raw(t, p, func(b *bus) {
		rsp = must(tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(testIndex)}.Execute(b))(t)
	})
	public := must(rsp.NVPublic.Contents())(t)
	a := public.Attributes
	if a.NT != tpm2.TPMNTCounter || !a.NoDA || a.Orderly || a.OwnerWrite || a.PPWrite || a.PolicyWrite || !a.Written || public.DataSize != 8 {
		t.Fatalf("public area %+v", public)
	}
	if !bytes.Equal(rsp.NVName.Buffer, id.Name) {
		t.Fatal("pinned Name is not the TPM's")
	}

	value := first
	for range 3 {
		value++
		if v := must(m.IncrementCounter(ctx, id))(t); v != value {
			t.Fatalf("%d, want %d", v, value)
		}
	}
	m.Close()
	p.Kill() // a power cut directly after the increment
	p = emulatorIn(t, dir)
	m = openAt(t, p, Options{})
	if v := must(m.ReadCounter(ctx, id))(t); v != value {
		t.Fatalf("after a power cut %d, want %d", v, value)
	}

	wrong := id
	wrong.Auth = bytes.Repeat([]byte{1}, authSize)
	_, err = m.IncrementCounter(ctx, wrong)
	wantError(t, err, ErrAuth)
	_, err = m.ReadCounter(ctx, CounterID{Index: testIndex + 1, Name: id.Name, Auth: id.Auth})
	wantError(t, err, ErrNoObject)

	// Deleted and made again: never a smaller value.
	blob := must(m.Seal(ctx, []byte("x"), Policy{CounterEquals(id, value)}))(t)
	if err := m.DeleteCounter(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err = m.Unseal(ctx, blob, Policy{CounterEquals(id, value)})
	wantError(t, err, ErrNoObject)
	again, v, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	if v <= value {
		t.Fatalf("a new counter began at %d, the old one had reached %d", v, value)
	}
	_, err = m.IncrementCounter(ctx, CounterID{Index: testIndex, Name: bytes.Repeat([]byte{9}, 34), Auth: again.Auth})
	wantError(t, err, ErrCounter)
	// The Name covers the public area, not the life of the index: a counter
	// made again alike satisfies the Name, and the value is what protects.
	_, err = m.Unseal(ctx, blob, Policy{CounterEquals(CounterID{testIndex, id.Name, again.Auth}, value)})
	wantError(t, err, ErrPolicy)
	wantNoHandles(t, m)
}

// TestCounterAuthZeros: go-tpm cuts an authorisation value at its first zero.
func TestCounterAuthZeros(t *testing.T) {
	seen := make(map[byte]bool)
	for range 400 {
		for _, b := range newAuth() {
			seen[b] = true
		}
	}
	if seen[0] || len(seen) != 255 {
		t.Fatalf("%d byte values, zero among them: %v", len(seen), seen[0])
	}
}

// TestCounterIDRedacted prints a counter in every way that could show its
// authorisation value.
func TestCounterIDRedacted(t *testing.T) {
	id := CounterID{Index: testIndex, Name: Name{1}, Auth: []byte("SECRETAUTH")}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "counter", id)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "counter", id)
	text := log.String() + fmt.Sprintf("%v %+v %#v %s %x %q %v", id, id, id, id, id, id, []CounterID{id})
	for _, shown := range []string{"SECRETAUTH", fmt.Sprintf("%x", id.Auth), fmt.Sprint(id.Auth), base64.StdEncoding.EncodeToString(id.Auth)} {
		if strings.Contains(text, shown) {
			t.Errorf("shown as %q", shown)
		}
	}
	if !strings.Contains(text, "counter 0x01800100") {
		t.Errorf("%s", text)
	}
}
