// SPDX-License-Identifier: Apache-2.0

package secretmem

// clearRegisters sets the vector registers to zero, in which the library's ciphers and hashes keep keys. The general ones are
// in use all the time.
//
//go:noescape
func clearRegisters()
