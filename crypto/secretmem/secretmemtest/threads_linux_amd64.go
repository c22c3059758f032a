// SPDX-License-Identifier: Apache-2.0

package secretmemtest

// registerSets are the general registers, and x87, SSE, AVX and AVX-512 in the layout of XSAVE.
var registerSets = [...]int{generalRegisters, extendedState}
