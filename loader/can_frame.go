// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"structs"
	"unsafe"
)

// Flags and masks of a CAN identifier (include/uapi/linux/can.h).
const (
	CANEFFFlag = 0x80000000 // 29-bit identifier
	CANRTRFlag = 0x40000000 // remote transmission request
	CANERRFlag = 0x20000000 // error frame
	CANSFFMask = 0x000007FF
	CANEFFMask = 0x1FFFFFFF
)

// Flags of a CAN FD frame.
const (
	CANFDBRS = 0x01 // bit rate switch
	CANFDESI = 0x02 // error state indicator
	CANFDFDF = 0x04 // marks CAN FD where one structure holds both
)

// Sizes of the frame structures; a CAN interface's MTU is one of them.
const (
	CANMTU   = 16 // struct can_frame
	CANFDMTU = 72 // struct canfd_frame
)

// Protocol numbers (include/uapi/linux/if_ether.h), in host byte order.
const (
	EthPCAN   = 0x000C
	EthPCANFD = 0x000D
	EthPCANXL = 0x000E
)

// ARPHRDCAN is the link type of a CAN interface (include/uapi/linux/if_arp.h).
const ARPHRDCAN = 280

// CANFrame is struct canfd_frame, whose first 16 bytes are struct can_frame. Its zero value is an empty frame
// with identifier 0.
type CANFrame struct {
	_     structs.HostLayout
	ID    uint32 // with flags, host byte order
	Len   uint8
	Flags uint8
	_     [2]uint8
	Data  [64]uint8
}

// view returns the first size bytes of f as they go to the kernel.
func (f *CANFrame) view(size int) []byte {
	return (*[CANFDMTU]byte)(unsafe.Pointer(f))[:size]
}
