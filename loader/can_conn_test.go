// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Frames go both ways between a CAN connection and the other end of the bus, and not back to their sender.
func TestCANConn(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	device := newBusDevice(t, ns, labDevice)
	a := must[*CANConn](t)(OpenCAN(ns, labDevice))
	defer a.Close()

	fd := fdFrame(0x123, 48, header{version: 1})
	classic := &CANFrame{ID: 0x456 | CANEFFFlag, Len: 8, Data: [64]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	ok(t, device.SetReadDeadline(soon()))
	for _, tt := range []struct {
		frame *CANFrame
		size  int
		send  func(*CANFrame) error
	}{{fd, CANFDMTU, a.SendFD}, {classic, CANMTU, a.SendClassic}} {
		ok(t, tt.send(tt.frame))
		var got CANFrame
		if size := must[int](t)(device.ReadCAN(&got)); size != tt.size || got != *tt.frame {
			t.Errorf("bus saw %d bytes %+v, want %d %+v", size, got, tt.size, tt.frame)
		}
		ok(t, device.WriteCAN(tt.frame, tt.size))
		got = CANFrame{}
		if size := must[int](t)(a.Receive(&got, soon())); size != tt.size || got != *tt.frame {
			t.Errorf("received %d bytes %+v, want %d %+v", size, got, tt.size, tt.frame)
		}
	}

	// Garbage, error frames and own frames are not received.
	ok(t, device.WriteFrame(EthPCANFD, fd.view(CANFDMTU)[:40]))
	ok(t, device.WriteFrame(EthPCANFD, nil))
	ok(t, device.WriteFrame(0x0800, fd.view(CANFDMTU)))
	ok(t, device.WriteCAN(&CANFrame{ID: CANERRFlag | 4, Len: 8}, CANMTU))
	ok(t, device.WriteCAN(&CANFrame{ID: 1, Len: 65}, CANFDMTU))
	ok(t, device.WriteCAN(&CANFrame{ID: 1, Len: 9}, CANMTU))
	ok(t, a.SendFD(fd))
	var got CANFrame
	if size, err := a.Receive(&got, time.Now().Add(10*time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("received %d bytes %+v, %v", size, got, err)
	}
	if err := a.Send(fd, 20); !errors.Is(err, ErrFrameSize) {
		t.Errorf("frame of 20 bytes: %v", err)
	}
}

// A CAN connection sits behind the filter.
func TestCANConnBehindFilter(t *testing.T) {
	l := newLab(t, "")
	c := must[*CANConn](t)(OpenCAN(l.ns, labDevice))
	defer c.Close()
	ok(t, l.device.WriteCAN(fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001}), CANFDMTU))
	ok(t, l.device.WriteCAN(&CANFrame{ID: idSample, Len: 8}, CANMTU))
	ok(t, l.device.WriteCAN(&CANFrame{ID: 0x200, Len: 8}, CANMTU))
	var got CANFrame
	if size := must[int](t)(c.Receive(&got, soon())); size != CANMTU || got.ID != 0x200 {
		t.Errorf("received %+v", got)
	}
}

func TestCANConnClose(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	newBusDevice(t, ns, labDevice)
	c := must[*CANConn](t)(OpenCAN(ns, labDevice))
	var wg sync.WaitGroup
	wg.Go(func() {
		var f CANFrame
		if _, err := c.Receive(&f, time.Time{}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("receive: %v", err)
		}
	})
	wg.Go(func() {
		for {
			if err := c.SendFD(&CANFrame{ID: 1}); err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Errorf("send: %v", err)
				}
				return
			}
		}
	})
	ok(t, c.Close())
	wg.Wait()
	ok(t, c.Close())
}

func TestCANConnOpenErrors(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	if _, err := OpenCAN(ns, "lo"); !errors.Is(err, ErrNotCAN) {
		t.Errorf("loopback: %v", err)
	}
	if _, err := OpenCAN(ns, "nothing"); !errors.Is(err, ErrNoLink) {
		t.Errorf("missing: %v", err)
	}
}

// A send waits out a full transmit queue.
func TestCANConnQueueFull(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	device := newBusDevice(t, ns, labDevice)
	c := must[*CANConn](t)(OpenCAN(ns, labDevice))
	defer c.Close()
	// The smallest send buffer the kernel gives holds a few frames only, as long as nobody reads the bus.
	ok(t, unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1))
	const frames = 200
	sent := make(chan error, 1)
	go func() {
		for i := range frames {
			if err := c.SendFD(&CANFrame{ID: uint32(i), Len: 64}); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	ok(t, device.SetReadDeadline(soon()))
	var f CANFrame
	for i := range frames {
		if size := must[int](t)(device.ReadCAN(&f)); size != CANFDMTU || f.ID != uint32(i) {
			t.Fatalf("frame %d is %+v", i, f)
		}
	}
	ok(t, <-sent)
}

func TestCANConnAllocations(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	device := newBusDevice(t, ns, labDevice)
	c := must[*CANConn](t)(OpenCAN(ns, labDevice))
	defer c.Close()
	f := fdFrame(0x123, 48, header{version: 1})
	var got CANFrame
	deadline := soon()
	if n := testing.AllocsPerRun(50, func() {
		if err := device.WriteCAN(f, CANFDMTU); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Receive(&got, deadline); err != nil {
			t.Fatal(err)
		}
		if err := c.SendFD(f); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per frame, want 0", n)
	}
}

func TestTUN(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	device := newBusDevice(t, ns, labDevice)
	if device.Name() != labDevice {
		t.Errorf("name %q", device.Name())
	}
	if err := device.WriteFrame(EthPCANXL, make([]byte, TUNMaxFrame+1)); !errors.Is(err, ErrFrameSize) {
		t.Errorf("frame of %d bytes: %v", TUNMaxFrame+1, err)
	}
	if err := device.WriteCAN(&CANFrame{}, 17); !errors.Is(err, ErrFrameSize) {
		t.Errorf("CAN frame of 17 bytes: %v", err)
	}
	for _, n := range []int{0, 1, 3, 4, 16, 72, TUNMaxFrame} {
		ok(t, device.WriteFrame(EthPCANXL, make([]byte, n)))
	}
	c := must[*CANConn](t)(OpenCAN(ns, labDevice))
	defer c.Close()
	ok(t, c.SendFD(&CANFrame{ID: 9}))
	ok(t, device.SetReadDeadline(soon()))
	var small [16]byte
	for {
		protocol, n, err := device.ReadFrame(small[:])
		if errors.Is(err, ErrFrameSize) {
			break
		}
		if err != nil || protocol == EthPCANFD {
			t.Fatalf("read %d bytes of protocol %#x into 16: %v", n, protocol, err)
		}
	}
	// A deadline that has passed does not hide what is there.
	ok(t, c.SendFD(&CANFrame{ID: 11}))
	ok(t, device.SetReadDeadline(time.Now()))
	var late CANFrame
	if size := must[int](t)(device.ReadCAN(&late)); size != CANFDMTU || late.ID != 11 {
		t.Errorf("past deadline: %+v", late)
	}
	if _, err := device.ReadCAN(&late); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past deadline: %v", err)
	}
	if _, err := NewTUN(ns, "a_name_longer_than_the_kernel_takes"); err == nil {
		t.Error("a name of 35 characters was taken")
	}
	if _, err := NewTUN(ns, labDevice); err == nil {
		t.Error("a second device with the same name was made")
	}

	// The same device through another file, as a child process has it.
	fd := must[int](t)(unix.Dup(int(device.File().Fd())))
	other := TUNFromFile(os.NewFile(uintptr(fd), "tun"), "other")
	defer other.Close()
	ok(t, c.SendFD(&CANFrame{ID: 10}))
	ok(t, other.SetReadDeadline(soon()))
	var f CANFrame
	if size := must[int](t)(other.ReadCAN(&f)); size != CANFDMTU || f.ID != 10 {
		t.Errorf("through another file: %+v", f)
	}
	ok(t, other.WriteCAN(&CANFrame{ID: 11, Len: 8}, CANMTU))
	if size := must[int](t)(c.Receive(&f, soon())); size != CANMTU || f.ID != 11 {
		t.Errorf("through another file: %+v", f)
	}

	ok(t, device.Close())
	if _, _, err := device.ReadFrame(small[:]); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestNetns(t *testing.T) {
	needRoot(t)
	a, b := newNetns(t), newNetns(t)
	inode := func(path string) uint64 {
		var st unix.Stat_t
		ok(t, unix.Stat(path, &st))
		return st.Ino
	}
	here := inode("/proc/thread-self/ns/net")
	var inA, inB uint64
	ok(t, a.Do(func() error { inA = inode("/proc/thread-self/ns/net"); return nil }))
	ok(t, b.Do(func() error { inB = inode("/proc/thread-self/ns/net"); return nil }))
	if inA == here || inB == here || inA == inB || inode("/proc/thread-self/ns/net") != here {
		t.Errorf("namespaces here %d, a %d, b %d", here, inA, inB)
	}
	var none *Netns
	ok(t, none.Do(func() error { inA = inode("/proc/thread-self/ns/net"); return nil }))
	if inA != here {
		t.Error("nil is not the caller's namespace")
	}
	wrong := errors.New("wrong")
	if err := a.Do(func() error { return wrong }); err != wrong {
		t.Errorf("error of the function: %v", err)
	}
	if _, err := OpenNetns("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing namespace: %v", err)
	}
	f := must[*os.File](t)(os.Open(os.DevNull))
	defer f.Close()
	if err := (&Netns{f: f}).Do(func() error { t.Error("ran in no namespace"); return nil }); err == nil {
		t.Error("entered a file that is no namespace")
	}
}
