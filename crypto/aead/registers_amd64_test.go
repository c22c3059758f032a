// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"testing"

	"github.com/cellward/cellward/crypto/aead/internal/registers"
)

// registersAfter clears the vector registers that an engine uses, runs f and returns what they hold then.
func registersAfter(t *testing.T, engine string, f func()) (all [][]byte) {
	t.Helper()
	switch engine {
	case NameVAES512:
		var z [32][64]byte
		registers.ClearZ()
		f()
		registers.DumpZ(&z)
		for i := range z {
			all = append(all, z[i][:])
		}
	case NameVAES256:
		var y [16][32]byte
		registers.ClearY()
		f()
		registers.DumpY(&y)
		for i := range y {
			all = append(all, y[i][:])
		}
	case NameAESNI:
		var x [16][16]byte
		registers.ClearX()
		f()
		registers.DumpX(&x)
		for i := range x {
			all = append(all, x[i][:])
		}
	default:
		t.Fatalf("no way to look at the registers of %s", engine)
	}
	return all
}
