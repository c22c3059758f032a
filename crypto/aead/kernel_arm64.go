// SPDX-License-Identifier: Apache-2.0

//go:build linux

package aead

import "golang.org/x/sys/cpu"

// kernels returns the side-by-side kernels that this CPU can run.
func kernels() []kernel {
	if !cpu.ARM64.HasAES || !cpu.ARM64.HasPMULL {
		return nil
	}
	return []kernel{{
		name: NameAESE, expand: expandARM64,
		lanes: 2, open: openAESE, seal: sealAESE, tag: tagAESE, crypt: cryptAESE,
	}}
}

//go:noescape
func expandARM64(slot *keySlot, key *[KeySize]byte, iv *[IVSize]byte)

//go:noescape
func openAESE(ops *Op, groups int, aside *aside) (done, accepted int)

//go:noescape
func sealAESE(ops *Op, groups int) (done int)

//go:noescape
func tagAESE(slot *keySlot, record *byte, n int, write bool) (same bool)

//go:noescape
func cryptAESE(slot *keySlot, record *byte, n int, dst *byte)
