// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxReceiveBuffer is what the kernel can double without overflow (SO_RCVBUFFORCE, socket(7)).
const maxReceiveBuffer = 1<<30 - 1

// bytesPerQueuedFrame is at least what the kernel counts for a CAN frame in a socket's queue: its sk_buff with the bookkeeping.
const bytesPerQueuedFrame = 1024

// SetReceiveQueue makes room for frames that have come and not been received yet, of which the kernel drops those above; see Drops.
// A vxcan pair hands frames over as fast as they are sent, so that nothing else slows the sender down. Without CAP_NET_ADMIN the
// room is at most net.core.rmem_max (socket(7)).
func (c *CANConn) SetReceiveQueue(frames int) error {
	size := maxReceiveBuffer
	if frames < size/bytesPerQueuedFrame {
		size = frames * bytesPerQueuedFrame
	}
	c.open.RLock()
	defer c.open.RUnlock()
	for _, fd := range []int{c.fd, c.classic} {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		if errors.Is(err, unix.EPERM) {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
		if err != nil {
			return fmt.Errorf("set receive queue on %s: %w", c.name, err)
		}
	}
	return nil
}

// memInfoVars and memInfoDrops are SK_MEMINFO_VARS and SK_MEMINFO_DROPS of include/uapi/linux/sock_diag.h.
const (
	memInfoVars  = 9
	memInfoDrops = 8
)

// Drops returns how many frames the kernel has dropped since the connection was opened, because it had no room for them. Each of
// its sockets counts modulo 2^32.
func (c *CANConn) Drops() (drops uint64, err error) {
	c.open.RLock()
	defer c.open.RUnlock()
	if c.closed.Load() {
		return 0, fmt.Errorf("count drops on %s: %w", c.name, os.ErrClosed)
	}
	fds := []int{c.fd}
	if c.classic != c.fd {
		fds = append(fds, c.classic)
	}
	for _, fd := range fds {
		var info [memInfoVars]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return 0, fmt.Errorf("count drops on %s: %w", c.name, errno)
		}
		drops += uint64(info[memInfoDrops])
	}
	return drops, nil
}
