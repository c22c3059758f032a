// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the pause while a transmit queue is full.
const (
	sendPauseMin = 50 * time.Microsecond
	sendPauseMax = 2 * time.Millisecond
)

// CANConn sends and receives frames on a CAN interface: over CAN_RAW on a device of the kernel's CAN stack, over
// AF_PACKET on one that only looks like it, such as a [TUN]. Either way it sits behind tc ingress and sees neither
// protected frames nor its own. One goroutine may receive while others send.
type CANConn struct {
	name    string
	fd      int // CAN FD frames; with CAN_RAW, also classic ones
	classic int // classic frames; the same as fd with CAN_RAW
	w       *waiter

	receive sync.Mutex   // held while receiving
	open    sync.RWMutex // held for writing to close
	closed  atomic.Bool
}

// OpenCAN opens interface name in the network namespace ns. The interface must exist and must be up to send.
func OpenCAN(ns *Netns, name string) (c *CANConn, err error) {
	err = ns.Do(func() error {
		c, err = openCAN(name)
		return err
	})
	return c, err
}

func openCAN(name string) (c *CANConn, err error) {
	links, err := DialLinks()
	if err != nil {
		return nil, err
	}
	l, err := links.ByName(name)
	if err := errors.Join(err, links.Close()); err != nil {
		return nil, fmt.Errorf("open CAN interface: %w", err)
	}
	if l.Type != ARPHRDCAN {
		return nil, fmt.Errorf("open CAN interface %s: %w: link type %d", name, ErrNotCAN, l.Type)
	}
	c = &CANConn{name: name, fd: -1, classic: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.closeSockets())
		}
	}()
	c.fd, err = canRaw(l.Index)
	c.classic = c.fd
	// No CAN in the kernel, or none behind this device.
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENODEV) {
		if c.fd, err = packetSocket(l.Index, EthPCANFD); err == nil {
			c.classic, err = packetSocket(l.Index, EthPCAN)
		}
	}
	if err != nil {
		return c, fmt.Errorf("open CAN interface %s: %w", name, err)
	}
	fds := []int{c.fd}
	if c.classic != c.fd {
		fds = append(fds, c.classic)
	}
	if c.w, err = newWaiter(fds...); err != nil {
		return c, fmt.Errorf("open CAN interface %s: %w", name, err)
	}
	return c, nil
}

// canRaw opens a CAN_RAW socket (Documentation/networking/can.rst) for classic and CAN FD frames. It receives
// neither error frames nor its own frames, which are the defaults.
func canRaw(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.CAN_RAW)
	if err != nil {
		return -1, fmt.Errorf("make CAN_RAW socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_FD_FRAMES, 1); err != nil {
		return -1, errors.Join(fmt.Errorf("allow CAN FD frames: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrCAN{Ifindex: index}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind CAN_RAW socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// packetSocket opens a packet(7) socket for one protocol. Bound to one protocol it is served after tc ingress,
// like the CAN stack; only a socket for all protocols would be served before it.
func packetSocket(index int, protocol uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("make packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return -1, errors.Join(fmt.Errorf("ignore own frames: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: index}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// SendFD sends f as a CAN FD frame. See Send.
func (c *CANConn) SendFD(f *CANFrame) error { return c.Send(f, CANFDMTU) }

// SendClassic sends f as a classic frame. See Send.
func (c *CANConn) SendClassic(f *CANFrame) error { return c.Send(f, CANMTU) }

// Send sends a classic (size CANMTU) or CAN FD (size CANFDMTU) frame. While the transmit queue is full it
// waits, with pauses that double from 50 us to 2 ms: a CAN interface says ENOBUFS and offers no way to be told
// of room. Close ends the wait with os.ErrClosed.
func (c *CANConn) Send(f *CANFrame, size int) error {
	fd := c.fd
	switch size {
	case CANMTU:
		fd = c.classic
	case CANFDMTU:
	default:
		return fmt.Errorf("send CAN frame of %d bytes on %s: %w", size, c.name, ErrFrameSize)
	}
	pause := sendPauseMin
	for {
		err := c.trySend(fd, f.view(size))
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			if err != nil {
				return fmt.Errorf("send CAN frame on %s: %w", c.name, err)
			}
			return nil
		}
		time.Sleep(pause)
		pause = min(2*pause, sendPauseMax)
	}
}

func (c *CANConn) trySend(fd int, frame []byte) error {
	c.open.RLock() // so that Close cannot give the number to somebody else's file meanwhile
	defer c.open.RUnlock()
	if c.closed.Load() {
		return os.ErrClosed
	}
	n, err := unix.Write(fd, frame)
	if err == nil && n != len(frame) {
		err = fmt.Errorf("%d of %d bytes went out: %w", n, len(frame), ErrFrameSize)
	}
	return err
}

// Receive waits for a frame and returns its size, CANMTU or CANFDMTU. Frames that this connection has sent,
// error frames, and on a device that only looks like CAN also other garbage, are not among them. It ends with
// os.ErrDeadlineExceeded at the deadline, which never passes if it is zero, and os.ErrClosed after Close.
//
// Over AF_PACKET, classic and CAN FD frames come from two queues: the order is kept within each.
func (c *CANConn) Receive(f *CANFrame, deadline time.Time) (size int, err error) {
	c.receive.Lock()
	defer c.receive.Unlock()
	c.open.RLock()
	defer c.open.RUnlock()
	for {
		if c.closed.Load() {
			return 0, fmt.Errorf("receive CAN frame on %s: %w", c.name, os.ErrClosed)
		}
		size, err := c.tryReceive(f)
		if err != nil {
			return 0, fmt.Errorf("receive CAN frame on %s: %w", c.name, err)
		}
		if size != 0 {
			return size, nil
		}
		if err := c.w.wait(deadline); err != nil && !errors.Is(err, ErrWoken) {
			return 0, fmt.Errorf("receive CAN frame on %s: %w", c.name, err)
		}
	}
}

// tryReceive returns the size of a frame, or 0 if there is none.
func (c *CANConn) tryReceive(f *CANFrame) (int, error) {
	for i, fd := range [...]int{c.fd, c.classic} {
		if i == 1 && fd == c.fd {
			break
		}
		for {
			*f = CANFrame{}
			n, err := unix.Read(fd, f.view(CANFDMTU))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				return 0, err
			}
			// The CAN stack lets only whole frames through; a packet socket shows everything.
			switch {
			case n == CANFDMTU && f.Len <= 64 && (c.classic == c.fd || fd == c.fd):
				return n, nil
			case n == CANMTU && f.Len <= 8 && fd == c.classic && f.ID&CANERRFlag == 0:
				return n, nil
			}
		}
	}
	return 0, nil
}

// Close ends all that is going on and closes the sockets.
func (c *CANConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.w.wake()
	c.open.Lock()
	defer c.open.Unlock()
	return c.closeSockets()
}

func (c *CANConn) closeSockets() error {
	var errs []error
	if c.w != nil {
		errs = append(errs, c.w.close())
	}
	if c.fd >= 0 {
		errs = append(errs, unix.Close(c.fd))
	}
	if c.classic >= 0 && c.classic != c.fd {
		errs = append(errs, unix.Close(c.classic))
	}
	return errors.Join(errs...)
}
