// SPDX-License-Identifier: Apache-2.0

//go:build !linux || (!amd64 && !arm64)

package aead

// kernels returns none: this kind of machine has the engine std only.
func kernels() []kernel { return nil }
