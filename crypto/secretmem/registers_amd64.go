// SPDX-License-Identifier: Apache-2.0

package secretmem

import "golang.org/x/sys/cpu"

// clearRegisters sets the vector registers to zero, in which the library's ciphers and hashes keep keys. The general ones are
// in use all the time.
func clearRegisters() {
	switch {
	case cpu.X86.HasAVX512F:
		clearAVX512()
	case cpu.X86.HasAVX:
		clearAVX()
	default:
		clearSSE()
	}
}

//go:noescape
func clearAVX512()

//go:noescape
func clearAVX()

//go:noescape
func clearSSE()
