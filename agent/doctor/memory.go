// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

func memoryLocked(x *exam) {
	l, err := x.m.Limit(unix.RLIMIT_MEMLOCK)
	if err != nil {
		x.unknown("", err, "ulimit -l")
		return
	}
	switch {
	case l.Max == unix.RLIM_INFINITY:
		x.ok("", "no limit")
	case x.capsKnown && x.has(unix.CAP_IPC_LOCK):
		x.ok("", "the limit of %d KiB does not bind this process (CAP_IPC_LOCK)", l.Cur>>10)
	case x.capsKnown && x.has(unix.CAP_SYS_RESOURCE):
		x.ok("", "the limit is %d KiB, and the agent may lift it", l.Cur>>10)
	default:
		x.warn("", fmt.Sprintf("the limit of locked memory is %d KiB and cannot be lifted", l.Cur>>10), "the agent's memory stays where it can be swapped out, keys included",
			"systemctl edit cellward  # [Service] LimitMEMLOCK=infinity")
	}
}

func memorySwap(x *exam) {
	b, err := x.m.ReadFile("/proc/swaps")
	if err != nil {
		x.unknown("", err, "cat /proc/swaps")
		return
	}
	var devices []string
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 0 { // the first line is a heading
			devices = append(devices, f[0])
		}
	}
	// Compressed memory is memory.
	var disks []string
	for _, d := range devices {
		if !strings.HasPrefix(d, "/dev/zram") {
			disks = append(disks, d)
		}
	}
	switch {
	case len(devices) == 0:
		x.ok("", "there is none")
	case len(disks) == 0:
		x.ok("", "in memory only: %s", strings.Join(devices, ", "))
	default:
		x.warn("", "swap is on: "+strings.Join(disks, ", "), "what the agent could not lock, and what readers hold, may be written there", "swapoff -a")
	}
}

func memoryCore(x *exam) {
	l, err := x.m.Limit(unix.RLIMIT_CORE)
	if err != nil {
		x.unknown("", err, "ulimit -c")
		return
	}
	b, err := x.m.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		x.unknown("", err, "cat /proc/sys/kernel/core_pattern")
		return
	}
	pattern := strings.TrimSpace(string(b))
	// A handler behind a pipe gets cores whatever the limit is.
	if strings.HasPrefix(pattern, "|") {
		x.ok("", "the agent makes none; those of readers go to %s", strings.Fields(pattern[1:] + " -")[0])
		return
	}
	if l.Cur == 0 {
		x.ok("", "the agent makes none, and the limit is 0")
		return
	}
	x.warn("", fmt.Sprintf("core files are written to %q", pattern), "the agent makes none, but one of a reader has verified samples in it", "ulimit -c 0")
}
