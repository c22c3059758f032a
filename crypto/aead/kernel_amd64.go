// SPDX-License-Identifier: Apache-2.0

//go:build linux

package aead

import "golang.org/x/sys/cpu"

// kernels returns the side-by-side kernels that this CPU can run, the fastest first.
func kernels() []kernel {
	var k []kernel
	if hasVAES512() {
		k = append(k, kernel{
			name: NameVAES512, expand: expandAMD64,
			lanes: 4, open: openVAES512, seal: sealVAES512, tag: tagVAES512, crypt: cryptAllVAES512, cryptMasked: cryptVAES512,
		})
	}
	if hasVAES256() {
		k = append(k, kernel{
			name: NameVAES256, expand: expandAMD64,
			lanes: 2, open: openVAES256, seal: sealVAES256, tag: tagVAES256, crypt: cryptVAES256,
		})
	}
	if hasAES() {
		open := openAESNI
		if cpu.X86.HasAVX {
			open = openAVX
		}
		k = append(k, kernel{
			name: NameAESNI, expand: expandAMD64,
			lanes: 2, open: open, seal: sealAESNI, tag: tagAESNI, crypt: cryptAESNI,
		})
	}
	return k
}

// hasAES says that the key expansion runs: AES-NI, PCLMULQDQ, and SSE4.1 for PINSRQ, SSSE3 for PSHUFB.
func hasAES() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3
}

// hasVAES512 asks for what the kernel uses: BW for byte masks, VL for the extensions on 128-bit registers, BMI2 for
// BZHI.
func hasVAES512() bool {
	return hasAES() && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL &&
		cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ && cpu.X86.HasBMI2 && cpu.X86.HasPOPCNT
}

// hasVAES256 reads the flags of VAES and VPCLMULQDQ itself: package cpu knows them on CPUs with AVX-512 only. It does
// say whether the operating system keeps the registers.
func hasVAES256() bool {
	const vaes, vpclmulqdq = 1 << 9, 1 << 10
	return hasAES() && cpu.X86.HasAVX && cpu.X86.HasAVX2 && cpuidVAES()&(vaes|vpclmulqdq) == vaes|vpclmulqdq
}

func cpuidVAES() (ecx uint32)

//go:noescape
func expandAMD64(slot *keySlot, key *[KeySize]byte, iv *[IVSize]byte)

//go:noescape
func openVAES512(ops *Op, groups int, aside *aside) (done, accepted int)

//go:noescape
func sealVAES512(ops *Op, groups int) (done int)

//go:noescape
func tagVAES512(slot *keySlot, record *byte, n int, write bool) (same bool)

//go:noescape
func cryptVAES512(slot *keySlot, record *byte, n int, dst *byte, keep uint64)

func cryptAllVAES512(slot *keySlot, record *byte, n int, dst *byte) {
	cryptVAES512(slot, record, n, dst, ^uint64(0))
}

//go:noescape
func openAESNI(ops *Op, groups int, aside *aside) (done, accepted int)

//go:noescape
func openAVX(ops *Op, groups int, aside *aside) (done, accepted int)

//go:noescape
func sealAESNI(ops *Op, groups int) (done int)

//go:noescape
func tagAESNI(slot *keySlot, record *byte, n int, write bool) (same bool)

//go:noescape
func cryptAESNI(slot *keySlot, record *byte, n int, dst *byte)

//go:noescape
func openVAES256(ops *Op, groups int, aside *aside) (done, accepted int)

//go:noescape
func sealVAES256(ops *Op, groups int) (done int)

//go:noescape
func tagVAES256(slot *keySlot, record *byte, n int, write bool) (same bool)

//go:noescape
func cryptVAES256(slot *keySlot, record *byte, n int, dst *byte)
