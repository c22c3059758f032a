// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"

	"golang.org/x/sys/unix"
)

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
