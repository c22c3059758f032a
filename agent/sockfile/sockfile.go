// SPDX-License-Identifier: Apache-2.0

// Package sockfile makes files of sockets that another process, or another server in this one, goes on with. It may import nothing of the
// project.
package sockfile

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dup returns a file with a descriptor of its own for the socket of conn. The caller closes it.
//
// Unlike that of net.UnixListener.File and its like, the file's Fd leaves the socket as it is. Theirs makes it a blocking one, for all who
// share it: a goroutine that is about to accept or read from it then sits in the system call, and no Close ends that.
func Dup(conn syscall.Conn, name string) (*os.File, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("duplicate socket %s: %w", name, err)
	}
	var fd int
	var inner error
	err = raw.Control(func(old uintptr) { fd, inner = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = inner
	}
	if err != nil {
		return nil, fmt.Errorf("duplicate socket %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
