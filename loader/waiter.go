// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrWoken says that a wait was ended by Wake.
var ErrWoken = errors.New("woken")

// waiter waits until a file descriptor is readable, a deadline has passed, or somebody wakes it.
type waiter struct {
	epoll, event int
	events       [8]unix.EpollEvent
}

func newWaiter(fds ...int) (w *waiter, err error) {
	w = &waiter{epoll: -1, event: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return w, fmt.Errorf("create epoll: %w", err)
	}
	if w.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return w, fmt.Errorf("create eventfd: %w", err)
	}
	for _, fd := range append([]int{w.event}, fds...) {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return w, fmt.Errorf("add file descriptor to epoll: %w", err)
		}
	}
	return w, nil
}

// wait returns nil when a file descriptor is readable, ErrWoken, or os.ErrDeadlineExceeded. A zero deadline
// never passes. For one goroutine.
func (w *waiter) wait(deadline time.Time) error {
	for {
		timeout := -1
		if !deadline.IsZero() {
			// Rounded up: never back before the deadline, at most a millisecond behind it.
			left := (time.Until(deadline) + time.Millisecond - 1) / time.Millisecond
			timeout = int(min(max(left, 0), math.MaxInt32))
		}
		n, err := unix.EpollWait(w.epoll, w.events[:], timeout)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait on epoll: %w", err)
		}
		if n == 0 {
			return os.ErrDeadlineExceeded
		}
		for _, e := range w.events[:n] {
			if int(e.Fd) == w.event {
				var count [8]byte
				_, _ = unix.Read(w.event, count[:]) // empties it; EAGAIN would be as good
				return ErrWoken
			}
		}
		return nil
	}
}

// wake ends the wait of another goroutine, or its next one. For any goroutine, until close.
func (w *waiter) wake() {
	_, _ = unix.Write(w.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only if it is full of wakes already
}

func (w *waiter) close() error {
	var errs []error
	for _, fd := range []int{w.epoll, w.event} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	w.epoll, w.event = -1, -1
	return errors.Join(errs...)
}
