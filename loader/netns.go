// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNetnsRights says that the process has no right to other network namespaces than its own.
var ErrNetnsRights = fmt.Errorf("CAP_SYS_ADMIN is missing: %w", unix.EPERM)

// mayChangeNetns asks before the kernel would: a process that has given up its rights may be confined, too, so that the mere
// attempt of setns(2) or unshare(2) ends it.
func mayChangeNetns() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // of the calling thread
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return ErrNetnsRights
	}
	return nil
}

// Netns is a network namespace, held open by a file. It lives as long as somebody holds it or something
// lives in it. A nil *Netns stands for the namespace of the caller. Safe for concurrent use.
type Netns struct{ f *os.File }

// NewNetns makes an empty network namespace. The caller stays where it is. Needs CAP_SYS_ADMIN.
func NewNetns() (n *Netns, err error) {
	err = onOwnThread(func() error {
		if err := mayChangeNetns(); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		n, err = OpenNetns("/proc/thread-self/ns/net")
		return err
	})
	return n, err
}

// OpenNetns opens the network namespace at path, for example /run/netns/NAME or /proc/PID/ns/net.
func OpenNetns(path string) (*Netns, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &Netns{f: f}, nil
}

// File returns the namespace's file, for setns(2), rtnetlink or a child process. It belongs to n.
func (n *Netns) File() *os.File { return n.f }

// Do runs f inside the namespace and returns its error. Sockets and files that f opens stay in the namespace;
// goroutines that it starts do not. Without CAP_SYS_ADMIN it returns ErrNetnsRights and runs nothing.
func (n *Netns) Do(f func() error) error {
	if n == nil {
		return f()
	}
	return onOwnThread(func() error {
		if err := mayChangeNetns(); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		if err := unix.Setns(int(n.f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// Close lets go of the namespace.
func (n *Netns) Close() error { return n.f.Close() }

// onOwnThread runs f on a thread that ends with it. A thread that has changed its namespaces never goes back
// to the others, so there is no way back that could fail.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread does not end: Go would park it, and /proc/PID would show whatever namespace it is in. It is
			// held here while another one does the work.
			defer runtime.UnlockOSThread()
			done <- onOwnThread(f)
			return
		}
		err := errors.New("function ended its goroutine")
		defer func() { done <- err }()
		err = f()
	}()
	return <-done
}
