// SPDX-License-Identifier: Apache-2.0

// Package identity holds what nodes and gateways know each other by: public
// keys on P-384 or P-256, their key ids, and COSE_Sign1 messages (RFC 9052)
// signed with the private keys, which may lie in a TPM or in a file.
//
// A signed message has exactly one encoding. Verify takes nothing but the bytes
// that Sign would have written around the same payload and signature, so a
// message can be compared and remembered by a hash of it.
//
// The package may import github.com/veraison/go-cose,
// github.com/fxamacker/cbor/v2 and golang.org/x/sys; of this module nothing.
package identity
