// SPDX-License-Identifier: Apache-2.0

// Package tpm keeps keys in a TPM 2.0: an identity key that signs (ES384 or
// ES256), one-use ECDH keys, sealed secrets and monotonic NV counters, all under
// one storage root key (SRK).
//
// Every secret crosses the bus inside a session that is salted to the SRK and
// encrypts parameters with AES-CFB, and every object is authorised by a policy
// session: userWithAuth is clear, so no password can stand in for the policy.
// Objects are fixedTPM and fixedParent; their wrapped blobs are useless in any
// other TPM.
//
// One goroutine owns the device and runs one operation at a time from its first
// command to its last flush, because a TPM has three slots for objects and
// three for sessions. An operation leaves neither behind, however it ends.
//
// The package may import github.com/google/go-tpm,
// github.com/foxboron/go-tpm-keyfiles and golang.org/x/sys; of this module
// nothing outside crypto.
package tpm
