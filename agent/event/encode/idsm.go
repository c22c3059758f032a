// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// ErrIdsM says that a frame is not one that IdsM.Frame makes.
var ErrIdsM = errors.New("not an event frame")

// Layout of the frame, after AUTOSAR_PRS_IntrusionDetectionSystem: event frame, timestamp, context data; most significant
// byte first. See docs/events.md.
const (
	idsmVersion    = 1
	idsmContext    = 1 << 0 // flags in the protocol header
	idsmTimestamp  = 1 << 1
	idsmHead       = 8
	idsmTime       = 8
	idsmContextLen = 38
	// IdsMLen is the length of the frame.
	IdsMLen = 64
	// idsmOwn begins the numbers of our events, in the half that AUTOSAR leaves to users.
	idsmOwn         = 0x8000
	idsmContextForm = 1
)

// IdsM writes records as CAN FD frames.
type IdsM struct {
	CANID policy.CANID
	// Instance is the number of the IdsM in the vehicle (10 bits), Sensor that of the sensor in it (6 bits).
	Instance uint16
	Sensor   uint8
}

// QualifiedEvent is what a frame says.
type QualifiedEvent struct {
	Instance    uint16
	Sensor      uint8
	Kind        kind.Kind
	Wall        int64 // of the last, ns since 1970
	Severity    kind.Severity
	Sensitivity policy.Sensitivity
	Subject     event.Subject
	Bus         uint8
	Stream      uint32
	CANID       policy.CANID
	DTC         kind.DTC
	Epoch       uint32
	Counter     uint64
	Count       uint64
}

// Frame returns a record as a CAN FD frame of 64 bytes. Counter and stream tell apart what the count sums up.
func (o IdsM) Frame(r *event.Record) loader.CANFrame {
	f := loader.CANFrame{ID: uint32(o.CANID), Len: IdsMLen, Flags: loader.CANFDFDF | loader.CANFDBRS}
	b := f.Data[:0]
	b = append(b, idsmVersion<<4|idsmContext|idsmTimestamp)
	b = binary.BigEndian.AppendUint16(b, o.Instance<<6|uint16(o.Sensor&0x3F))
	b = binary.BigEndian.AppendUint16(b, idsmOwn|uint16(r.Kind))
	b = binary.BigEndian.AppendUint16(b, uint16(min(r.Count, 0xFFFF)))
	b = append(b, 0)
	seconds, ns := r.Last.Wall/1e9, r.Last.Wall%1e9
	b = binary.BigEndian.AppendUint32(b, uint32(ns)) // two reserved bits, 30 bits of nanoseconds
	b = binary.BigEndian.AppendUint32(b, uint32(seconds))
	b = append(b, idsmContextLen) // below 128: a length of one byte
	b = append(b, idsmContextForm, uint8(r.Severity), uint8(r.Sensitivity), uint8(r.Subject.Scope))
	b = binary.BigEndian.AppendUint32(b, r.Subject.Index)
	b = append(b, r.Bus)
	b = binary.BigEndian.AppendUint32(b, r.Stream)
	id := uint32(0xFFFFFFFF)
	if r.HasCANID {
		id = uint32(r.CANID)
	}
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, uint8(r.Kind.DTC()>>16), uint8(r.Kind.DTC()>>8), uint8(r.Kind.DTC()))
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	b = append(b, uint8(r.Counter>>40), uint8(r.Counter>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(r.Counter))
	binary.BigEndian.AppendUint64(b, r.Count) // all of it lies in f.Data
	return f
}

// ParseIdsM reads a frame that Frame has made, and refuses every other.
func ParseIdsM(f *loader.CANFrame) (q QualifiedEvent, err error) {
	b := f.Data[:]
	const context = idsmHead + idsmTime + 1
	switch {
	case f.Len != IdsMLen:
		return q, fmt.Errorf("%w: %d bytes", ErrIdsM, f.Len)
	case b[0] != idsmVersion<<4|idsmContext|idsmTimestamp || b[7] != 0:
		return q, fmt.Errorf("%w: head %02X, reserved %02X", ErrIdsM, b[0], b[7])
	case b[context-1] != idsmContextLen || b[context] != idsmContextForm:
		return q, fmt.Errorf("%w: context of %d bytes, form %d", ErrIdsM, b[context-1], b[context])
	}
	from := binary.BigEndian.Uint16(b[1:])
	id, ns := binary.BigEndian.Uint16(b[3:]), binary.BigEndian.Uint32(b[8:])
	q = QualifiedEvent{Instance: from >> 6, Sensor: uint8(from & 0x3F), Kind: kind.Kind(id), Wall: int64(binary.BigEndian.Uint32(b[12:]))*1e9 + int64(ns)}
	if id&^0xFF != idsmOwn || !q.Kind.Valid() || ns >= 1e9 {
		return QualifiedEvent{}, fmt.Errorf("%w: event %04X, %d ns", ErrIdsM, id, ns)
	}
	c := b[context:]
	q.Severity, q.Sensitivity = kind.Severity(c[1]), policy.Sensitivity(c[2])
	q.Subject = event.Subject{Scope: event.Scope(c[3]), Index: binary.BigEndian.Uint32(c[4:])}
	q.Bus, q.Stream, q.CANID = c[8], binary.BigEndian.Uint32(c[9:]), policy.CANID(binary.BigEndian.Uint32(c[13:]))
	q.DTC = kind.DTC(uint32(c[17])<<16 | uint32(c[18])<<8 | uint32(c[19]))
	q.Epoch = binary.BigEndian.Uint32(c[20:])
	q.Counter = uint64(binary.BigEndian.Uint16(c[24:]))<<32 | uint64(binary.BigEndian.Uint32(c[26:]))
	q.Count = binary.BigEndian.Uint64(c[30:])
	for _, rest := range c[idsmContextLen:] {
		if rest != 0 {
			return QualifiedEvent{}, fmt.Errorf("%w: bytes behind the context", ErrIdsM)
		}
	}
	return q, nil
}
