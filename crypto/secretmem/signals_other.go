// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package secretmem

// overwriteSignalStacks does nothing: where signals leave registers is known for Linux only.
func overwriteSignalStacks() {}
