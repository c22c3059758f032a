// SPDX-License-Identifier: Apache-2.0

package agent

import "golang.org/x/sys/unix"

// bootTime reads CLOCK_BOOTTIME in ns. The kernel cannot refuse this clock, so there is no error to return.
func bootTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return ts.Nano()
}
