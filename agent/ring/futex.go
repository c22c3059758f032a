// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From <linux/futex.h>; golang.org/x/sys/unix has the call numbers only.
const (
	futexWait       = 0
	futexWake       = 1
	futexPrivate    = 128
	futexSize32     = 2 // FUTEX_32 of struct futex_waitv
	futexWaitvCount = 2
)

// futexWaitv is struct futex_waitv of <linux/futex.h>.
type futexWaitv struct {
	val   uint64
	uaddr uint64
	flags uint32
	_     uint32
}

// wakeShared wakes every process that waits on a word of shared memory. FUTEX_WAKE never sleeps, so the raw call, which
// does not tell Go's scheduler, is right and a hundred nanoseconds cheaper.
func wakeShared(word *uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, math.MaxInt32, 0, 0, 0)
}

// wakePrivate wakes the waiters of this process on a word of its own.
func wakePrivate(word *uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake|futexPrivate, math.MaxInt32, 0, 0, 0)
}

// waiter sleeps until one of two words changes: the futex word of a ring, which only the producer writes, and a word of
// this process, with which others end the wait (cancellation, the socket's end, Close). One wait on both is what makes
// a lost wake-up impossible and polling unnecessary; futex_waitv(2) exists since Linux 5.16 and, as FUTEX_WAIT, only
// reads the words, so a read-only mapping will do.
//
// Older kernels have only the wait on one word. There the ring's word is waited for, since samples must come at once, and
// the other one is looked at every oneWordLimit.
type waiter struct {
	words   [futexWaitvCount]futexWaitv
	until   unix.Timespec
	oneWord bool
}

// oneWordLimit bounds how long a cancellation can go unnoticed on kernels before 5.16.
const oneWordLimit = 10 * time.Millisecond

// wait returns when shared or local no longer has the given value, when it is woken, or at the time limit. It may
// return early. local must lie on the heap.
func (w *waiter) wait(shared *uint32, sharedValue uint32, local *uint32, localValue uint32, limit time.Duration) error {
	if w.oneWord {
		return w.waitOne(shared, sharedValue, local, localValue, limit)
	}
	w.words[0] = futexWaitv{val: uint64(sharedValue), uaddr: uint64(uintptr(unsafe.Pointer(shared))), flags: futexSize32}
	w.words[1] = futexWaitv{val: uint64(localValue), uaddr: uint64(uintptr(unsafe.Pointer(local))), flags: futexSize32 | futexPrivate}
	// The limit is absolute, so an interrupted wait does not start over.
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &w.until); err != nil {
		return err
	}
	w.until = unix.NsecToTimespec(w.until.Nano() + int64(limit))
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX_WAITV, uintptr(unsafe.Pointer(&w.words)), futexWaitvCount, 0,
		uintptr(unsafe.Pointer(&w.until)), unix.CLOCK_MONOTONIC, 0)
	if errno == 0 || errors.Is(errno, unix.EAGAIN) || errors.Is(errno, unix.EINTR) || errors.Is(errno, unix.ETIMEDOUT) {
		return nil
	}
	if errors.Is(errno, unix.ENOSYS) {
		w.oneWord = true
		return nil
	}
	return errno
}

// waitOne is wait for kernels without futex_waitv.
func (w *waiter) waitOne(shared *uint32, sharedValue uint32, local *uint32, localValue uint32, limit time.Duration) error {
	if atomic.LoadUint32(local) != localValue {
		return nil
	}
	w.until = unix.NsecToTimespec(int64(min(limit, oneWordLimit))) // relative, unlike that of futex_waitv
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(shared)), futexWait, uintptr(sharedValue),
		uintptr(unsafe.Pointer(&w.until)), 0, 0)
	if errno == 0 || errors.Is(errno, unix.EAGAIN) || errors.Is(errno, unix.EINTR) || errors.Is(errno, unix.ETIMEDOUT) {
		return nil
	}
	return errno
}
