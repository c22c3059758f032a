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

// SampleTextFD reads the decrypted plaintext of a sample on CAN FD: the first n bytes of text, as the frame had it, of which
// pad are padding. The body is text[4:4+length]. It must be called only after the tag has verified; ok is false if ParseSample
// would not take it.
func SampleTextFD(text *[fdLargeText]byte, n int, pad uint8) (sourceTime uint32, length int, ok bool) {
	if n != fdMidText && n != fdLargeText {
		s, err := ParseSample(text[:min(max(n, 0), fdLargeText)], pad)
		return s.SourceTime, len(s.Body), err == nil
	}
	// The last 16 bytes, of which the last pad are zero: shifted out is what is before them. pad is at most MaxPad.
	tail := text[n-16 : n]
	low, high := binary.LittleEndian.Uint64(tail), binary.LittleEndian.Uint64(tail[8:])
	bits := 8 * uint(pad&MaxPad)
	or := high >> (64 - min(bits, 64))
	if bits > 64 {
		or |= low >> (128 - bits)
	}
	return binary.LittleEndian.Uint32(text[:]), n - int(pad&MaxPad) - sourceTimeSize, or == 0
}
