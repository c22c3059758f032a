// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// tunPI is struct tun_pi in front of each frame: u16 flags, u16 protocol in network byte order.
	tunPI = 4

	// TUNMaxFrame is the longest frame that a [TUN] takes: that of CAN XL.
	TUNMaxFrame = 2060

	// tunQueue is the transmit queue in frames. Where nobody reads, what does not fit is lost.
	tunQueue = 10000
)

// ErrFrameSize says that a frame does not fit.
var ErrFrameSize = errors.New("frame size is out of range")

// TUN is a TUN device whose link type is CAN: a bus with one other end, where the kernel has none of its own.
// What WriteFrame takes comes in at the interface as if it had been received; the kernel hands the very same
// bytes to tc ingress as vcan would. What is sent on the interface is what ReadFrame returns. WriteFrame and
// ReadFrame are safe for concurrent use.
type TUN struct {
	name string
	f    *os.File

	write struct {
		sync.Mutex
		buf [tunPI + TUNMaxFrame]byte
	}
	read struct {
		sync.Mutex
		buf [tunPI + TUNMaxFrame]byte
	}
}

// NewTUN makes a CAN-like device in the network namespace ns and sets it up. It ends with Close.
func NewTUN(ns *Netns, name string) (t *TUN, err error) {
	err = ns.Do(func() error {
		t, err = newTUN(name)
		return err
	})
	return t, err
}

func newTUN(name string) (*TUN, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("make TUN device %q: %w", name, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	fail := func(err error) (*TUN, error) { return nil, errors.Join(err, unix.Close(fd)) }

	// With packet information, because that is what carries the protocol number.
	ifr.SetUint16(unix.IFF_TUN)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fail(fmt.Errorf("make TUN device %s: %w", name, err))
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETLINK, ARPHRDCAN); err != nil {
		return fail(fmt.Errorf("set link type of %s: %w", name, err))
	}
	if err := setUpCAN(name); err != nil {
		return fail(err)
	}
	// Only now: a TUN file that is not attached yet would end in the runtime's poller as broken.
	return &TUN{name: name, f: os.NewFile(uintptr(fd), "/dev/net/tun")}, nil
}

func setUpCAN(name string) error {
	links, err := DialLinks()
	if err != nil {
		return err
	}
	l, err := links.ByName(name)
	if err == nil {
		err = errors.Join(
			links.SetMTU(l.Index, CANFDMTU),
			links.SetTxQueueLen(l.Index, tunQueue),
			links.SetUp(l.Index),
		)
	}
	return errors.Join(err, links.Close())
}

// TUNFromFile is the other end of [TUN.File]: it takes over a device's file, which for example a parent process
// has passed on. name is for messages.
func TUNFromFile(f *os.File, name string) *TUN { return &TUN{name: name, f: f} }

// File returns the device's file, so that a child process can be the other end of the bus. Whoever reads a
// frame takes it from the others. The file belongs to t.
func (t *TUN) File() *os.File { return t.f }

// Name returns the interface's name.
func (t *TUN) Name() string { return t.name }

// WriteFrame makes the interface receive frame, which is any bytes, with an Ethernet protocol number such as
// EthPCANFD in host byte order. The kernel has judged and delivered it when WriteFrame returns.
func (t *TUN) WriteFrame(protocol uint16, frame []byte) error {
	if len(frame) > TUNMaxFrame {
		return fmt.Errorf("write frame of %d bytes to %s: %w", len(frame), t.name, ErrFrameSize)
	}
	t.write.Lock()
	defer t.write.Unlock()
	buf := t.write.buf[:tunPI+len(frame)]
	binary.BigEndian.PutUint16(buf[2:], protocol)
	copy(buf[tunPI:], frame)
	if _, err := t.f.Write(buf); err != nil {
		return fmt.Errorf("write frame to %s: %w", t.name, err)
	}
	return nil
}

// WriteCAN is WriteFrame for a classic (size CANMTU) or CAN FD (size CANFDMTU) frame.
func (t *TUN) WriteCAN(f *CANFrame, size int) error {
	switch size {
	case CANMTU:
		return t.WriteFrame(EthPCAN, f.view(CANMTU))
	case CANFDMTU:
		return t.WriteFrame(EthPCANFD, f.view(CANFDMTU))
	default:
		return fmt.Errorf("write CAN frame of %d bytes to %s: %w", size, t.name, ErrFrameSize)
	}
}

// ReadFrame waits for a frame that is sent on the interface, copies it to buf and returns its protocol number
// and length. A frame longer than buf is lost with ErrFrameSize. It ends with os.ErrDeadlineExceeded
// at the read deadline if there is none, and with os.ErrClosed after Close.
func (t *TUN) ReadFrame(buf []byte) (protocol uint16, n int, err error) {
	t.read.Lock()
	defer t.read.Unlock()
	n, err = t.f.Read(t.read.buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = t.readNow(err)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read frame from %s: %w", t.name, err)
	}
	if n < tunPI {
		return 0, 0, fmt.Errorf("read frame from %s: %d bytes are too few: %w", t.name, n, ErrFrameSize)
	}
	frame := t.read.buf[tunPI:n]
	if len(frame) > len(buf) {
		return 0, 0, fmt.Errorf("read frame from %s: %d bytes into %d: %w", t.name, len(frame), len(buf), ErrFrameSize)
	}
	return binary.BigEndian.Uint16(t.read.buf[2:]), copy(buf, frame), nil
}

// readNow reads what is there. A file whose deadline has passed before the read began says so without a look, and whoever takes that
// for an empty queue loses what is in it. none is what it returns if there is nothing.
func (t *TUN) readNow(none error) (n int, err error) {
	raw, err := t.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { n, inner = unix.Read(int(fd), t.read.buf[:]) }); err != nil {
		return 0, err
	}
	if errors.Is(inner, unix.EAGAIN) || errors.Is(inner, unix.EINTR) {
		return 0, none
	}
	return n, inner
}

// ReadCAN waits for a classic or CAN FD frame that is sent on the interface and returns its size, CANMTU or
// CANFDMTU. What is neither (IPv6 likes to greet every interface) is skipped.
func (t *TUN) ReadCAN(f *CANFrame) (size int, err error) {
	var buf [TUNMaxFrame]byte
	for {
		protocol, n, err := t.ReadFrame(buf[:])
		if err != nil {
			return 0, err
		}
		if protocol == EthPCAN && n == CANMTU || protocol == EthPCANFD && n == CANFDMTU {
			*f = CANFrame{}
			return copy((*[CANFDMTU]byte)(unsafe.Pointer(f))[:], buf[:n]), nil
		}
	}
}

// SetReadDeadline ends reads at that time; the zero time never does.
func (t *TUN) SetReadDeadline(deadline time.Time) error { return t.f.SetReadDeadline(deadline) }

// Close ends the device and all reads and writes on it.
func (t *TUN) Close() error { return t.f.Close() }
