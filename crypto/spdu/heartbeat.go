// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"encoding/binary"
	"errors"
)

const entrySize = 10

// MaxEntriesFD is the number of heartbeat entries that fit one CAN FD frame.
const MaxEntriesFD = fdLargeText / entrySize

// ErrEntries reports a heartbeat without entries, with more than the carrier
// takes, or with an entry that is out of range.
var ErrEntries = errors.New("heartbeat entries do not fit")

// Entry is one line of a heartbeat: the counter that the next sample of a
// stream will have. Every lower counter has been sealed, which is what names a
// deleted tail.
type Entry struct {
	Stream uint32
	Next   uint64 // 1 to 2^48-1
}

func (e Entry) valid() bool {
	return e.Stream != reservedStreamLow && e.Stream != reservedStreamHigh &&
		e.Next != 0 && e.Next <= MaxCounter
}

// MaxEntries returns how many entries one heartbeat of the form can hold.
func MaxEntries(form Form) (int, error) {
	switch form {
	case FormFD:
		return MaxEntriesFD, nil
	case FormClassic:
		return (MaxSizeClassic - fdOverhead) / entrySize, nil
	case FormGeneric:
		return (MaxSize - fdOverhead) / entrySize, nil
	}
	return 0, ErrForm
}

// PutHeartbeat fills record with AAD and plaintext of one heartbeat, as
// PutSample does. id is that of the node's heartbeat stream. Nothing is written
// on an error.
func PutHeartbeat(record []byte, form Form, id ID, entries []Entry) (int, error) {
	limit, err := MaxEntries(form)
	if err != nil {
		return 0, err
	}
	if len(entries) == 0 || len(entries) > limit {
		return 0, ErrEntries
	}
	for _, e := range entries {
		if !e.valid() {
			return 0, ErrEntries
		}
	}
	n, err := begin(record, form, KindHeartbeat, id, entrySize*len(entries))
	if err != nil {
		return 0, err
	}
	text := record[AADSize:n]
	for i, e := range entries {
		b := text[i*entrySize:]
		binary.LittleEndian.PutUint32(b, e.Stream)
		binary.LittleEndian.PutUint32(b[4:], uint32(e.Next))
		binary.LittleEndian.PutUint16(b[8:], uint16(e.Next>>32))
	}
	return n, nil
}

// Heartbeat is a parsed heartbeat. It aliases the plaintext it came from.
type Heartbeat struct{ text []byte }

// ParseHeartbeat reads the decrypted plaintext of a heartbeat whose header
// stated pad. It must be called only after the tag has verified. Every entry is
// checked before one is given out. The error is ErrBadPlaintext.
func ParseHeartbeat(plain []byte, pad uint8) (Heartbeat, error) {
	text, err := strip(plain, pad)
	if err != nil {
		return Heartbeat{}, err
	}
	if len(text) == 0 || len(text)%entrySize != 0 {
		return Heartbeat{}, ErrBadPlaintext
	}
	h := Heartbeat{text}
	for i := range h.Len() {
		if !h.Entry(i).valid() {
			return Heartbeat{}, ErrBadPlaintext
		}
	}
	return h, nil
}

// Len returns the number of entries.
func (h Heartbeat) Len() int { return len(h.text) / entrySize }

// Entry returns entry i, 0 <= i < Len().
func (h Heartbeat) Entry(i int) Entry {
	b := h.text[i*entrySize : (i+1)*entrySize]
	return Entry{
		Stream: binary.LittleEndian.Uint32(b),
		Next:   uint64(binary.LittleEndian.Uint32(b[4:])) | uint64(binary.LittleEndian.Uint16(b[8:]))<<32,
	}
}
