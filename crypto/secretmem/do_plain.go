// SPDX-License-Identifier: Apache-2.0

//go:build !goexperiment.runtimesecret || !linux || !(amd64 || arm64)

package secretmem

import (
	"runtime"
	"unsafe"
)

// Erasure names how Do and Collect erase: by overwriting stacks and the free memory of the heap.
const Erasure = "overwriting"

// Do runs f on a stack of its own, and overwrites this stack and the registers before it returns. f must not end its
// goroutine, and what it starts in another goroutine is not erased. What f has allocated is for f to overwrite, or for
// Collect. A panic of f is Do's.
func Do(f func()) {
	var fault any
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The signals that stop a thread leave its registers on a stack of the thread: it must be this one throughout.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		fault = onOwnStack(f)
		clearRegisters()
		overwriteSignalStack()
		returned = true
	}()
	<-done
	switch {
	case !returned:
		runtime.Goexit() // f has ended its goroutine
	case fault != nil:
		panic(fault)
	}
}

// The runtime copies a stack that grows, and one that it finds more than three quarters empty, and leaves the old one as it
// is. So the stack gets its final size, 256 KiB, before f begins: the frame of onOwnStack alone does not fit 128 KiB. And it
// is never found empty, because the same frame fills half of it. f has the other half, less what the runtime keeps for itself.
const (
	ballastSize = 255 << 9
	scrubSize   = 120 << 10
)

//go:noinline
func onOwnStack(f func()) any {
	var ballast [ballastSize]byte
	keep(&ballast[0])
	fault := guarded(f)
	scrub()
	keep(&ballast[0])
	return fault
}

//go:noinline
func guarded(f func()) (fault any) {
	defer func() { fault = recover() }()
	f()
	return nil
}

// scrub overwrites the part of the stack that f had.
//
//go:noinline
func scrub() {
	var area [scrubSize]byte
	keep(&area[0])
}

// keep makes the compiler believe that the memory behind p is looked at, so that it is laid out and zeroed.
//
//go:noinline
func keep(p *byte) { _ = *(*byte)(unsafe.Pointer(p)) }
