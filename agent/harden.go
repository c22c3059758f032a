// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LockMemory keeps the pages of this process in RAM (mlockall(2)), those that it will use later as well: round keys and
// secrets must not reach a swap device. Pages count when they are first touched, so what Go has only reserved costs nothing.
// It needs CAP_IPC_LOCK or a sufficient RLIMIT_MEMLOCK; with less, later allocations would fail, so it asks first.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("read limit of locked memory: %w", err)
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if limit.Cur != unix.RLIM_INFINITY {
		err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited)
		if err != nil && !mayLock() {
			return fmt.Errorf("lift limit of locked memory: %w", err)
		}
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}

// Harden keeps secrets of this process out of core dumps and out of reach of other processes of the same user: the process
// is not dumpable (prctl(2) PR_SET_DUMPABLE, which also refuses ptrace), and its core limit is zero. Every verb that
// handles keys calls it first.
func Harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make process not dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set core limit to zero: %w", err)
	}
	return nil
}

// mayLock says that the process has CAP_IPC_LOCK, for which the limit does not count.
func mayLock() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[unix.CAP_IPC_LOCK/32].Effective&(1<<(unix.CAP_IPC_LOCK%32)) != 0
}
