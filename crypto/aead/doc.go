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
// several PDUs in the vector registers at once. The engine of this package,
// "std", works through the batch one by one on crypto/cipher.
//
// The package may import crypto/spdu and nothing else of this module.
package aead
