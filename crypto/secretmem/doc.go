// SPDX-License-Identifier: Apache-2.0

// Package secretmem keeps secrets out of everything that outlives them: out of the Go heap while they are at rest (Region,
// Arena, Box), and out of stacks, registers and free memory once they were used (Do, Wipe, Collect).
//
// At rest they lie in memory of memfd_secret(2), which the kernel itself cannot read for anybody: not for ptrace(2), for
// /proc/PID/mem, for a core dump or for hibernation, not even for root. Where the kernel has none of it, they lie in locked
// private pages that are left out of core dumps and wiped in forked children, and which kind it is can be asked (Backing).
//
// While a secret is worked with, copies appear that nobody can name: in spilled registers, in frames of functions that have
// returned, in values that a library has allocated. Built with GOEXPERIMENT=runtimesecret, Do is runtime/secret.Do, and the
// runtime erases all of these. Otherwise Do runs the work on a stack of its own that it overwrites, and Collect overwrites
// the free memory of the heap.
//
// The package may import the standard library and golang.org/x/sys, and nothing else of this module.
package secretmem
