// SPDX-License-Identifier: Apache-2.0

package aead

// The names of the engines, as they appear in options, status and metrics.
const (
	NameVAES512 = "vaes512" // amd64: AVX-512 with VAES and VPCLMULQDQ
	NameVAES256 = "vaes256" // amd64: AVX2 with VAES and VPCLMULQDQ
	NameAESNI   = "aesni"   // amd64: AES-NI and PCLMULQDQ
	NameAESE    = "aese"    // arm64: AES and PMULL
	NameStd     = "std"     // crypto/aes and crypto/cipher, everywhere
)
