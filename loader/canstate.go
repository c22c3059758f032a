// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"golang.org/x/sys/unix"
)

// CANState is the error state of a CAN controller (ISO 11898-1, 12.1.4; enum can_state of include/uapi/linux/can/netlink.h). The
// zero value means that nobody has told: virtual interfaces have no controller.
type CANState uint8

// The states, in the kernel's order.
const (
	CANStateUnknown CANState = iota
	CANErrorActive
	CANErrorWarning
	CANErrorPassive
	CANBusOff
	CANStopped
	CANSleeping
)

// String returns the state's name, or "" for CANStateUnknown.
func (s CANState) String() string {
	names := [...]string{"", "error_active", "error_warning", "error_passive", "bus_off", "stopped", "sleeping"}
	if int(s) >= len(names) {
		return ""
	}
	return names[s]
}

// canStateOf reads the number of IFLA_CAN_STATE.
func canStateOf(v uint32) CANState {
	if v > uint32(CANSleeping-CANErrorActive) {
		return CANStateUnknown
	}
	return CANErrorActive + CANState(v)
}

// CANError is what an error frame says: its class is the identifier's CAN_ERR_* bits (include/uapi/linux/can/error.h). Drivers
// make error frames; they are never on the bus, so nobody there can send one. Programs on this machine can, on virtual interfaces.
type CANError struct {
	Class uint32
	Data  [8]byte
}

// State returns the controller state that an error frame announces, or CANStateUnknown where it speaks of something else.
func (e CANError) State() CANState {
	switch crtl := e.Data[1]; {
	case e.Class&unix.CAN_ERR_BUSOFF != 0:
		return CANBusOff
	case e.Class&unix.CAN_ERR_RESTARTED != 0:
		return CANErrorActive
	case e.Class&unix.CAN_ERR_CRTL == 0:
		return CANStateUnknown
	case crtl&(unix.CAN_ERR_CRTL_RX_PASSIVE|unix.CAN_ERR_CRTL_TX_PASSIVE) != 0:
		return CANErrorPassive
	case crtl&(unix.CAN_ERR_CRTL_RX_WARNING|unix.CAN_ERR_CRTL_TX_WARNING) != 0:
		return CANErrorWarning
	case crtl&unix.CAN_ERR_CRTL_ACTIVE != 0:
		return CANErrorActive
	default:
		return CANStateUnknown // an overflow of the controller's buffers
	}
}
