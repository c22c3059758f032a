// SPDX-License-Identifier: Apache-2.0

// Package offer agrees an epoch's secret by one message each way (HPKE, RFC 9180,
// base mode): for provisioning, and for nodes that can only transmit.
//
// The gateway makes a key for this one offer in its TPM and signs an offer with
// it. The node encapsulates to that key and signs a reply. Both sign as
// COSE_Sign1 with their identity keys, which each side has pinned, so HPKE's
// missing sender authentication does not matter. The secret is
//
//	PRK = Export("cellward v1 epoch" || SHA-384(offer), 48)
//
// with KDF 0x0002 (HKDF-SHA384), AEAD 0x0002 (AES-256-GCM), info "cellward v1
// hpke", and KEM 0x0011 (P-384) or 0x0010 (P-256).
//
// The package may import crypto/identity, crypto/schedule, crypto/secretmem and
// the standard library.
package offer
