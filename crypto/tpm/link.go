// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// responseMax is TPM_BUFSIZE of the kernel's TPM driver and above
// MAX_RESPONSE_SIZE of any TPM.
const responseMax = 4096

// responseHeader is tag, size and code: TPM 2.0 Part 1, 18.
const responseHeader = 10

// A link carries whole commands and responses. The owner goroutine is its only
// user.
type link interface {
	// begin is called before the first command of an operation.
	begin() error
	// exchange sends one command and returns the whole response.
	exchange(command []byte) ([]byte, error)
	// end is called after the last command of an operation.
	end()
	// managed reports whether a resource manager stands behind the link: it
	// virtualises handles and flushes those of a client that dies.
	managed() bool
	close() error
}

// openLink chooses the link by path: "unix:" and a socket of swtpm, or a
// character device.
func openLink(path string, timeout time.Duration) (link, error) {
	if socket, ok := strings.CutPrefix(path, "unix:"); ok {
		return &socketLink{path: socket, timeout: timeout}, nil
	}
	d := &deviceLink{path: path, timeout: timeout, fd: -1}
	if err := d.begin(); err != nil {
		return nil, err
	}
	return d, nil
}

// checkResponse refuses what go-tpm must not be handed: its parser trusts the
// size field. Tags: TPM_ST_NO_SESSIONS and TPM_ST_SESSIONS; a TPM 1.2 answers
// 0x00C4.
func checkResponse(b []byte) error {
	if len(b) < responseHeader {
		return fmt.Errorf("%w: %d bytes", ErrProtocol, len(b))
	}
	tag := binary.BigEndian.Uint16(b)
	if tag == 0x00C4 {
		return fmt.Errorf("%w: it answers as a TPM 1.2", ErrNotTPM2)
	}
	if tag != 0x8001 && tag != 0x8002 {
		return fmt.Errorf("%w: tag 0x%04X", ErrProtocol, tag)
	}
	if size := binary.BigEndian.Uint32(b[2:]); size != uint32(len(b)) {
		return fmt.Errorf("%w: %d bytes, header says %d", ErrProtocol, len(b), size)
	}
	return nil
}

// openError names the reason why a path could not be opened.
func openError(err error) error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENODEV),
		errors.Is(err, unix.ENXIO), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	return err
}

// socketLink speaks to swtpm. It holds the connection for one operation at a
// time: swtpm serves one connection after the other, so several processes can
// share an emulator without seeing each other's handles in use.
type socketLink struct {
	path    string
	timeout time.Duration
	conn    net.Conn
}

func (l *socketLink) begin() error {
	if l.conn != nil {
		return nil
	}
	info, err := os.Stat(l.path)
	if err != nil {
		return openError(err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%w: %s is no socket", ErrNotTPM2, l.path)
	}
	conn, err := net.DialTimeout("unix", l.path, l.timeout)
	if err != nil {
		return openError(err)
	}
	l.conn = conn
	return nil
}

func (l *socketLink) exchange(command []byte) ([]byte, error) {
	if l.conn == nil {
		return nil, ErrAbsent
	}
	b, err := l.roundTrip(command)
	if err != nil {
		// The stream may hold half a response: it cannot be used again.
		l.end()
	}
	return b, err
}

func (l *socketLink) roundTrip(command []byte) ([]byte, error) {
	if err := l.conn.SetDeadline(time.Now().Add(l.timeout)); err != nil {
		return nil, err
	}
	if _, err := l.conn.Write(command); err != nil {
		return nil, l.ioError(err)
	}
	b := make([]byte, responseHeader, 512)
	if _, err := io.ReadFull(l.conn, b); err != nil {
		return nil, l.ioError(err)
	}
	size := binary.BigEndian.Uint32(b[2:])
	if size < responseHeader || size > responseMax {
		return nil, fmt.Errorf("%w: response of %d bytes", ErrProtocol, size)
	}
	b = append(b, make([]byte, size-responseHeader)...)
	if _, err := io.ReadFull(l.conn, b[responseHeader:]); err != nil {
		return nil, l.ioError(err)
	}
	return b, checkResponse(b)
}

func (l *socketLink) ioError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w (%v; another client may hold the emulator)", ErrTimeout, l.timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("%w: it closed the connection: %w", ErrAbsent, err)
	}
	return err
}

func (l *socketLink) end() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

func (l *socketLink) managed() bool { return false }

func (l *socketLink) close() error {
	l.end()
	return nil
}

// deviceLink speaks to a character device of the kernel's TPM driver: one
// write is one command, one read is one response.
type deviceLink struct {
	path    string
	timeout time.Duration
	fd      int
	open    func() (int, error) // replaced in tests
}

func (l *deviceLink) begin() error {
	if l.fd >= 0 {
		return nil
	}
	open := l.open
	if open == nil {
		open = l.openDevice
	}
	fd, err := open()
	if err != nil {
		return err
	}
	l.fd = fd
	return nil
}

func (l *deviceLink) openDevice() (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(l.path, &st); err != nil {
		return -1, openError(fmt.Errorf("open %s: %w", l.path, err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return -1, fmt.Errorf("%w: %s is no character device (a socket is written unix:PATH)", ErrNotTPM2, l.path)
	}
	// O_NONBLOCK makes the driver queue the command (since 4.20), so that a
	// TPM that hangs costs a time-out here and not a stuck thread.
	fd, err := unix.Open(l.path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, openError(fmt.Errorf("open %s: %w", l.path, err))
	}
	return fd, nil
}

func (l *deviceLink) exchange(command []byte) ([]byte, error) {
	if l.fd < 0 {
		return nil, ErrAbsent
	}
	b, err := l.roundTrip(command)
	if err != nil {
		// A response may still be on its way and would be taken for the
		// next command's; closing drops it, and the resource manager
		// flushes every handle of this descriptor.
		_ = l.close()
	}
	return b, err
}

func (l *deviceLink) roundTrip(command []byte) ([]byte, error) {
	deadline := time.Now().Add(l.timeout)
	for {
		n, err := unix.Write(l.fd, command)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, openError(fmt.Errorf("write to %s: %w", l.path, err))
		}
		if n != len(command) {
			return nil, fmt.Errorf("write to %s: %w", l.path, io.ErrShortWrite)
		}
		break
	}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, fmt.Errorf("%w (%v)", ErrTimeout, l.timeout)
		}
		fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err == unix.EINTR || (err == nil && n == 0) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("poll %s: %w", l.path, err)
		}
		b := make([]byte, responseMax)
		n, err = unix.Read(l.fd, b)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil {
			return nil, openError(fmt.Errorf("read from %s: %w", l.path, err))
		}
		b = b[:n]
		return b, checkResponse(b)
	}
}

func (l *deviceLink) end() {}

// managed: tpmrm is the kernel's in-kernel resource manager (since 4.12).
func (l *deviceLink) managed() bool { return strings.Contains(l.path, "tpmrm") }

func (l *deviceLink) close() error {
	if l.fd < 0 {
		return nil
	}
	err := unix.Close(l.fd)
	l.fd = -1
	return err
}
