// SPDX-License-Identifier: Apache-2.0

// Package spdu is the codec of the sealed PDU (SPDU), the unit that travels
// between a sensor edge and the gateway: header, associated data, nonce,
// CAN FD sizes, and the plaintext of samples, heartbeats and start records.
// It knows forms only; it holds no key, no counter and no replay state.
//
// An SPDU on the wire, all integers little-endian:
//
//	offset  size  field
//	0       1     bits 0-1 version (1), bits 2-3 kind, bits 4-7 pad
//	1       1     low 8 bits of the epoch
//	2       6     counter
//	8       n     ciphertext
//	8+n     16    AES-256-GCM tag
//
// In memory an SPDU lies in a record: u32 stream id and u32 full epoch directly
// in front of it. The first 16 bytes of a record are the associated data, so
// whoever holds the record can hand AAD || ciphertext || tag to an AEAD engine
// in one piece:
//
//	record = u32 stream id || u32 epoch || SPDU
//	AAD    = record[0:16]
//
// The Put functions fill a record with plaintext in place and leave the room
// for the tag; after sealing, record[PrefixSize:] is what goes onto the wire.
//
// Nothing here allocates, except the HMAC of a start record. All functions are
// safe for concurrent use on distinct buffers.
//
// The package may import crypto/schedule and nothing else of this module.
package spdu
