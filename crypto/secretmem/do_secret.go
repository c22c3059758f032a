// SPDX-License-Identifier: Apache-2.0

//go:build goexperiment.runtimesecret && linux && (amd64 || arm64)

package secretmem

import (
	"runtime"
	"runtime/debug"
	"runtime/secret"
)

// Erasure names how Do and Collect erase: by the Go runtime itself.
const Erasure = "runtime/secret"

// Do runs f and erases what f has left in registers and on the stack before it returns, and what f has allocated once the
// collector finds that nobody refers to it (Collect). f must not end its goroutine, and what it starts in another goroutine
// is not erased.
func Do(f func()) { secret.Do(f) }

// Collect collects garbage, overwrites what signals have stored of registers, and gives free memory back, so that nothing is left of secrets that nobody refers to any more. It
// takes some milliseconds of one processor, or tens where the heap is large.
func Collect() {
	overwriteSignalStacks() // of work outside of Do, as that of ciphers
	// A pool gives up what it holds in the second collection after its last use, and what was only held by a cleanup is
	// collected one later.
	for range poolCycles {
		runtime.GC()
	}
	debug.FreeOSMemory()
}
