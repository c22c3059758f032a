// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/loader"
)

// StackTap stands where the CAN stack stands: behind the filter, on packet sockets bound to one CAN protocol each. It counts
// what reaches it.
type StackTap struct {
	protected map[target]bool
	fds       []int
	stop      atomic.Bool
	wg        sync.WaitGroup

	errorFrames     atomic.Uint64
	protectedFrames atomic.Uint64
}

// TapStack opens the sockets on the gateway's interfaces.
func (l *Lab) TapStack() (*StackTap, error) { return tapStack(l.Buses, l.protected()) }

// ErrorFrames returns how many CAN error frames have come through.
func (s *StackTap) ErrorFrames() uint64 { return s.errorFrames.Load() }

// ProtectedFrames returns how many frames on protected identifiers have come through, which must be none.
func (s *StackTap) ProtectedFrames() uint64 { return s.protectedFrames.Load() }

func tapStack(buses []*Bus, protected []target) (*StackTap, error) {
	s := &StackTap{protected: make(map[target]bool)}
	for _, t := range protected {
		s.protected[t] = true
	}
	for i, b := range buses {
		for _, proto := range []uint16{loader.EthPCAN, loader.EthPCANFD} {
			fd, err := packetSocket(b.Name, proto)
			if err != nil {
				return nil, errors.Join(err, s.close())
			}
			s.fds = append(s.fds, fd)
			s.wg.Go(func() { s.count(i, fd) })
		}
	}
	return s, nil
}

func packetSocket(iface string, proto uint16) (int, error) {
	links, err := loader.DialLinks()
	if err != nil {
		return -1, err
	}
	l, err := links.ByName(iface)
	if err := errors.Join(err, links.Close()); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make packet socket: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(pollEvery))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return -1, errors.Join(fmt.Errorf("set timeout of packet socket: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: l.Index}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind packet socket to %s: %w", iface, err), unix.Close(fd))
	}
	return fd, nil
}

func (s *StackTap) count(bus, fd int) {
	var buf [loader.CANFDMTU]byte
	for {
		n, from, err := unix.Recvfrom(fd, buf[:], 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if s.stop.Load() {
				return
			}
			continue
		case err != nil:
			return
		case n < 4:
			continue
		}
		// A frame that the gateway itself sends is not one that came in.
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		id := uint32(buf[0]) | uint32(buf[1])<<8 | uint32(buf[2])<<16 | uint32(buf[3])<<24
		if id&loader.CANERRFlag != 0 {
			s.errorFrames.Add(1)
			continue
		}
		key := id & loader.CANSFFMask
		if id&loader.CANEFFFlag != 0 {
			key = id & (loader.CANEFFFlag | loader.CANEFFMask)
		}
		if s.protected[target{bus, key}] {
			s.protectedFrames.Add(1)
		}
	}
}

// Finish waits until the sockets are empty and closes them.
func (s *StackTap) Finish() error {
	s.stop.Store(true)
	s.wg.Wait()
	return s.close()
}

func (s *StackTap) close() error {
	var errs []error
	for _, fd := range s.fds {
		if err := unix.Close(fd); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, fmt.Errorf("close packet socket: %w", err))
		}
	}
	s.fds = nil
	return errors.Join(errs...)
}
