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

// SealedBy is Sealed for a caller that has read the length. It must have come from this record, and is not checked again.
func (r Record) SealedBy(spduLen int) []byte {
	return r[recordHead : recordAAD+spduLen]
}

// Head is the part of a record that every record has: its fields and the sealed PDU's header, without a check for each.
type Head [recordAAD + headerLen]byte

// Head returns the front of the record.
func (r Record) Head() *Head { return (*Head)(r) }

// TimeNS returns when the hook saw the frame, in nanoseconds of CLOCK_BOOTTIME.
func (h *Head) TimeNS() uint64 { return binary.LittleEndian.Uint64(h[0:]) }

// Slot returns the stream slot.
func (h *Head) Slot() uint32 { return binary.LittleEndian.Uint32(h[8:]) }

// SPDULen returns the length of the sealed PDU in bytes.
func (h *Head) SPDULen() int { return int(binary.LittleEndian.Uint16(h[16:])) }

// Origin returns interface slot and stream id in one, as [OriginOf] makes it.
func (h *Head) Origin() uint64 { return binary.LittleEndian.Uint64(h[20:]) }

// OriginOf returns what the records of a stream on an interface have for an origin.
func OriginOf(iface, stream uint32) uint64 { return uint64(stream)<<32 | uint64(iface) }

// Epoch returns the full epoch.
func (h *Head) Epoch() uint32 { return binary.LittleEndian.Uint32(h[28:]) }

// Header returns the sealed PDU's header as a little-endian word.
func (h *Head) Header() uint64 { return binary.LittleEndian.Uint64(h[recordAAD:]) }

// wellFormed reports whether the accessors stay within the record.
func (r Record) wellFormed() bool {
	return len(r) >= recordAAD+headerLen && r.SPDULen() >= headerLen && r.SPDULen() <= len(r)-recordAAD
}
