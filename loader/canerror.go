// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canErrorClasses are the classes that tell of a controller's state.
const canErrorClasses = unix.CAN_ERR_CRTL | unix.CAN_ERR_BUSOFF | unix.CAN_ERR_RESTARTED

// Options of CAN_RAW sockets (include/uapi/linux/can/raw.h).
const (
	canRawFilter    = 1
	canRawErrFilter = 2
)

// CANErrors receives the error frames of one interface that tell of its controller's state, and no other frame. Where the kernel
// has CAN it is a CAN_RAW socket with an error filter alone (CAN_RAW_ERR_FILTER), which data frames do not even pass by. Elsewhere,
// on a device that only looks like CAN, it is a packet socket for classic frames with a filter in front of its queue that lets error
// frames through; that takes CAP_NET_RAW to open. Receive is for one goroutine.
//
// rtnetlink alone would not do: the kernel announces bus-off there, because the carrier goes, but not error-passive.
type CANErrors struct {
	name string
	f    *os.File
}

// OpenCANErrors opens the interface with this index in the network namespace ns; name is for messages.
func OpenCANErrors(ns *Netns, name string, index int) (*CANErrors, error) {
	fd := -1
	err := ns.Do(func() (err error) {
		fd, err = errorSocket(index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open error frames of %s: %w", name, err)
	}
	return &CANErrors{name: name, f: os.NewFile(uintptr(fd), "CAN error frames of "+name)}, nil
}

func errorSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.CAN_RAW)
	if err == nil {
		// An empty list of filters is no data frame.
		if err = unix.SetsockoptCanRawFilter(fd, unix.SOL_CAN_RAW, canRawFilter, nil); err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, canRawErrFilter, canErrorClasses)
		}
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrCAN{Ifindex: index})
		}
		if err == nil {
			return fd, nil
		}
		err = errors.Join(err, unix.Close(fd))
	}
	// No CAN in the kernel, or none behind this device.
	if !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, unix.ENODEV) {
		return -1, err
	}
	return errorPacketSocket(index)
}

func errorPacketSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("make packet socket: %w", err)
	}
	// can_id is in host byte order, which is little-endian on every target: its flags are in the fourth byte.
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 3},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: CANERRFlag >> 24, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: CANMTU},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: unsafe.SliceData(program)}),
	)
	if err == nil { // the filter comes first: nothing else may get into the queue
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(EthPCAN), Ifindex: index})
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("prepare packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// Receive waits for an error frame. It returns os.ErrClosed after Close, and ErrNoLink when the interface is gone for good. An
// interface that goes down ends nothing.
func (c *CANErrors) Receive() (CANError, error) {
	for {
		var b [CANMTU]byte
		n, err := c.f.Read(b[:])
		switch {
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
		case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
			return CANError{}, fmt.Errorf("receive error frame of %s: %w: %w", c.name, ErrNoLink, err)
		case err != nil:
			return CANError{}, fmt.Errorf("receive error frame of %s: %w", c.name, err)
		default:
			if e, ok := parseCANError(b[:n]); ok {
				return e, nil
			}
		}
	}
}

// parseCANError reads struct can_frame; ok is false for anything but an error frame of the wanted classes.
func parseCANError(b []byte) (e CANError, ok bool) {
	if len(b) != CANMTU {
		return e, false
	}
	id := binary.NativeEndian.Uint32(b)
	if id&CANERRFlag == 0 || id&canErrorClasses == 0 {
		return e, false
	}
	e.Class = id & CANEFFMask
	copy(e.Data[:], b[8:])
	return e, true
}

// Close ends Receive in another goroutine, too.
func (c *CANErrors) Close() error { return c.f.Close() }
