// SPDX-License-Identifier: Apache-2.0

// Package aead opens and seals batches of SPDUs with AES-256-GCM (NIST SP
// 800-38D, 128-bit tag, 96-bit nonce). An Engine takes a batch of operations,
// each with a key of its own and one contiguous record
//
//	AAD(16) || ciphertext || tag(16)
//
// in the layout of package spdu. The nonce is not given: it is the key's IV XOR
// (stream id || 0 || counter), both read from the AAD, so a caller cannot pair
// a record with a wrong one.
//
// The batch is the interface because that is what side-by-side engines need:
// several PDUs in the vector registers at once, each under its own key. Small
// PDUs are where this pays: a library that works on one block after another
// spends its time waiting for the previous round.
//
// Select takes the fastest engine that the CPU can run and that gives the known
// answers. The engine "std", on crypto/cipher, runs everywhere and is what every
// other engine is compared with.
//
// The kernels are written by hand, one file for each kind of CPU; slot.go says
// what they find in memory. twin_test.go states the same algorithm step by step
// in Go, on the same slots, and takes every test that they take. What they have
// in common:
//
//   - Ciphertext and tag are read once, into registers. Plaintext leaves them
//     after the tag has compared equal. For a PDU that is refused the same is
//     done with zeros, to a place of the engine's own (aside.go), or under a
//     mask: Dst is not touched.
//   - Branches, addresses and masks depend on lengths and on verdicts, both
//     public; never on keys or data.
//   - No load or store touches a byte outside record, Dst and slot, not even one
//     that the program would not see.
//   - Registers are cleared before the return. Nothing is spilled to the stack.
//
// The package may import crypto/spdu and crypto/secretmem, and its tests
// crypto/schedule, and nothing else of this module.
package aead
