// SPDX-License-Identifier: Apache-2.0

//go:build amd64 && !race

package loader

// storeRelease stores an aligned word so that whoever sees it sees every store made before it. On amd64 a plain store is that
// already; sync/atomic would make it an XCHG, which also drains the store buffer: an order that nobody relies on here, and
// 3 ns for each of the four words that a frame moves. Package replay does the same with the words of a window, and says why the
// Go memory model allows it.
func storeRelease(p *uint64, v uint64) { *p = v }
