// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"encoding/binary"
	"math/bits"
)

// The two functions below say for a sample on CAN FD what Parse and ParseSample say, for a caller that has millions of them a
// second and goes to those for everything else. They allocate nothing and return no errors.

// SampleFD says that Parse(FormFD) takes an SPDU of size bytes with this header, read as a little-endian word, and that it is
// a sample. Its pad is then header >> 4 & 15 and its counter header >> 16.
func SampleFD(header uint64, size int) bool {
	return header&15 == Version|uint64(KindSample)<<2 &&
		(size == fdMiddle || size == fdLarge || size == fdSmall && header>>4&15 <= fdSmallMaxPad)
}

// SampleTextFD reads the decrypted plaintext of a sample on CAN FD: the first n bytes of text, as the frame had it, of which
// pad are padding. The source time is at its front, and length bytes of body follow. It must be called only after the tag has
// verified; length is negative if ParseSample would not take it, and for any n that is not the length of such a plaintext.
func SampleTextFD(text *[fdLargeText]byte, n int, pad uint8) (length int) {
	if n&15 != fdSmallText || uint(n) > fdLargeText { // 8, 24, 40
		return -1
	}
	// The last pad bytes are zero if so many zeros lead, read from the end. Of the shortest text there are no more than eight,
	// and a longer pad than that leaves no room for a source time.
	zeros := bits.LeadingZeros64(binary.LittleEndian.Uint64(text[n-8:]))
	if zeros == 64 {
		zeros += bits.LeadingZeros64(binary.LittleEndian.Uint64(text[max(n-16, 0):]))
	}
	if zeros < 8*int(pad) {
		return -1
	}
	return n - int(pad) - SourceTimeSize
}
