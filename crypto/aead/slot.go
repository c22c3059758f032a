// SPDX-License-Identifier: Apache-2.0

package aead

// keySlot is one expanded key as the side-by-side engines of this package read it. All values of GHASH are kept
// byte-reversed and multiplied by x once, so that the carry-less product of two of them needs no shift (Gueron and
// Kounavis, Intel 323640; the same arithmetic as POLYVAL of RFC 8452, appendix A).
//
// It is laid out for the cache: a PDU of up to 48 bytes touches the four lines of the round keys, one or two lines
// with the powers of H, and the line with the product of its length. The offsets are written down in slot.h as well;
// a test compares the two.
type keySlot struct {
	// first is the first round key XOR (IV || 0). The IV is part of every counter block and nothing else, so it
	// goes in here once instead of into each block.
	first [16]byte
	// round are the round keys 1 to 14.
	round [14][16]byte
	// power holds H^17, H^16, ... H^1: blocks that lie in memory one behind the other meet their powers in the same
	// order. What is hashed last, up to 16 blocks and the length block, starts at H^17 or later.
	power [17][16]byte
	// length is the product of H and the length block (128 bits of AAD, 8*n bits of ciphertext) for n = 0 to
	// fastText.
	length [fastText + 1][16]byte
	_      [48]byte
}

// fastText is the longest ciphertext in bytes that the side-by-side kernels take: with the AAD it fills one 64-byte
// register.
const fastText = 48
