// SPDX-License-Identifier: Apache-2.0

package tpmtest

import (
	"errors"
	"net"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cellward/cellward/crypto/tpm/swtpm"
)

// LockOut drives an emulator into dictionary attack lockout, as other software on the machine could: it guesses the
// password of an object that is subject to it until the TPM refuses to compare.
func LockOut(tb testing.TB, p *swtpm.Process) {
	tb.Helper()
	conn, err := net.Dial("unix", p.Socket)
	if err != nil {
		tb.Fatal(err)
	}
	t := transport.FromReadWriteCloser(conn)
	defer t.Close()
	template := tpm2.ECCSRKTemplate
	template.ObjectAttributes.NoDA = false
	parent, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte("password")},
		}},
		InPublic: tpm2.New2B(template),
	}.Execute(t)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if _, err := (tpm2.FlushContext{FlushHandle: parent.ObjectHandle}).Execute(t); err != nil {
			tb.Errorf("flush: %v", err)
		}
	}()
	for range 200 {
		_, err = tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: parent.ObjectHandle, Name: parent.Name, Auth: tpm2.PasswordAuth([]byte("guess"))},
			InPublic:     tpm2.New2B(tpm2.ECCSRKTemplate),
		}.Execute(t)
		var rc tpm2.TPMRC
		if errors.As(err, &rc) && rc.Is(tpm2.TPMRCLockout) {
			return
		}
	}
	tb.Fatalf("no lockout: %v", err)
}
