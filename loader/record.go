// SPDX-License-Identifier: Apache-2.0

package loader

import "encoding/binary"

const (
	recordHead = 24             // struct cw_record_head
	recordAAD  = recordHead + 8 // stream id and epoch, then the sealed PDU
	headerLen  = 8              // of a sealed PDU
)

// Record is one record of a ring: a view into the ring's read-only pages, valid until [Ring.Release]. It is
// well formed: SPDU lies within it. Everything in the SPDU is unauthenticated.
type Record []byte

// TimeNS returns when the hook saw the frame, in nanoseconds of CLOCK_BOOTTIME.
func (r Record) TimeNS() uint64 { return binary.LittleEndian.Uint64(r[0:8]) }

// Slot returns the stream slot.
func (r Record) Slot() uint32 { return binary.LittleEndian.Uint32(r[8:12]) }

// CANID returns the identifier as received, with flags.
func (r Record) CANID() uint32 { return binary.LittleEndian.Uint32(r[12:16]) }

// SPDULen returns the length of the sealed PDU in bytes.
func (r Record) SPDULen() int { return int(binary.LittleEndian.Uint16(r[16:18])) }

// Carrier returns what carried the sealed PDU.
func (r Record) Carrier() Carrier { return Carrier(r[18]) }

// Flags returns the carrier's flags; on CAN FD CANFDBRS and the like.
func (r Record) Flags() uint8 { return r[19] }

// Iface returns the interface slot.
func (r Record) Iface() uint32 { return binary.LittleEndian.Uint32(r[20:24]) }

// StreamID returns the stream id of the binding.
func (r Record) StreamID() uint32 { return binary.LittleEndian.Uint32(r[24:28]) }

// Epoch returns the full epoch.
func (r Record) Epoch() uint32 { return binary.LittleEndian.Uint32(r[28:32]) }

// SPDU returns the sealed PDU: header, ciphertext and tag.
func (r Record) SPDU() []byte { return r[recordAAD : recordAAD+r.SPDULen()] }

// Sealed returns associated data (16 bytes: stream id, epoch, header), ciphertext and tag in one piece.
func (r Record) Sealed() []byte { return r[recordHead : recordAAD+r.SPDULen()] }

// wellFormed reports whether the accessors stay within the record.
func (r Record) wellFormed() bool {
	return len(r) >= recordAAD+headerLen && r.SPDULen() >= headerLen && r.SPDULen() <= len(r)-recordAAD
}
