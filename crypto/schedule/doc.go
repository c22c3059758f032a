// SPDX-License-Identifier: Apache-2.0

// Package schedule derives the keys of one epoch from its secret PRK_epoch with
// HKDF-Expand (RFC 5869) over SHA-384:
//
//	K(32) || IV(12) = Expand(PRK, "cellward v1 traffic" || u32 source id || u32 epoch || start[16], 44)
//	K_start(48)     = Expand(PRK, "cellward v1 start"   || u32 epoch, 48)
//	K_ctl(48)       = Expand(PRK, "cellward v1 control" || u32 epoch, 48)
//
// Integers are little-endian, labels are ASCII without a terminating zero. The
// secret was extracted by the key agreement (EDHOC exporter or HPKE export), so
// there is no Extract step here.
//
// Secrets are types of their own that print, log and marshal as nothing. A
// struct that holds one in an unexported field by value loses that protection
// in package fmt, which cannot call methods there: hold a pointer or an
// exported field. The functions leave no copies of secrets on heap and stack
// (crypto/secretmem); where the caller keeps what they return is his own care.
//
// All functions are safe for concurrent use. Of this module the package may
// import crypto/secretmem.
package schedule
