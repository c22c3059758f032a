// SPDX-License-Identifier: Apache-2.0

package secretmemtest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sets of registers that ptrace(2) gives out: NT_PRSTATUS, NT_PRFPREG and NT_X86_XSTATE of the kernel's uapi/linux/elf.h.
const (
	generalRegisters = 1
	floatRegisters   = 2
	extendedState    = 0x202
)

// registerRoom is more than any processor's registers take: 8 KiB of AMX tiles and what comes before them.
const registerRoom = 64 << 10

// registers are those of one thread, all sets of them.
type registers struct {
	thread int
	b      []byte
}

// stopped calls f while all threads of a process are stopped (PTRACE_SEIZE), with their registers, and lets them go on.
func stopped(pid int, f func([]registers) error) (err error) {
	// ptrace(2) goes by thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	held := make(map[int]bool)
	defer func() {
		for tid := range held {
			if e := unix.PtraceDetach(tid); e != nil && !errors.Is(e, unix.ESRCH) {
				err = errors.Join(err, fmt.Errorf("let thread %d go on: %w", tid, e))
			}
		}
	}()
	// A thread that still runs may make others: until a look finds no new one.
	for found := true; found; {
		found = false
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("list threads of process %d: %w", pid, err)
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || held[tid] {
				continue
			}
			switch err := stop(tid); {
			case errors.Is(err, unix.ESRCH): // has ended
			case err != nil:
				return fmt.Errorf("stop thread %d of process %d: %w", tid, pid, err)
			default:
				held[tid], found = true, true
			}
		}
	}
	if len(held) == 0 {
		return fmt.Errorf("stop process %d: it has no threads", pid)
	}
	var all []registers
	for tid := range held {
		r := registers{thread: tid}
		for _, set := range registerSets {
			b, err := registerSet(tid, set)
			if err != nil {
				return fmt.Errorf("read registers %#x of thread %d: %w", set, tid, err)
			}
			r.b = append(r.b, b...)
		}
		all = append(all, r)
	}
	return f(all)
}

func stop(tid int) error {
	if err := unix.PtraceSeize(tid); err != nil {
		return err
	}
	if err := unix.PtraceInterrupt(tid); err != nil {
		return err
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(tid, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case status.Stopped():
			return nil
		default:
			return unix.ESRCH
		}
	}
}

func registerSet(tid, set int) ([]byte, error) {
	b := make([]byte, registerRoom)
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(tid), uintptr(set), uintptr(unsafe.Pointer(&v)), 0, 0); e != 0 {
		return nil, e
	}
	return b[:v.Len], nil
}
