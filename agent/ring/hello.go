// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where the agent serves its ring.
const DefaultSocket = "/run/cellward/ring.sock"

// Answers of the server in helloLayout.Status. Only helloRing comes with a descriptor.
const (
	helloRing          = 0
	helloNotAuthorized = 1
	helloTooMany       = 2
)

// follow is the one message that a reader may send: it goes along when its producer goes on in another ring.
const follow = 'F'

func encodeHello(status uint32, generation, size uint64) []byte {
	h := helloLayout{Major: MajorVersion, Minor: MinorVersion, Status: status, Generation: generation, FileSize: size}
	copy(h.Magic[:], Magic)
	return append([]byte(nil), bytesOf(unsafe.Slice(&h, 1))...)
}

// receiveHello reads the server's one message and returns the descriptor that came with it. The caller closes it.
func receiveHello(conn *net.UnixConn) (fd int, err error) {
	var h helloLayout
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(bytesOf(unsafe.Slice(&h, 1)), oob)
	if err != nil {
		return -1, fmt.Errorf("receive the ring: %w", err)
	}
	fds, err := parseRights(oob[:oobn])
	if err != nil {
		return -1, fmt.Errorf("receive the ring: %w", err)
	}
	// Whatever is wrong below, no descriptor may be left open.
	keep := false
	defer func() {
		if !keep {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}()
	switch {
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return -1, errors.New("receive the ring: server's message is too long")
	case n < helloSize || string(h.Magic[:]) != Magic:
		return -1, fmt.Errorf("receive the ring: %d bytes that are no server's message", n)
	case h.Major != MajorVersion:
		return -1, fmt.Errorf("receive the ring: %w: %d.%d, this reader knows %d", ErrVersion, h.Major, h.Minor, MajorVersion)
	case h.Status == helloNotAuthorized:
		return -1, ErrNotAuthorized
	case h.Status == helloTooMany:
		return -1, ErrTooManyClients
	case h.Status != helloRing:
		return -1, fmt.Errorf("receive the ring: refused with status %d", h.Status)
	case len(fds) != 1:
		return -1, fmt.Errorf("receive the ring: %d descriptors instead of one", len(fds))
	}
	keep = true
	return fds[0], nil
}

func parseRights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}
