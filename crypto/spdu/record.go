// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"encoding/binary"
	"errors"
)

// Sizes in bytes.
const (
	PrefixSize = 8                       // stream id and full epoch in front of an SPDU
	AADSize    = PrefixSize + HeaderSize // associated data: one GHASH block
	NonceSize  = 12                      // 96-bit nonce and IV
	Overhead   = AADSize + TagSize       // record length minus ciphertext length
	MaxRecord  = PrefixSize + MaxSize    // largest record
	MaxText    = MaxRecord - Overhead    // largest ciphertext
)

// Stream ids that name no stream.
const (
	reservedStreamLow  = 0
	reservedStreamHigh = 0xFFFFFFFF
)

// Errors of the sealing side.
var (
	ErrStreamID = errors.New("reserved stream id")
	ErrEpoch    = errors.New("epoch 0 does not exist")
	ErrCounter  = errors.New("counter outside 1 to 2^48-1")
	ErrBuffer   = errors.New("record buffer too short")
)

// ID names one SPDU. Under one traffic key the pair of stream and counter is
// the nonce, so the caller must have consumed the counter durably before it
// builds a record with it.
type ID struct {
	Stream  uint32
	Epoch   uint32
	Counter uint64
}

// check refuses what would be cut or ambiguous on the wire: a counter over 48
// bits would repeat the nonce of an earlier one.
func (id ID) check() error {
	if id.Stream == reservedStreamLow || id.Stream == reservedStreamHigh {
		return ErrStreamID
	}
	if id.Epoch == 0 {
		return ErrEpoch
	}
	if id.Counter == 0 || id.Counter > MaxCounter {
		return ErrCounter
	}
	return nil
}

// PutPrefix writes the stream id and the full epoch to the first PrefixSize
// bytes of a record, which turns an SPDU that lies behind them into
// AAD || ciphertext || tag.
func PutPrefix(record []byte, stream, epoch uint32) {
	_ = record[PrefixSize-1]
	binary.LittleEndian.PutUint32(record, stream)
	binary.LittleEndian.PutUint32(record[4:], epoch)
}

// RecordID reads stream id, full epoch and counter back from the associated
// data at the front of a record of at least AADSize bytes.
func RecordID(record []byte) ID {
	_ = record[AADSize-1]
	return ID{
		Stream:  binary.LittleEndian.Uint32(record),
		Epoch:   binary.LittleEndian.Uint32(record[4:]),
		Counter: binary.LittleEndian.Uint64(record[PrefixSize:]) >> 16,
	}
}

// PutAAD writes the associated data of an SPDU, u32 stream id || u32 epoch ||
// its header, to dst. It is for callers whose SPDU does not lie in a record.
func PutAAD(dst *[AADSize]byte, stream, epoch uint32, header *[HeaderSize]byte) {
	PutPrefix(dst[:], stream, epoch)
	copy(dst[PrefixSize:], header[:])
}

// Nonce sets dst to IV XOR (u32 stream id || u16 0 || u48 counter), the 96-bit
// nonce of NIST SP 800-38D section 8.2.1 with an IV that is secret.
func Nonce(dst, iv *[NonceSize]byte, stream uint32, counter uint64) {
	binary.LittleEndian.PutUint32(dst[:], binary.LittleEndian.Uint32(iv[:])^stream)
	binary.LittleEndian.PutUint64(dst[4:], binary.LittleEndian.Uint64(iv[4:])^counter<<16)
}

// RecordNonce sets dst to the nonce of the record whose associated data is aad
// (at least AADSize bytes). It equals Nonce of that stream id and counter.
func RecordNonce(dst, iv *[NonceSize]byte, aad []byte) {
	_ = aad[AADSize-1]
	stream := binary.LittleEndian.Uint32(aad)
	Nonce(dst, iv, stream, binary.LittleEndian.Uint64(aad[PrefixSize:])>>16)
}

// begin lays down everything of a record around its plaintext: prefix, header
// with pad, and the padding zeros. It returns the length of the record.
func begin(record []byte, form Form, kind Kind, id ID, plain int) (int, error) {
	if err := id.check(); err != nil {
		return 0, err
	}
	pad, err := form.pad(plain)
	if err != nil {
		return 0, err
	}
	n := Overhead + plain + pad
	if len(record) < n {
		return 0, ErrBuffer
	}
	PutPrefix(record, id.Stream, id.Epoch)
	Header{Kind: kind, Pad: uint8(pad), EpochLow: uint8(id.Epoch), Counter: id.Counter}.Put(record[PrefixSize:])
	clear(record[AADSize+plain : n-TagSize])
	return n, nil
}

// strip removes the padding that the header announces from a decrypted
// plaintext, after it was seen to be zero.
func strip(plain []byte, pad uint8) ([]byte, error) {
	n := len(plain) - int(pad)
	if n < 0 {
		return nil, ErrBadPlaintext
	}
	var or byte
	for _, b := range plain[n:] {
		or |= b
	}
	if or != 0 {
		return nil, ErrBadPlaintext
	}
	return plain[:n], nil
}
