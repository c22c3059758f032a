// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cilium/ebpf"
)

// kernelRelease only names the kernel: what it can do is found out by the other checks, because vendors carry features back
// and leave them out.
func kernelRelease(x *exam) {
	release, arch, err := x.m.Release()
	if err != nil {
		x.unknown("", err, "uname -a")
		return
	}
	x.ok("", "Linux %s on %s", release, arch)
}

func kernelFilter(x *exam) {
	if !x.mayLoad() {
		x.needs("the capabilities to load programs")
		return
	}
	p, err := x.m.LoadFilter()
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		x.fail("", "the kernel does not take the filter: "+first, "the agent does not start",
			"zgrep -E 'CONFIG_(BPF|BPF_SYSCALL|BPF_JIT|NET_XGRESS|NET_CLS_ACT)=' /proc/config.gz")
		return
	}
	x.filter = &p
	x.ok("", "loaded and let go again, %d instructions verified, tag %s", p.Instructions, p.Tag)
}

func kernelJIT(x *exam) {
	switch {
	case x.filter == nil:
	case x.filter.JITed:
		x.ok("", "the filter is compiled")
	default:
		x.warn("", "the filter is interpreted", "each frame costs several times as much, and the interpreter widens what speculation attacks can reach",
			"sysctl -w net.core.bpf_jit_enable=1")
	}
}

func kernelTCX(x *exam) {
	if !x.mayLoad() {
		x.needs("the capabilities to load programs")
		return
	}
	switch err := x.m.TryTCX(); {
	case err == nil:
		x.ok("", "tcx is there")
	case errors.Is(err, ebpf.ErrNotSupported):
		x.kernelClsact()
	default:
		x.unknown("", err, x.asRoot())
	}
}

// kernelClsact looks for what the filter is attached by where there is no tcx (before Linux 6.6).
func (x *exam) kernelClsact() {
	switch err := x.m.TryClsact(); {
	case err == nil:
		x.ok("", "the kernel has no tcx; the filter is attached through clsact")
	case errors.Is(err, ebpf.ErrNotSupported):
		x.fail("", "the kernel has neither tcx nor clsact with cls_bpf", "the filter cannot be attached",
			"zgrep -E 'CONFIG_(NET_SCH_INGRESS|NET_CLS_BPF|NET_CLS_ACT)=' /proc/config.gz; modprobe -a sch_ingress cls_bpf")
	default:
		x.unknown("", err, x.asRoot())
	}
}

func kernelBTF(x *exam) {
	if x.m.Exists("/sys/kernel/btf/vmlinux") {
		x.ok("", "/sys/kernel/btf/vmlinux is there")
		return
	}
	x.warn("", "/sys/kernel/btf/vmlinux is missing", "the filter does without, but bpftool and tracers show no types of the kernel",
		"grep CONFIG_DEBUG_INFO_BTF /boot/config-$(uname -r)")
}

func kernelLockdown(x *exam) {
	b, err := x.m.ReadFile("/sys/kernel/security/lockdown")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.ok("", "not told: not built in, or securityfs is not mounted")
		return
	case err != nil:
		x.unknown("", err, "cat /sys/kernel/security/lockdown")
		return
	}
	// The mode that is set stands in brackets.
	_, rest, _ := strings.Cut(string(b), "[")
	mode, _, found := strings.Cut(rest, "]")
	switch {
	case !found:
		x.unknown("", fmt.Errorf("lockdown holds %q", b), "cat /sys/kernel/security/lockdown")
	case mode == "none":
		x.ok("", "none: root can read kernel memory, and with it the keys of every process")
	default:
		x.ok("", "%s: the filter uses nothing that it forbids", mode)
	}
}

func kernelUnprivilegedBPF(x *exam) {
	const path = "/proc/sys/kernel/unprivileged_bpf_disabled"
	b, err := x.m.ReadFile(path)
	switch value := strings.TrimSpace(string(b)); {
	case errors.Is(err, fs.ErrNotExist):
		x.ok("", "the kernel has no such switch")
	case err != nil:
		x.unknown("", err, "cat "+path)
	case value == "0":
		x.warn("", "users without rights may load BPF programs", "they can use them to read kernel memory through speculation",
			"sysctl -w kernel.unprivileged_bpf_disabled=2")
	default:
		x.ok("", "switched off (%s)", value)
	}
}
