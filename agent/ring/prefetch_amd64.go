// SPDX-License-Identifier: Apache-2.0

package ring

import "unsafe"

// prefetch asks for n cache lines, each stride bytes behind the one before, to be there for a store. It waits for nothing and
// touches no memory that the program would see.
//
//go:noescape
func prefetch(first unsafe.Pointer, stride uintptr, n int)
