// SPDX-License-Identifier: Apache-2.0

package tpmtest

import (
	"net"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cellward/cellward/crypto/tpm/swtpm"
)

// Handles lists the transient objects and the sessions, loaded and saved, that an emulator holds (TPM2_GetCapability, `tpm2_getcap
// handles-transient handles-loaded-session handles-saved-session`), past crypto/tpm, which would free them.
func Handles(tb testing.TB, p *swtpm.Process) (all []uint32) {
	tb.Helper()
	conn, err := net.Dial("unix", p.Socket)
	if err != nil {
		tb.Fatal(err)
	}
	t := transport.FromReadWriteCloser(conn)
	defer t.Close()
	for _, class := range []uint32{0x80000000, 0x02000000, 0x03000000} {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: class, PropertyCount: 64}.Execute(t)
		if err != nil {
			tb.Fatal(err)
		}
		list, err := rsp.CapabilityData.Data.Handles()
		if err != nil {
			tb.Fatal(err)
		}
		for _, h := range list.Handle {
			all = append(all, uint32(h))
		}
	}
	return all
}
