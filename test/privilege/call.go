// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/privilege"
)

// calls are system calls that an agent in service must not make, each in a form that the kernel would let root make. A call that comes
// through returns nil.
func calls() map[string]func() error {
	raw := func(trap uintptr, args ...uintptr) func() error {
		var a [6]uintptr
		copy(a[:], args)
		return func() error {
			if _, _, e := unix.RawSyscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
				return e
			}
			return nil
		}
	}
	program := [2][]byte{append([]byte("/proc/self/exe"), 0), append([]byte("/"), 0)}
	at := func(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
	return map[string]func() error{
		// Refused.
		"socket of the internet": func() error { return try(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)) },
		"socket of packets":      func() error { return try(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)) },
		"executable memory": func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			return err
		},
		"memory made executable": func() error {
			b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			return errors.Join(err, unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC))
		},
		"process": raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD)),
		"signal":  func() error { return unix.Kill(os.Getppid(), 0) },
		"limit": func() error {
			return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
		},
		"dumpable":        func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
		"device":          func() error { return try(unix.IoctlGetInt(0, unix.TCGETS)) },
		"link":            func() error { return unix.Symlinkat("x", unix.AT_FDCWD, "/proc/x") },
		"inotify":         func() error { return try(unix.InotifyInit1(0)) },
		"another process": func() error { return try(unix.PidfdOpen(1, 0)) },
		// Deadly.
		"execve":            raw(unix.SYS_EXECVE, at(program[0]), 0, 0),
		"ptrace":            raw(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
		"process_vm_readv":  raw(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid())),
		"process_vm_writev": raw(unix.SYS_PROCESS_VM_WRITEV, uintptr(os.Getpid())),
		"finit_module":      raw(unix.SYS_FINIT_MODULE, ^uintptr(0)),
		"keyctl":            raw(unix.SYS_KEYCTL),
		"mount":             raw(unix.SYS_MOUNT),
		"unshare":           raw(unix.SYS_UNSHARE),
		"setns":             raw(unix.SYS_SETNS, ^uintptr(0)),
		"chroot":            raw(unix.SYS_CHROOT, at(program[1])),
		"setresuid":         raw(unix.SYS_SETRESUID, 0, 0, 0),
		"capset":            raw(unix.SYS_CAPSET),
		"io_uring_setup":    raw(unix.SYS_IO_URING_SETUP),
		"userfaultfd":       raw(unix.SYS_USERFAULTFD),
		"perf_event_open":   raw(unix.SYS_PERF_EVENT_OPEN),
		"reboot":            raw(unix.SYS_REBOOT), // without its magic numbers it does nothing
	}
}

func try[T any](_ T, err error) error { return err }

// tryCall installs the agent's filter and makes a call. It prints what the kernel said.
func tryCall(name string, seccomp privilege.Enforcement) error {
	call, ok := calls()[name]
	if !ok {
		return fmt.Errorf("there is no call %q", name)
	}
	if err := privilege.Confine(privilege.AgentProfile(), seccomp); err != nil {
		return err
	}
	var e unix.Errno
	switch err := call(); {
	case err == nil:
		fmt.Println("done")
	case errors.As(err, &e):
		fmt.Println(unix.ErrnoName(e))
	default:
		return err
	}
	return nil
}
