// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/demo"
)

// listenAsManager opens a socket for what an agent tells its service manager.
func listenAsManager(t *testing.T, l *demo.Lab) (path string, manager *net.UnixConn) {
	t.Helper()
	path = filepath.Join(l.Folder(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	if err := os.Chmod(path, 0o777); err != nil { // as systemd's is
		t.Fatal(err)
	}
	return path, manager
}

// TestServiceManager listens to an agent as a service manager does: ready when the filter is attached and the sockets answer, alive
// while the loop goes round, nothing from a process that stands still, stopping at the end. By then it is another user, confined.
func TestServiceManager(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000, SoftwareEdge: true}, time.Second)
	path, manager := listenAsManager(t, l)
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000000")
	hear := func(wait time.Duration) string {
		t.Helper()
		b := make([]byte, 4096)
		if err := manager.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, err := manager.Read(b)
		if err != nil {
			return ""
		}
		return string(b[:n])
	}
	const long = 20 * time.Second

	gateway, err := l.BeginAgent()
	if err != nil {
		t.Fatal(err)
	}
	if s := hear(long); !strings.HasPrefix(s, "READY=1\nSTATUS=policy ") {
		t.Fatalf("first the manager heard %q", s)
	}
	s, err := l.Status(t.Context())
	if err != nil {
		t.Fatalf("ready, and yet no answer: %v", err)
	}
	for range 2 {
		if s := hear(long); s != "WATCHDOG=1" {
			t.Fatalf("then the manager heard %q", s)
		}
	}
	if err := unix.Kill(s.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var st unix.Siginfo
	if err := unix.Waitid(unix.P_PID, s.PID, &st, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil { // all threads stand still
		t.Fatal(err)
	}
	for hear(10*time.Millisecond) != "" { // what was sent before
	}
	if s := hear(2500 * time.Millisecond); s != "" {
		t.Errorf("from a process that stands still the manager heard %q", s)
	}
	if err := unix.Kill(s.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if s := hear(long); s != "WATCHDOG=1" {
		t.Errorf("from a process that goes on the manager heard %q", s)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for s := hear(10 * time.Millisecond); s != ""; s = hear(10 * time.Millisecond) {
		last = s
	}
	if last != "STOPPING=1" {
		t.Errorf("at last the manager heard %q", last)
	}
}
