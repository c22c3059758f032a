// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestDefer opens a TPM by its first operation, again after that has failed, and refuses another TPM than the pinned one then.
func TestDefer(t *testing.T) {
	p := emulator(t)
	first := openAt(t, p, Options{})
	blob := must(first.Seal(t.Context(), []byte("x"), nil))(t)
	later := must(Defer("unix:"+p.Socket, Options{SRKName: first.SRKName()}))(t)
	defer later.Close()
	if got := must(later.Unseal(t.Context(), blob, nil))(t); string(got) != "x" {
		t.Errorf("unsealed %q", got)
	}
	if later.SRKName().String() != first.SRKName().String() {
		t.Error("another Name")
	}

	missing := must(Defer("unix:"+filepath.Join(t.TempDir(), "nobody"), Options{SRKName: first.SRKName()}))(t)
	defer missing.Close()
	for range 2 {
		_, err := missing.Unseal(t.Context(), blob, nil)
		wantError(t, err, ErrAbsent)
	}

	q := emulator(t)
	other := must(Defer("unix:"+q.Socket, Options{SRKName: first.SRKName()}))(t)
	defer other.Close()
	for range 2 { // not opened by the failure either
		_, err := other.Seal(t.Context(), []byte("x"), nil)
		wantError(t, err, ErrOtherTPM)
	}
	if _, err := Defer("unix:"+p.Socket, Options{}); !errors.Is(err, ErrSRK) {
		t.Errorf("without a pin: %v", err)
	}
}
