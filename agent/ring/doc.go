// SPDX-License-Identifier: Apache-2.0

// Package ring hands verified samples to other processes through shared memory: one producer, any number of readers
// that can never disturb it.
//
// The memory is a memfd that the producer maps and then seals (F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE,
// F_SEAL_SEAL), so that nobody else can write, truncate or remap it. A Server hands it to authorised peers over a Unix
// socket with SCM_RIGHTS; the socket stays open, so that each side learns of the other's end. Publishing is per batch
// in the manner of Aeron's broadcast buffer: one store of the intent, plain stores, one store of the tail. The newest
// samples matter (KEEP_LAST): a slow reader blocks nobody and learns exactly how many samples it missed.
//
// The layout is the table in docs/ring.md; a test compares it with the types in layout.go.
//
// The package imports nothing of this module.
package ring
