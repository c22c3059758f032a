// SPDX-License-Identifier: Apache-2.0

//go:build amd64 && !race

package replay

// storeRelease stores an aligned word so that a reader in the kernel sees the
// old or the new value and every store made before it. On amd64 a plain store
// is that already (and what a C11 release store compiles to); the Go memory
// model promises that a word is never torn. sync/atomic would make it an XCHG,
// which also drains the store buffer: an order that no reader of a window relies
// on, and most of the price of a commit.
func storeRelease(p *uint64, v uint64) { *p = v }
