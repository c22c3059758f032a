// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"testing"

	"github.com/cellward/cellward/crypto/aead/internal/registers"
)

// registersAfter clears the vector registers, runs f and returns what they hold then.
func registersAfter(t *testing.T, _ string, f func()) (all [][]byte) {
	t.Helper()
	var v [32][16]byte
	registers.ClearV()
	f()
	registers.DumpV(&v)
	for i := range v {
		all = append(all, v[i][:])
	}
	return all
}
