// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"regexp"
)

// Kernel is one of Debian's kernels, with the release that it is of; programs of that release run on it.
type Kernel struct {
	Version string // for example "6.12": the kernel's package is the newest of that series
	Arch    string // as Debian calls it, and Go as well
	Release string // code name
}

// Kernels lists the kernels that the tests run on.
func Kernels() []Kernel {
	return []Kernel{
		{Version: "6.1", Arch: "amd64", Release: "bookworm"},
		{Version: "6.12", Arch: "amd64", Release: "trixie"},
		{Version: "6.12", Arch: "arm64", Release: "trixie"},
	}
}

// String returns version and architecture, such as "6.12-arm64".
func (k Kernel) String() string { return k.Version + "-" + k.Arch }

// metaPackage names the package that depends on the newest kernel of a release.
func (k Kernel) metaPackage() string { return "linux-image-" + k.Arch }

// isImage reports whether a package is this kernel: not one for cloud machines or real time, which leave modules out or are
// built otherwise, and not debugging symbols.
func (k Kernel) isImage(name string) bool {
	return regexp.MustCompile(`^linux-image-`+regexp.QuoteMeta(k.Version)+`\.[0-9.+a-z-]*-`+k.Arch+`$`).MatchString(name) &&
		!regexp.MustCompile(`-(cloud|rt)-`).MatchString(name)
}

// arch is what differs between architectures.
type arch struct {
	triplet string   // of the GNU tool chain: libraries lie in folders of this name
	qemu    string   // QEMU's program
	machine []string // its arguments
	console string   // the serial console's device
	options string   // further parameters of the kernel
	// virtualTPM says that the kernel has no driver for a TPM that QEMU can emulate; init makes one with tpm_vtpm_proxy.
	virtualTPM bool
}

func archOf(name string) (arch, error) {
	switch name {
	case "amd64":
		// An emulator speculates on nothing, and pays for every indirect jump and every level of page tables. What the eBPF verifier
		// does against speculation stays as it is: that hangs on mitigations=off alone.
		return arch{triplet: "x86_64-linux-gnu", qemu: "qemu-system-x86_64", machine: []string{"-M", "q35", "-cpu", "max"}, console: "ttyS0",
			options: "spectre_v2=off retbleed=off no5lvl"}, nil
	case "arm64":
		// The architected algorithm of pointer authentication takes most of an emulator's time.
		return arch{triplet: "aarch64-linux-gnu", qemu: "qemu-system-aarch64", machine: []string{"-M", "virt", "-cpu", "max,pauth-impdef=on"},
			console: "ttyAMA0", virtualTPM: true}, nil
	default:
		return arch{}, fmt.Errorf("no guests of architecture %q", name)
	}
}
