// SPDX-License-Identifier: Apache-2.0

package spdu

import "encoding/binary"

// The two functions below say for a sample on CAN FD what Parse and ParseSample say, for a caller that has millions of them a
// second and goes to those for everything else. They allocate nothing and return no errors.

// SampleFD says that Parse(FormFD) takes an SPDU of size bytes with this header, read as a little-endian word, and that it is
// a sample. Its pad is then header >> 4 & 15 and its counter header >> 16.
func SampleFD(header uint64, size int) bool {
	return header&15 == Version|uint64(KindSample)<<2 &&
		(size == fdMiddle || size == fdLarge || size == fdSmall && header>>4&15 <= fdSmallMaxPad)
}

// InOrderMask takes out of a header what SampleInOrder speaks of: version, kind and counter.
const InOrderMask = ^uint64(0xfff0)

// SampleInOrder is the header of a sample, under InOrderMask, read as a little-endian word. Of two such headers the one with the
// higher counter is higher. A counter above MaxCounter has none, and gives 0.
func SampleInOrder(counter uint64) uint64 {
	if counter > MaxCounter {
		return 0
	}
	return counter<<16 | uint64(KindSample)<<2 | Version
}

// TextFD is room for the plaintext of a sample on CAN FD, which begins at TextFrontFD. What is in front of it means nothing; it
// is there so that words can be read from the end of any plaintext.
type TextFD [TextFrontFD + fdLargeText + 8]byte

// TextFrontFD is where the plaintext begins in a TextFD.
const TextFrontFD = 16

// PaddingFD holds for each pad the bits of the last two words of a plaintext that must be zero.
type PaddingFD [MaxPad + 1][2]uint64

// NewPaddingFD returns the table.
func NewPaddingFD() *PaddingFD {
	var t PaddingFD
	for pad := range uint(len(t)) {
		t[pad] = [2]uint64{^uint64(0) << (64 - 8*(max(pad, 8)-8)), ^uint64(0) << (64 - 8*min(pad, 8))}
	}
	return &t
}

// TextLength reads the decrypted plaintext of a sample on CAN FD: n bytes of text, as the frame had it, of which pad are
// padding. The source time is at its front, and length bytes of body follow. It must be called only after the tag has verified;
// length is negative if ParseSample would not take it, and for any n that is not the length of such a plaintext.
func (t *PaddingFD) TextLength(text *TextFD, n int, pad uint8) (length int) {
	mask := &t[pad&MaxPad]
	if n&15 != fdSmallText || uint(n) > fdLargeText || // 8, 24, 40
		binary.LittleEndian.Uint64(text[n:])&mask[0]|binary.LittleEndian.Uint64(text[n+8:])&mask[1] != 0 {
		return -1
	}
	return n - int(pad) - SourceTimeSize
}
