// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Every command that Examine sends is one that changes nothing, whatever it finds.
func TestExamineOnlyReads(t *testing.T) {
	p := emulator(t)
	m := openAt(t, p, Options{})
	// Somebody leaves an object in a slot; Open would flush it.
	if err := m.do(t.Context(), "leave", nil, func(x *tx) error {
		_, err := execute(x, "TPM2_CreatePrimary", tpm2.CreatePrimary{
			PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate),
		})
		x.t.bus.open = nil // forgotten, as by a process that was killed
		return err
	}); err != nil {
		t.Fatal(err)
	}
	reads := map[uint32]bool{uint32(tpm2.TPMCCGetCapability): true, uint32(tpm2.TPMCCReadPublic): true, uint32(tpm2.TPMCCTestParms): true}
	inner, err := openLink("unix:"+p.Socket, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	l, sent := &tap{link: inner}, 0
	l.set(func(command []byte) ([]byte, []byte, error) {
		sent++
		if cc := commandOf(command); !reads[cc] {
			t.Errorf("command 0x%X was sent", cc)
		}
		return command, nil, nil
	}, nil)
	h, err := examine(t.Context(), l, Options{})
	if err != nil || h.Objects != 1 || sent == 0 {
		t.Errorf("%+v, %v, %d commands", h, err, sent)
	}
	// An emulator that nobody has started is not started.
	l.set(func(command []byte) ([]byte, []byte, error) {
		if !reads[commandOf(command)] {
			t.Errorf("command 0x%X was sent", commandOf(command))
		}
		return nil, refuse(uint32(tpm2.TPMRCInitialize)), nil
	}, nil)
	if _, err := examine(t.Context(), &tap{link: l}, Options{}); !errors.Is(err, ErrReset) {
		t.Errorf("not started: %v", err)
	}
}
