// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

func (x *exam) has(capability int) bool { return !x.capsKnown || x.caps&(1<<capability) != 0 }

// mayLoad reports whether this process may load the filter: CAP_SYS_ADMIN stands in for the two younger ones.
func (x *exam) mayLoad() bool {
	return x.has(unix.CAP_NET_ADMIN) && (x.has(unix.CAP_SYS_ADMIN) || x.has(unix.CAP_BPF) && x.has(unix.CAP_PERFMON))
}

func processCapabilities(x *exam) {
	caps, err := x.m.Capabilities()
	if err != nil {
		x.unknown("", err, "grep Cap /proc/self/status")
		return
	}
	x.caps, x.capsKnown = caps, true
	const grant = "setcap cap_bpf,cap_perfmon,cap_net_admin,cap_sys_admin,cap_sys_resource,cap_ipc_lock+ep $(command -v cellward)"
	var missing []string
	for _, c := range []struct {
		name       string
		capability int
	}{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_BPF", unix.CAP_BPF}, {"CAP_PERFMON", unix.CAP_PERFMON}} {
		if !x.has(c.capability) && (c.capability == unix.CAP_NET_ADMIN || !x.has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, c.name)
		}
	}
	switch {
	case len(missing) > 0:
		x.fail("", "this process lacks "+strings.Join(missing, ", "), "run as this user, the agent cannot load or attach the filter", x.asRoot())
	case !x.has(unix.CAP_SYS_ADMIN):
		x.warn("", "this process lacks CAP_SYS_ADMIN", "run as this user, the agent can neither mount a bpffs nor replace the filter of an earlier run", grant)
	default:
		x.ok("", "CAP_NET_ADMIN, CAP_SYS_ADMIN and what else the agent needs")
	}
}

// needs says that a probe was not made for want of capabilities.
func (x *exam) needs(what string) {
	x.unknown("", fmt.Errorf("this process lacks %s", what), x.asRoot())
}
