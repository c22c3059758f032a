// SPDX-License-Identifier: Apache-2.0

// Package vault keeps one state in a file that only one TPM can open. It is used by the gateway for its epochs and by an edge
// for its secret and counters.
//
// The file holds a generation key that the TPM has sealed, and the state encrypted under it:
//
//	magic "cellward state 1"          16 bytes
//	u32   length n of the sealed key   little-endian
//	n     sealed generation key        what Sealer.Seal returned
//	32    salt                         fresh for every write
//	      AES-256-GCM of the state, tag last
//
// Every write has an AES-256-GCM key of its own, HKDF-Expand(SHA-384, generation key, "cellward v1 state" || salt, 32), so the
// nonce is all zeros and still no (key, nonce) repeats, whatever copies of the file are written back. Everything before the
// ciphertext, and the file's name, is associated data.
//
// Writes are atomic and durable: temporary file, fsync, rename, fsync of the folder. A lock on the folder keeps a second
// process out.
//
// It may import the standard library, golang.org/x/sys and crypto/secretmem.
package vault
