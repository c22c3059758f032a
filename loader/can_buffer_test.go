// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"testing"
	"time"

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

// What there was no room for is counted: what was sent either is received or was dropped.
func TestReceiveDrops(t *testing.T) {
	needRoot(t)
	const frames = 3000
	ns := newNetns(t)
	d := newBusDevice(t, ns, "can0")
	c := must[*CANConn](t)(OpenCAN(ns, "can0"))
	if n := must[uint64](t)(c.Drops()); n != 0 {
		t.Errorf("%d frames dropped before there was one", n)
	}
	ok(t, c.SetReceiveQueue(10))
	for range frames {
		ok(t, d.WriteCAN(&CANFrame{ID: 0x123, Len: 8}, CANMTU))
		ok(t, d.WriteCAN(&CANFrame{ID: 0x123, Len: 64}, CANFDMTU))
	}
	drops := must[uint64](t)(c.Drops())
	received := uint64(0)
	for {
		var f CANFrame
		if _, err := c.Receive(&f, time.Now()); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		received++
	}
	if drops == 0 || received == 0 || drops+received != 2*frames {
		t.Errorf("%d dropped and %d received of %d", drops, received, 2*frames)
	}
	ok(t, c.Close())
	if _, err := c.Drops(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
