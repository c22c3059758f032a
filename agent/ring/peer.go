// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer is who connected, as the kernel recorded it at connect(2); the other side cannot choose it.
type peer struct {
	uid, gid uint32
	groups   []uint32 // supplementary
}

// peerOf asks the kernel for the credentials of a connection: SO_PEERCRED for user and primary group, SO_PEERGROUPS
// (Linux 4.13) for the supplementary groups, which SO_PEERCRED does not carry.
func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("get peer credentials: %w", err)
	}
	var p peer
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		p.uid, p.gid = cred.Uid, cred.Gid
		p.groups, inner = peerGroups(int(fd))
	})
	if err = errors.Join(err, inner); err != nil {
		return peer{}, fmt.Errorf("get peer credentials: %w", err)
	}
	return p, nil
}

func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		length := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&length)), 0)
		switch {
		case errno == 0:
			return groups[:length/4], nil
		case errno == unix.ERANGE && int(length) > len(groups)*4: // the kernel says how much it needs
			groups = make([]uint32, length/4)
		default:
			return nil, errno
		}
	}
}

// allowed reports whether the peer may read the ring: root, the user of this process, or a member of the group. Group 0
// means that no group was configured.
func (p peer) allowed(group uint32) bool {
	if p.uid == 0 || p.uid == uint32(os.Geteuid()) {
		return true
	}
	if group == 0 {
		return false
	}
	if p.gid == group {
		return true
	}
	for _, g := range p.groups {
		if g == group {
			return true
		}
	}
	return false
}
