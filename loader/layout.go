// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"structs"

	"github.com/cellward/cellward/bpf/can"
)

// Capacities of the shared maps; see bpf/include/wire.h.
const (
	MaxIfaces  = 64 // interface slots 1 to 63
	NodeEpochs = 4  // acceptable epochs of a node
)

// WindowWords is the number of words of a replay window.
const WindowWords = 64

// Carrier says what carries the sealed PDUs of a stream.
type Carrier uint8

// The carriers.
const (
	CarrierCANFD = Carrier(can.FilterCwCarrierCW_CARRIER_CANFD) // one sealed PDU in one CAN FD frame
)

// Role says which kinds of sealed PDU a stream carries.
type Role uint8

// The roles.
const (
	RoleSample    = Role(can.FilterCwRoleCW_ROLE_SAMPLE)    // kind 0 only
	RoleHeartbeat = Role(can.FilterCwRoleCW_ROLE_HEARTBEAT) // kinds 1 and 3
)

// StreamKey is where the frames of a stream come from (struct cw_stream_key).
type StreamKey struct {
	_     structs.HostLayout
	Iface uint32 // interface slot, 1 to MaxIfaces-1
	CANID uint32 // 11 bits, or 29 bits with CANEFFFlag
}

// Stream is what the filter knows of a stream (struct cw_stream).
type Stream struct {
	_          structs.HostLayout
	Slot       uint32 // index into windows, below MaxStreams; no two streams share one
	StreamID   uint32 // of the binding; goes into the associated data
	Node       uint32 // index into epochs and starts, below MaxNodes
	Carrier    Carrier
	Role       Role
	WindowSize uint16 // counters, 64 to 1024
	_          [4]uint32
}

// ErrInvalidStream says that a stream table entry is out of range.
var ErrInvalidStream = errors.New("invalid stream table entry")

func (k StreamKey) validate() error {
	if k.Iface == 0 || k.Iface >= MaxIfaces {
		return fmt.Errorf("%w: interface slot %d is not in 1 to %d", ErrInvalidStream, k.Iface, MaxIfaces-1)
	}
	limit := uint32(CANSFFMask)
	if k.CANID&CANEFFFlag != 0 {
		limit = CANEFFMask
	}
	if k.CANID&^CANEFFFlag > limit {
		return fmt.Errorf("%w: CAN identifier %#x has more than its 11 or 29 bits", ErrInvalidStream, k.CANID)
	}
	return nil
}

func (s Stream) validate() error {
	switch {
	case s.Slot >= MaxStreams:
		return fmt.Errorf("%w: stream slot %d is not below %d", ErrInvalidStream, s.Slot, MaxStreams)
	case s.Node >= MaxNodes:
		return fmt.Errorf("%w: node index %d is not below %d", ErrInvalidStream, s.Node, MaxNodes)
	case s.StreamID == 0 || s.StreamID == 0xFFFFFFFF:
		return fmt.Errorf("%w: stream id %#x is reserved", ErrInvalidStream, s.StreamID)
	case s.Carrier != CarrierCANFD:
		return fmt.Errorf("%w: unknown carrier %d", ErrInvalidStream, s.Carrier)
	case s.Role != RoleSample && s.Role != RoleHeartbeat:
		return fmt.Errorf("%w: unknown role %d", ErrInvalidStream, s.Role)
	case s.WindowSize < 64 || s.WindowSize > 1024:
		return fmt.Errorf("%w: window size %d is not in 64 to 1024", ErrInvalidStream, s.WindowSize)
	}
	return nil
}

// metaEntry is struct cw_meta. All but Ready and BindingHash is written before the pins get their final name and not after.
type metaEntry struct {
	_             structs.HostLayout
	Magic         [8]byte
	LayoutVersion uint32
	Ready         uint32 // to be read and written with sync/atomic
	BootID        [16]byte
	LayoutHash    [32]byte
	BindingHash   [32]byte
	CreatedNS     uint64
	_             [3]uint64
}

// layoutVersion is that of what a migration cannot see in the names and types of the maps' members: the records of the rings, and what a
// member means. Raise it with the records; a member that comes to mean something else gets another name instead.
const layoutVersion = 1

func metaMagic() [8]byte { return [8]byte{'c', 'e', 'l', 'l', 'w', 'a', 'r', 'd'} }
