// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
)

func TestExamine(t *testing.T) {
	ctx := t.Context()
	p := tpmtest.Start(t)
	path := tpmtest.Path(p)
	for range 2 { // looking makes nothing
		h, err := tpm.Examine(ctx, path, tpm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if h.SRKName != nil || h.Locked || h.Objects+h.Sessions != 0 || h.Manufacturer == "" || !h.P384 || h.Lockout.Limit == 0 || h.Lockout.Interval == 0 {
			t.Fatalf("new TPM: %+v", h)
		}
	}
	if _, err := tpm.Examine(ctx, path, tpm.Options{SRKName: bytes.Repeat([]byte{1}, 34)}); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("pinned, and there is none: %v", err)
	}
	m := tpmtest.OpenAt(t, p, tpm.Options{})
	h, err := tpm.Examine(ctx, path, tpm.Options{SRKName: m.SRKName()})
	if err != nil || !bytes.Equal(h.SRKName, m.SRKName()) {
		t.Fatalf("%+v, %v", h, err)
	}
	other := tpmtest.Open(t)
	_, err = tpm.Examine(ctx, path, tpm.Options{SRKName: other.SRKName()})
	if !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("another one is pinned: %v", err)
	}

	tpmtest.LockOut(t, p)
	if h, err = tpm.Examine(ctx, path, tpm.Options{}); err != nil || !h.Locked || h.Lockout.Failures < h.Lockout.Limit {
		t.Errorf("in lockout: %+v, %v", h, err)
	}
}
