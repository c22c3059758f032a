// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes in bytes.
const (
	HeaderSize = 8  // header of every SPDU
	TagSize    = 16 // AES-256-GCM tag, or the MAC of a start record

	MinSize        = HeaderSize + SourceTimeSize + TagSize // a sample with an empty body
	MaxSize        = 2048                                  // largest SPDU on any carrier
	MaxSizeClassic = 384                                   // largest SPDU on classic CAN
)

// Version is the only protocol version. It is not 0, so zeroed memory never
// parses.
const Version = 1

// MaxCounter is the largest counter of a stream. A counter never wraps.
const MaxCounter = 1<<48 - 1

// MaxPad is the largest number of padding bytes that the header can state.
const MaxPad = 15

// Kind tells what an SPDU carries. It is authenticated but not part of the
// nonce, so a stream that is keyed for one kind must never carry another.
type Kind uint8

// The kinds. 2 is reserved and refused.
const (
	KindSample    Kind = 0
	KindHeartbeat Kind = 1
	KindStart     Kind = 3
)

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	switch k {
	case KindSample:
		return "sample"
	case KindHeartbeat:
		return "heartbeat"
	case KindStart:
		return "start"
	}
	return "reserved"
}

// Form errors. A frame with ErrLength on a protected identifier is no SPDU at
// all (verdict plaintext_on_protected); everything that wraps ErrMalformed is
// an SPDU of a right length with a wrong header (verdict malformed).
var (
	ErrLength    = errors.New("length is not that of a sealed pdu")
	ErrMalformed = errors.New("malformed sealed pdu")
	ErrVersion   = fmt.Errorf("%w: unknown version", ErrMalformed)
	ErrKind      = fmt.Errorf("%w: reserved or misplaced kind", ErrMalformed)
	ErrPad       = fmt.Errorf("%w: pad not allowed here", ErrMalformed)
)

// Header is the first eight bytes of an SPDU.
type Header struct {
	Kind     Kind
	Pad      uint8  // trailing zero bytes of the plaintext, 0..15
	EpochLow uint8  // low 8 bits of the epoch
	Counter  uint64 // 48 bits; of a start record the counter F of the run
}

// ParseHeader reads the header at the front of b. It checks length, version
// and kind; whether length and pad fit the carrier is for Parse to say.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, ErrLength
	}
	v := binary.LittleEndian.Uint64(b)
	h := Header{
		Kind:     Kind(v >> 2 & 3),
		Pad:      uint8(v >> 4 & 15),
		EpochLow: uint8(v >> 8),
		Counter:  v >> 16,
	}
	if v&3 != Version {
		return Header{}, ErrVersion
	}
	switch h.Kind {
	case KindSample, KindHeartbeat, KindStart:
		return h, nil
	}
	return Header{}, ErrKind
}

// Put writes the header to the first HeaderSize bytes of b, which must have
// room for them. Fields are cut to their width: the callers in this package
// refuse values that do not fit, because a cut counter would repeat a nonce.
func (h Header) Put(b []byte) {
	v := uint64(Version) | uint64(h.Kind&3)<<2 | uint64(h.Pad&15)<<4 |
		uint64(h.EpochLow)<<8 | h.Counter<<16
	binary.LittleEndian.PutUint64(b, v)
}
