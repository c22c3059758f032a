// SPDX-License-Identifier: Apache-2.0

package registers

// DumpZ stores the registers Z0 to Z31. The CPU must have AVX-512.
//
//go:noescape
func DumpZ(to *[32][64]byte)

// DumpY stores the registers Y0 to Y15. The CPU must have AVX.
//
//go:noescape
func DumpY(to *[16][32]byte)

// DumpX stores the registers X0 to X15.
//
//go:noescape
func DumpX(to *[16][16]byte)

// HoldX has value in X15 until end is not 0, and clears the register. Nothing but a signal or the end of the process interrupts it.
//
//go:noescape
func HoldX(value *[16]byte, end *uint32)

// ClearZ sets the registers Z0 to Z31 to zero. The CPU must have AVX-512.
func ClearZ()

// ClearY sets the registers Y0 to Y15 to zero. The CPU must have AVX.
func ClearY()

// ClearX sets the registers X0 to X15 to zero.
func ClearX()
