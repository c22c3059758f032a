// SPDX-License-Identifier: Apache-2.0

// Package guest boots Debian's kernels in QEMU and runs a program in them: packages come from the machine's own Debian mirror
// into a cache folder, the initramfs is made here, and the program's output and exit code come back over a virtio console
// port. Machines are emulated (TCG), so that no virtualisation is needed and no time taken in a guest means anything.
//
// It may import crypto/tpm/swtpm and test/guest/wire, and nothing else of this module.
package guest
