// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"encoding/binary"
	"errors"
)

// SourceTimeSize is the length in bytes of what a sample has in front of its body.
const SourceTimeSize = 4

// ErrBadPlaintext reports a plaintext that no honest node seals: padding that is
// not zero, a length that does not fit, an entry with a reserved stream id. It
// comes from authenticated traffic only. The counter is consumed, nothing is
// published.
var ErrBadPlaintext = errors.New("sealed plaintext is not well-formed")

// Sample is the plaintext of kind 0.
type Sample struct {
	// SourceTime is in milliseconds since the node's start, modulo 2^32.
	SourceTime uint32
	// Body is the payload that the node would have sent unprotected. It
	// aliases the plaintext it was parsed from.
	Body []byte
}

// PutSample fills record with AAD, plaintext and padding of one sample and
// returns the record's length; record[AADSize:n-TagSize] is the plaintext, the
// last TagSize bytes are left for the tag. body must not overlap record. A body
// that is too long gives ErrBodyTooLong; nothing is written on an error.
func PutSample(record []byte, form Form, id ID, sourceTime uint32, body []byte) (int, error) {
	n, err := begin(record, form, KindSample, id, SourceTimeSize+len(body))
	if err != nil {
		return 0, err
	}
	text := record[AADSize:n]
	binary.LittleEndian.PutUint32(text, sourceTime)
	copy(text[SourceTimeSize:], body)
	return n, nil
}

// ParseSample reads the decrypted plaintext of a sample whose header stated pad.
// It must be called only after the tag has verified. The error is
// ErrBadPlaintext.
func ParseSample(plain []byte, pad uint8) (Sample, error) {
	text, err := strip(plain, pad)
	if err != nil {
		return Sample{}, err
	}
	if len(text) < SourceTimeSize {
		return Sample{}, ErrBadPlaintext
	}
	return Sample{
		SourceTime: binary.LittleEndian.Uint32(text),
		Body:       text[SourceTimeSize:],
	}, nil
}
