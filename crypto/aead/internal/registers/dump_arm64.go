// SPDX-License-Identifier: Apache-2.0

package registers

// DumpV stores the registers V0 to V31.
//
//go:noescape
func DumpV(to *[32][16]byte)

// ClearV sets the registers V0 to V31 to zero.
func ClearV()
