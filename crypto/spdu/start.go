// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"crypto/subtle"
	"errors"

	"github.com/cellward/cellward/crypto/schedule"
)

// The fixed part of a start record is header, start and MAC; CAN FD, which has
// no frame of 40 bytes, adds zeros.
const (
	startSizePlain = HeaderSize + schedule.StartSize + TagSize
	startPadFD     = fdMiddle - startSizePlain
)

// ErrBadMAC reports a start record whose MAC does not verify. Anyone on the bus
// can cause it.
var ErrBadMAC = errors.New("start record does not authenticate")

// Start is what a start record announces: a node that starts again within an
// epoch continues every stream at counter F under keys that hang on Random.
type Start struct {
	F      uint64
	Random [schedule.StartSize]byte
}

// startSize returns length and pad of a start record in the form: 48 and 8 on
// CAN FD, 40 and 0 elsewhere.
func startSize(form Form) (size, pad int) {
	if form == FormFD {
		return fdMiddle, startPadFD
	}
	return startSizePlain, 0
}

// PutStart fills record with a whole start record, MAC included, and returns the
// record's length. id.Counter is F. Nothing is written on an error.
func PutStart(record []byte, form Form, id ID, random *[schedule.StartSize]byte, key *schedule.StartKey) (int, error) {
	if form < FormFD || form > FormGeneric {
		return 0, ErrForm
	}
	if err := id.check(); err != nil {
		return 0, err
	}
	size, pad := startSize(form)
	n := PrefixSize + size
	if len(record) < n {
		return 0, ErrBuffer
	}
	PutPrefix(record, id.Stream, id.Epoch)
	Header{Kind: KindStart, Pad: uint8(pad), EpochLow: uint8(id.Epoch), Counter: id.Counter}.Put(record[PrefixSize:])
	copy(record[AADSize:], random[:])
	clear(record[AADSize+schedule.StartSize : n-TagSize])
	mac := schedule.StartMAC(key, record[:n-TagSize])
	copy(record[n-TagSize:], mac[:])
	return n, nil
}

// ParseStart reads the clear text of a start record from an SPDU without
// looking at its MAC, so that a start already known can be recognised by
// comparison at the price of no HMAC. What it returns is not authenticated.
// Bytes between start and MAC that are not zero give ErrPad, F = 0 gives
// ErrMalformed.
func ParseStart(form Form, b []byte) (Start, error) {
	h, err := Parse(form, b)
	if err != nil {
		return Start{}, err
	}
	if h.Kind != KindStart {
		return Start{}, ErrKind
	}
	if h.Counter == 0 {
		return Start{}, ErrMalformed
	}
	s := Start{F: h.Counter}
	rest := b[HeaderSize : len(b)-TagSize]
	copy(s.Random[:], rest)
	for _, z := range rest[schedule.StartSize:] {
		if z != 0 {
			return Start{}, ErrPad
		}
	}
	return s, nil
}

// VerifyStart parses the start record in record (prefix and SPDU, nothing
// behind it) and checks its MAC in constant time. The key must be that of the
// epoch in the prefix. A wrong MAC gives ErrBadMAC.
func VerifyStart(record []byte, form Form, key *schedule.StartKey) (Start, error) {
	if len(record) < PrefixSize {
		return Start{}, ErrLength
	}
	s, err := ParseStart(form, record[PrefixSize:])
	if err != nil {
		return Start{}, err
	}
	n := len(record) - TagSize
	mac := schedule.StartMAC(key, record[:n])
	if subtle.ConstantTimeCompare(mac[:], record[n:]) != 1 {
		return Start{}, ErrBadMAC
	}
	return s, nil
}
