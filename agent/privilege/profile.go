// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// Profile says which system calls a process goes on using. Everything else is refused with EPERM, or ends the process where
// no bug but only an attacker could have made the call; see [Hostile].
type Profile struct {
	// Calls are allowed whatever their arguments are.
	Calls []string
	// Conditional are allowed with the given arguments only.
	Conditional []Call
}

// Call is a system call with conditions on its arguments, all of which must hold. A call that is listed twice is allowed by either.
type Call struct {
	Name string
	If   []seccomp.Condition
}

// Allow returns a profile that allows what p and q allow.
func (p Profile) Allow(q Profile) Profile {
	calls := slices.Concat(p.Calls, q.Calls)
	slices.Sort(calls)
	calls = slices.Compact(calls)
	conditional := slices.DeleteFunc(slices.Concat(p.Conditional, q.Conditional), func(c Call) bool {
		_, whole := slices.BinarySearch(calls, c.Name) // and then its conditions mean nothing
		return whole
	})
	return Profile{Calls: calls, Conditional: conditional}
}

// only is a condition on the low bits of an argument.
func only(name string, argument uint32, op seccomp.Operation, value uint64) Call {
	return Call{Name: name, If: []seccomp.Condition{{Argument: argument, Operation: op, Value: value}}}
}

// Runtime is what every Go program needs, and locked memory: signals, threads, timers, memory that is not executable.
func Runtime() Profile {
	return Profile{
		Calls: []string{
			// Signals, as the runtime preempts goroutines with them; restart_syscall is what a stopped nanosleep goes on as.
			"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "sigaltstack", "restart_syscall",
			// Threads and time.
			"futex", "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "nanosleep", "clock_nanosleep", "clock_gettime",
			"clock_getres", "gettimeofday", "getcpu", "exit", "exit_group",
			"getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "capget", "uname", "sysinfo", "getrandom",
			// Memory. memfd_secret(2) and mlock2(2) are for keys.
			"munmap", "mremap", "madvise", "mlock", "mlock2", "munlock", "memfd_secret", "memfd_create",
			// Files that are open.
			"read", "write", "readv", "writev", "pread64", "pwrite64", "lseek", "close", "dup", "dup3", "fcntl", "fstat",
			"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2", "ppoll", "pselect6",
		},
		Conditional: []Call{
			// No new code: nothing in this program makes any.
			only("mmap", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
			only("mprotect", 2, seccomp.BitsNotSet, unix.PROT_EXEC),
			// Threads, never processes: the kernel wants shared memory and signal handlers with this flag, and no new namespace.
			only("clone", 0, seccomp.BitsSet, unix.CLONE_THREAD),
			// A signal to itself: preemption, and how the runtime dies.
			only("tgkill", 0, seccomp.Equal, uint64(unix.Getpid())),
			// Limits are read and not set: the new limit is no pointer.
			only("prlimit64", 2, seccomp.Equal, 0),
			// Names of memory, and questions.
			only("prctl", 0, seccomp.Equal, unix.PR_SET_VMA),
			only("prctl", 0, seccomp.Equal, unix.PR_GET_DUMPABLE),
			only("prctl", 0, seccomp.Equal, unix.PR_GET_SECCOMP),
			only("prctl", 0, seccomp.Equal, unix.PR_GET_NO_NEW_PRIVS),
		},
	}
}

// Files is for state and documents: open, replace, make durable, look.
func Files() Profile {
	return Profile{Calls: []string{
		"openat", "statx", "fstatfs", "statfs", "getdents64", "readlinkat", "faccessat", "faccessat2", "getcwd",
		"mkdirat", "unlinkat", "renameat", "renameat2", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate", "flock",
	}}
}

// Modes is for the modes and groups of new sockets and of the ring. A process without capabilities changes those of its own files only.
func Modes() Profile {
	return Profile{Calls: []string{"fchmod", "fchmodat", "fchown", "fchownat"}}.Allow(nativeModes())
}

// Sockets is for sockets of the given families, their options and messages; a descriptor that is handed over goes in a message.
func Sockets(families ...uint64) Profile {
	p := Profile{Calls: []string{
		"bind", "listen", "accept4", "connect", "shutdown", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg",
		"getsockname", "getpeername", "getsockopt", "setsockopt",
	}}
	for _, f := range families {
		p.Conditional = append(p.Conditional, only("socket", 0, seccomp.Equal, f))
	}
	return p
}

// BPF is bpf(2); what may be done with it is up to CAP_BPF and the others.
func BPF() Profile { return Profile{Calls: []string{"bpf"}} }

// AgentProfile is that of a gateway's agent in service. It talks to readers, operators and swtpm over AF_UNIX and asks for interfaces
// over AF_NETLINK, and listens to the error frames of interfaces that are made anew over AF_CAN; it has no business on any other network.
func AgentProfile() Profile {
	return Runtime().Allow(native()).Allow(Files()).Allow(Modes()).Allow(Sockets(unix.AF_UNIX, unix.AF_NETLINK, unix.AF_CAN)).Allow(BPF())
}

// EdgeProfile is that of a sealing edge whose CAN sockets are open.
func EdgeProfile() Profile {
	return Runtime().Allow(native()).Allow(Files()).Allow(Sockets(unix.AF_UNIX))
}

// Hostile lists the calls that end the process: nothing in this program, its libraries or Go's runtime makes them, so whoever does
// has taken the process over, and is better stopped at once than told that it is forbidden.
func Hostile() []string {
	return []string{
		"execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
		"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
		"keyctl", "add_key", "request_key", "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig",
		"fsmount", "mount_setattr", "unshare", "setns", "swapon", "swapoff", "acct", "quotactl", "open_by_handle_at",
		"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset",
		"io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "perf_event_open", "personality",
		"settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "syslog",
	}
}
