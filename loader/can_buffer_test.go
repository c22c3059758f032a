// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Frames that come faster than they are received wait, if there is room.
func TestReceiveQueue(t *testing.T) {
	needRoot(t)
	const frames = 5000
	ns := newNetns(t)
	d := newBusDevice(t, ns, "can0")
	c := must[*CANConn](t)(OpenCAN(ns, "can0"))
	defer c.Close()
	ok(t, c.SetReceiveQueue(frames))
	for i := range uint32(frames) {
		ok(t, d.WriteCAN(&CANFrame{ID: i % CANSFFMask, Len: 64}, CANFDMTU))
	}
	for i := range uint32(frames) {
		var f CANFrame
		if _, err := c.Receive(&f, soon()); err != nil || f.ID != i%CANSFFMask {
			t.Fatalf("frame %d: %#x, %v", i, f.ID, err)
		}
	}
	// Sizes beyond what the kernel can count are cut, not wrapped around.
	ok(t, c.SetReceiveQueue(1<<40))
	if n := must[int](t)(unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)); n < 1<<30 {
		t.Errorf("room for %d bytes", n)
	}
}
