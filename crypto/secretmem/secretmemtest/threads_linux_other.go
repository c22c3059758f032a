// SPDX-License-Identifier: Apache-2.0

//go:build linux && !amd64

package secretmemtest

// registerSets are the general registers and those of floating point, which on arm64 are the vector registers.
var registerSets = [...]int{generalRegisters, floatRegisters}
