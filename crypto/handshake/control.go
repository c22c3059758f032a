// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/hmac"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/schedule"
)

// Sizes of a control datagram in bytes.
const (
	headerSize  = 8
	MACSize     = 16
	MaxDatagram = 384
	MaxBody     = MaxDatagram - headerSize - MACSize
)

// marker is the first byte of every control datagram. Its low 2 bits are 0, a version that no sealed PDU has.
const marker = 0xC0

// Type is what a control datagram carries.
type Type uint8

// The types: message_1 to message_4 by their numbers.
const (
	TypeMessage1 Type = 1
	TypeMessage2 Type = 2
	TypeMessage3 Type = 3
	TypeMessage4 Type = 4
	TypeError    Type = 5 // EDHOC error message
	TypeRekey    Type = 6 // the gateway asks for a handshake; no body
)

// String names the type.
func (t Type) String() string {
	switch {
	case t >= TypeMessage1 && t <= TypeMessage4:
		return fmt.Sprintf("message_%d", t)
	case t == TypeError:
		return "error"
	case t == TypeRekey:
		return "rekey request"
	}
	return fmt.Sprintf("type %d", t)
}

// opens tells whether a datagram of the type opens a session; all others belong to one.
func (t Type) opens() bool { return t == TypeMessage1 || t == TypeRekey }

// Direction is the side from which a datagram comes. It goes into the MAC, so that a datagram cannot be reflected.
type Direction uint8

// The two directions.
const (
	FromNode    Direction = 0
	FromGateway Direction = 1
)

// allows tells whether datagrams of a type travel in this direction.
func (d Direction) allows(t Type) bool {
	switch t {
	case TypeMessage1, TypeMessage3:
		return d == FromNode
	case TypeMessage2, TypeMessage4, TypeRekey:
		return d == FromGateway
	case TypeError:
		return true
	}
	return false
}

// ErrDatagram: not a control datagram of this protocol.
var ErrDatagram = errors.New("malformed control datagram")

// Datagram is a control datagram without its MAC:
//
//	u8 0xC0 || u8 type || u16 length of body || u32 session || body || mac[16]
type Datagram struct {
	Type    Type
	Session uint32
	Body    []byte
}

// check applies what holds for sending and receiving alike.
func (d *Datagram) check(dir Direction) error {
	switch {
	case !dir.allows(d.Type):
		return fmt.Errorf("%w: %v does not travel that way", ErrDatagram, d.Type)
	case len(d.Body) > MaxBody:
		return fmt.Errorf("%w: body of %d bytes", ErrDatagram, len(d.Body))
	case (len(d.Body) == 0) != (d.Type == TypeRekey):
		return fmt.Errorf("%w: %v with a body of %d bytes", ErrDatagram, d.Type, len(d.Body))
	case d.Session == 0:
		return fmt.Errorf("%w: session 0", ErrDatagram)
	}
	return nil
}

// Encode gives the bytes on the wire, with the MAC under the control key of the epoch under which the sender sends; a
// nil key, for a sender without an epoch, leaves it zero.
func (d *Datagram) Encode(dir Direction, key *schedule.ControlKey) ([]byte, error) {
	if err := d.check(dir); err != nil {
		return nil, err
	}
	b := make([]byte, headerSize, headerSize+len(d.Body)+MACSize)
	b[0], b[1] = marker, byte(d.Type)
	binary.LittleEndian.PutUint16(b[2:], uint16(len(d.Body)))
	binary.LittleEndian.PutUint32(b[4:], d.Session)
	b = append(b, d.Body...)
	var mac [MACSize]byte
	if key != nil {
		mac = controlMAC(key, dir, b)
	}
	return append(b, mac[:]...), nil
}

// controlMAC is the first 16 bytes of HMAC-SHA-384 over the direction (one byte) and the datagram up to the MAC.
func controlMAC(key *schedule.ControlKey, dir Direction, b []byte) [MACSize]byte {
	h := hmac.New(sha512.New384, key[:])
	h.Write([]byte{byte(dir)})
	h.Write(b)
	return [MACSize]byte(h.Sum(nil))
}

// EpochKey is the control key of a live epoch.
type EpochKey struct {
	Epoch uint32
	Key   *schedule.ControlKey
}

// Received is a datagram whose form is right, with what its MAC says about it.
type Received struct {
	Datagram
	Epoch uint32 // the epoch under whose control key the MAC is good; 0: none
}

// Parse reads a datagram that came from the given direction and tries its MAC under the keys of the at most two live
// epochs. Zeros behind its end, with which CAN FD fills a frame, are dropped; anything else there is refused. A MAC that
// is good under none is no error: such a datagram counts as one of a sender without an epoch, and is limited as those
// are. The body points into b.
func Parse(b []byte, dir Direction, live ...EpochKey) (*Received, error) {
	if len(b) < headerSize+MACSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrDatagram, len(b))
	}
	if b[0] != marker {
		return nil, fmt.Errorf("%w: first byte %#02x", ErrDatagram, b[0])
	}
	end := headerSize + int(binary.LittleEndian.Uint16(b[2:])) + MACSize
	if end > len(b) {
		return nil, fmt.Errorf("%w: %d bytes of %d", ErrDatagram, len(b), end)
	}
	for _, v := range b[end:] {
		if v != 0 {
			return nil, fmt.Errorf("%w: something behind its end", ErrDatagram)
		}
	}
	covered := b[:end-MACSize]
	r := &Received{Datagram: Datagram{
		Type: Type(b[1]), Session: binary.LittleEndian.Uint32(b[4:]), Body: covered[headerSize:],
	}}
	if err := r.check(dir); err != nil {
		return nil, err
	}
	for _, k := range live {
		mac := controlMAC(k.Key, dir, covered)
		if subtle.ConstantTimeCompare(mac[:], b[end-MACSize:end]) == 1 {
			r.Epoch = k.Epoch
		}
	}
	return r, nil
}
