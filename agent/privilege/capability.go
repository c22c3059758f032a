// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Capabilities is a set of capabilities, a bit for each (capabilities(7), linux/capability.h).
type Capabilities uint64

// CapabilitySet returns the set of the given CAP_ numbers.
func CapabilitySet(numbers ...int) (c Capabilities) {
	for _, n := range numbers {
		c |= 1 << n
	}
	return c
}

// AgentCapabilities are those that a gateway's agent goes on using once its filter is attached: CAP_BPF to write maps and to make
// links, CAP_NET_ADMIN and CAP_PERFMON to load the filter and to attach it to an interface that was made anew.
func AgentCapabilities() Capabilities {
	return CapabilitySet(unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON)
}

// Has reports whether a CAP_ number is in the set.
func (c Capabilities) Has(number int) bool { return c&(1<<number) != 0 }

// names are those of linux/capability.h in the order of their numbers.
func names() []string {
	return []string{
		"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable",
		"net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot",
		"sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease",
		"audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read",
		"perfmon", "bpf", "checkpoint_restore",
	}
}

// String returns the names, ascending by number, as capabilities(7) writes them.
func (c Capabilities) String() string {
	var all []string
	for i, n := range names() {
		if c.Has(i) {
			all = append(all, "CAP_"+strings.ToUpper(n))
			c &^= 1 << i
		}
	}
	for ; c != 0; c &= c - 1 {
		all = append(all, fmt.Sprintf("capability %d", bits.TrailingZeros64(uint64(c))))
	}
	if all == nil {
		return "none"
	}
	return strings.Join(all, ", ")
}

// ParseCapabilities reads names with or without CAP_ in any case, with commas between them.
func ParseCapabilities(s string) (c Capabilities, err error) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		n := slices.Index(names(), strings.TrimPrefix(strings.ToLower(f), "cap_"))
		if n < 0 {
			return 0, fmt.Errorf("read capabilities: there is no %q", f)
		}
		c |= 1 << n
	}
	return c, nil
}

// effective returns the calling thread's effective set, which in this process is every thread's.
func effective() (Capabilities, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return Capabilities(data[0].Effective) | Capabilities(data[1].Effective)<<32, nil
}
