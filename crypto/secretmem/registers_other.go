// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package secretmem

// clearRegisters does nothing: the library's ciphers and hashes use no vector registers here.
func clearRegisters() {}
