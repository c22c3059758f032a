// SPDX-License-Identifier: Apache-2.0

// Package registers shows tests what a kernel has left in the vector registers and on the stack.
//
// It imports nothing of this module.
package registers
