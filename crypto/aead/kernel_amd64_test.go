// SPDX-License-Identifier: Apache-2.0

//go:build linux

package aead

import "golang.org/x/sys/cpu"

// otherKernels are those that this CPU can run but does not need: aesni as it is without AVX.
func otherKernels() []kernel {
	if !hasAES() || !cpu.X86.HasAVX {
		return nil
	}
	return []kernel{{
		name: NameAESNI, expand: expandAMD64,
		lanes: 2, open: openAESNI, seal: sealAESNI, tag: tagAESNI, crypt: cryptAESNI,
	}}
}

// maskedWords is how long the words are that the kernels of kernels store under masks, in bytes; 0: they store aside.
func maskedWords(name string) int {
	switch name {
	case NameVAES512:
		return 1
	case NameVAES256:
		return 8
	case NameAESNI:
		if cpu.X86.HasAVX {
			return 4
		}
	}
	return 0
}
