// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxReceiveBuffer is what the kernel can double without overflow (SO_RCVBUFFORCE, socket(7)).
const maxReceiveBuffer = 1<<30 - 1

// bytesPerQueuedFrame is at least what the kernel counts for a CAN frame in a socket's queue: its sk_buff with the bookkeeping.
const bytesPerQueuedFrame = 1024

// SetReceiveQueue makes room for frames that have come and not been received yet, of which the kernel drops those above without a
// word. A vxcan pair hands frames over as fast as they are sent, so that nothing else slows the sender down. Needs CAP_NET_ADMIN.
func (c *CANConn) SetReceiveQueue(frames int) error {
	size := maxReceiveBuffer
	if frames < size/bytesPerQueuedFrame {
		size = frames * bytesPerQueuedFrame
	}
	c.open.RLock()
	defer c.open.RUnlock()
	for _, fd := range []int{c.fd, c.classic} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size); err != nil {
			return fmt.Errorf("set receive queue on %s: %w", c.name, err)
		}
	}
	return nil
}
