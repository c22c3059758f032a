// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// network is SOCK_SEQPACKET: the hello is one message however it is read, and the end of the connection is seen as on
// a stream.
const network = "unixpacket"

// listen makes the socket file under a temporary name and renames it into place when it is finished, so that there is
// never a moment at which the path is missing, has the wrong mode, or refuses connections. file describes the socket.
func listen(path string, group uint32, replace bool) (l *net.UnixListener, file fs.FileInfo, err error) {
	// A name that is left over from a crash refuses connections and is replaced; one that answers belongs to a live
	// server. Two servers that start in the same instant may both get past this: keeping a second agent away is not
	// the socket's business, this check only gives the common mistake its name.
	if !replace {
		conn, err := net.DialTimeout(network, path, time.Second)
		if err == nil {
			_ = conn.Close()
			return nil, nil, fmt.Errorf("listen on %s: %w", path, ErrInUse)
		}
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
			return nil, nil, fmt.Errorf("listen on %s: the file is no socket", path)
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // net.FileListener has a duplicate
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if most := len(unix.RawSockaddrUnix{}.Path) - 1; len(temporary) > most {
		return nil, nil, fmt.Errorf("listen on %s: the path is %d bytes too long", path, len(temporary)-most)
	}
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: temporary}); err != nil {
		return nil, nil, fmt.Errorf("listen on %s: bind: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary)
		}
	}()
	// connect(2) needs write permission on the file, and until listen(2) it is refused to everybody. Group first: a
	// change of owner after chmod could give the mode to the wrong group for a moment.
	mode := fs.FileMode(0o600)
	if group != 0 {
		mode = 0o660
		if err := os.Chown(temporary, -1, int(group)); err != nil {
			return nil, nil, fmt.Errorf("listen on %s: give the socket to group %d: %w", path, group, err)
		}
	}
	if err := os.Chmod(temporary, mode); err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := unix.Listen(fd, 64); err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	generic, err := net.FileListener(f)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	file, err = os.Lstat(temporary)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = generic.Close()
		return nil, nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return generic.(*net.UnixListener), file, nil
}

// adopt takes up a socket that listens already.
func adopt(f *os.File, path string) (*net.UnixListener, fs.FileInfo, error) {
	generic, err := net.FileListener(f)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s with the socket that was handed over: %w", path, err)
	}
	l, ok := generic.(*net.UnixListener)
	if !ok || l.Addr().Network() != network {
		return nil, nil, errors.Join(fmt.Errorf("listen on %s: what was handed over is no listening socket of this kind", path), generic.Close())
	}
	// The name that the kernel has for it is the temporary one: it is the file in its place, or one that somebody has put there.
	file, err := os.Lstat(path)
	if err == nil && file.Mode().Type() != fs.ModeSocket {
		err = errors.New("the file is no socket")
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, file, nil
}

// sameFile reports whether path still is the file that info describes. A successor may have renamed its own socket over
// ours; then the name is no longer ours to remove.
func sameFile(path string, info fs.FileInfo) bool {
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(now, info)
}
