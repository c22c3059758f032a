// SPDX-License-Identifier: Apache-2.0

package sockfile

import (
	"errors"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStaysNonBlocking: whatever is done with the file, the socket never blocks, and the listener that shares it can be closed while it
// accepts.
func TestStaysNonBlocking(t *testing.T) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := l.AcceptUnix()
		accepted <- err
	}()
	f, err := Dup(l, "socket")
	if err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v: the socket blocks", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: programs that are executed inherit it", flags, err)
	}
	second, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(f.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept ended with %v", err)
	}
	if _, err := Dup(l, "socket"); err == nil {
		t.Error("a closed socket was duplicated")
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
