// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

func TestSRK(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	first := openAt(t, p, Options{})
	name := first.SRKName()
	blob := must(first.Seal(ctx, []byte("x"), nil))(t)
	first.Close()

	// Reused, and accepted when pinned.
	second := openAt(t, p, Options{SRKName: name})
	if second.SRKName().String() != name.String() {
		t.Fatal("another storage root key at the second start")
	}
	must(second.Unseal(ctx, blob, nil))(t)
	second.Close()

	// Evicted, it comes back from the seed under the same Name.
	raw(t, p, func(b *bus) {
		must(tpm2.EvictControl{
			Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			ObjectHandle:     &tpm2.NamedHandle{Handle: DefaultSRKHandle, Name: tpm2.TPM2BName{Buffer: name}},
			PersistentHandle: DefaultSRKHandle,
		}.Execute(b))(t)
	})
	third := openAt(t, p, Options{SRKName: name})
	must(third.Unseal(ctx, blob, nil))(t)

	parsed := must(ParseName(name.String()))(t)
	if parsed.String() != name.String() {
		t.Fatal("a Name changes when it is written and read")
	}
	for _, bad := range []string{"", "00", "zz", name.String() + "00"} {
		if _, err := ParseName(bad); err == nil {
			t.Errorf("ParseName(%q) succeeds", bad)
		}
	}
}

func TestStrongSRK(t *testing.T) {
	p := emulator(t)
	m := openAt(t, p, Options{SRKStrong: true})
	params := must(m.srk.Parameters.ECCDetail())(t)
	if params.CurveID != tpm2.TPMECCNistP384 || m.srk.NameAlg != tpm2.TPMAlgSHA384 {
		t.Fatalf("curve %v, Name by %v", params.CurveID, m.srk.NameAlg)
	}
	sealer := Sealer{TPM: m}
	if got := must(sealer.Unseal(must(sealer.Seal([]byte("secret")))(t)))(t); string(got) != "secret" {
		t.Fatalf("%q", got)
	}
	m.Close()
	// Found, it is taken as it is whatever the option says.
	openAt(t, p, Options{SRKName: m.SRKName()})
}

// TestSRKUnusable: an RSA storage key, a signing key, and a storage key that
// lets its children go, at the handle.
func TestSRKUnusable(t *testing.T) {
	loose := tpm2.ECCSRKTemplate
	loose.ObjectAttributes.NoDA = false
	for name, template := range map[string]tpm2.TPMTPublic{"RSA": tpm2.RSASRKTemplate, "ECC without noDA": loose} {
		t.Run(name, func(t *testing.T) {
			p := emulator(t)
			raw(t, p, func(b *bus) {
				owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
				rsp := must(tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(template)}.Execute(b))(t)
				must(tpm2.EvictControl{
					Auth:             owner,
					ObjectHandle:     &tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name},
					PersistentHandle: DefaultSRKHandle,
				}.Execute(b))(t)
				must(tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(b))(t)
			})
			_, err := Open(t.Context(), "unix:"+p.Socket, Options{})
			wantError(t, err, ErrSRK)
			// Another handle helps.
			m := openAt(t, p, Options{SRKHandle: 0x81000002})
			must(m.Seal(t.Context(), []byte("x"), nil))(t)
		})
	}
}

// TestOtherTPM: the pinned Name is not there. The stranger stays untouched.
func TestOtherTPM(t *testing.T) {
	ctx := t.Context()
	mine := fresh(t)
	blob := must(mine.Seal(ctx, []byte("x"), nil))(t)
	key := must(mine.CreateSigningKey(ctx, nil))(t)
	exchange := must(mine.CreateExchangeKey(ctx, nil))(t)

	p := emulator(t)
	_, err := Open(ctx, "unix:"+p.Socket, Options{SRKName: mine.SRKName()})
	wantError(t, err, ErrOtherTPM)
	raw(t, p, func(b *bus) {
		if h := b.handles(handlesPersistent); len(h) != 0 {
			t.Errorf("made in a TPM that is not ours: %#x", h)
		}
	})
	other := openAt(t, p, Options{})
	_, err = Open(ctx, "unix:"+p.Socket, Options{SRKName: mine.SRKName()})
	wantError(t, err, ErrOtherTPM)

	// Its blobs do not open there.
	_, err = other.Unseal(ctx, blob, nil)
	wantError(t, err, ErrForeignBlob)
	if !rcIs(err, tpm2.TPMRCIntegrity) {
		t.Errorf("refused with %v", err)
	}
	k := must(other.ParseSigningKey(key.PEM(), nil))(t)
	_, err = k.Sign(nil, make([]byte, 48), nil)
	wantError(t, err, ErrForeignBlob)
	x := must(other.ParseExchangeKey(exchange.PEM(), nil))(t)
	_, err = x.ECDH(x.PublicKey())
	wantError(t, err, ErrForeignBlob)
	wantNoHandles(t, other)
}

// TestExchangedTPM replaces the emulator behind an open connection, and then
// clears it, as an owner's reset does.
func TestExchangedTPM(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	p := emulatorIn(t, dir)
	m := openAt(t, p, Options{})
	blob := must(m.Seal(ctx, []byte("x"), nil))(t)
	key := must(m.CreateSigningKey(ctx, nil))(t)

	replace := func() {
		p.Stop()
		_, err := m.Unseal(ctx, blob, nil)
		wantError(t, err, ErrAbsent)
		if err := os.Remove(dir + "/tpm2-00.permall"); err != nil {
			t.Fatal(err)
		}
		p = emulatorIn(t, dir)
	}
	replace()
	for name, err := range map[string]error{
		"unseal": func() error { _, err := m.Unseal(ctx, blob, nil); return err }(),
		"seal":   func() error { _, err := m.Seal(ctx, []byte("x"), nil); return err }(),
		"sign":   func() error { _, err := key.Sign(nil, make([]byte, 48), nil); return err }(),
		"create": func() error { _, err := m.CreateExchangeKey(ctx, nil); return err }(),
	} {
		if !errors.Is(err, ErrOtherTPM) {
			t.Errorf("%s in an exchanged TPM without storage root key: %v", name, err)
		}
	}
	other := openAt(t, p, Options{})
	for name, err := range map[string]error{
		"unseal":  func() error { _, err := m.Unseal(ctx, blob, nil); return err }(),
		"seal":    func() error { _, err := m.Seal(ctx, []byte("x"), nil); return err }(),
		"sign":    func() error { _, err := key.Sign(nil, make([]byte, 48), nil); return err }(),
		"counter": func() error { _, _, err := m.CreateCounter(ctx, testIndex); return err }(),
	} {
		if !errors.Is(err, ErrOtherTPM) {
			t.Errorf("%s in an exchanged TPM: %v", name, err)
		}
	}
	wantNoHandles(t, other)

	mine := must(other.Seal(ctx, []byte("y"), nil))(t)
	raw(t, p, func(b *bus) {
		must(tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(b))(t)
	})
	_, err := other.Unseal(ctx, mine, nil)
	wantError(t, err, ErrOtherTPM)
}

func TestOwnerAuth(t *testing.T) {
	ctx := t.Context()
	p := emulator(t)
	const password = "owner password"
	raw(t, p, func(b *bus) {
		must(tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: []byte(password)},
		}.Execute(b))(t)
	})
	_, err := Open(ctx, "unix:"+p.Socket, Options{})
	wantError(t, err, ErrAuth)
	_, err = Open(ctx, "unix:"+p.Socket, Options{OwnerAuth: []byte("a\x00b")})
	wantError(t, err, ErrAuth)

	m := openAt(t, p, Options{OwnerAuth: []byte(password)})
	key := must(m.CreateSigningKey(ctx, nil))(t)
	persistent := must(key.Persist(ctx, 0x81000010))(t)
	if err := persistent.Evict(ctx); err != nil {
		t.Fatal(err)
	}
	id, _, err := m.CreateCounter(ctx, testIndex)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()

	// With the storage root key in place the password is not needed to use
	// keys and counters, only to make or delete them.
	m = openAt(t, p, Options{})
	must(m.IncrementCounter(ctx, id))(t)
	must(must(m.ParseSigningKey(key.PEM(), nil))(t).Sign(nil, make([]byte, 48), nil))(t)
	wantError(t, m.DeleteCounter(ctx, id), ErrAuth)
	_, err = must(m.ParseSigningKey(key.PEM(), nil))(t).Persist(ctx, 0x81000010)
	wantError(t, err, ErrAuth)
	_, _, err = m.CreateCounter(ctx, testIndex+1)
	wantError(t, err, ErrAuth)
	wantNoHandles(t, m)
}
