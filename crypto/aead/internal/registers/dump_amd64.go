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

// SignalX sends a signal to the thread that calls it, whose ids it gets (tgkill(2)), while value is in X15, and clears the register. The
// signal is delivered before the call returns, since a thread takes its own on its way out of the kernel. It waits for nothing: a
// loop here could not be preempted, and the collector would wait for it with all other goroutines stopped.
//
//go:noescape
func SignalX(value *[16]byte, process, thread, signal int) (errno int)

// ClearZ sets the registers Z0 to Z31 to zero. The CPU must have AVX-512.
func ClearZ()

// ClearY sets the registers Y0 to Y15 to zero. The CPU must have AVX.
func ClearY()

// ClearX sets the registers X0 to X15 to zero.
func ClearX()
