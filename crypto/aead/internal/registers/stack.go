// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package registers

// StackSize is how much of the stack below its caller PaintStack and DumpStack reach.
const StackSize = 2048

// Paint is what PaintStack writes into each word.
const Paint = 0x5a5a5a5a5a5a5a5a

// PaintStack fills the stack below its caller. The stack does not grow for a DumpStack from the same place.
func PaintStack()

// DumpStack stores what lies on the stack below its caller.
//
//go:noescape
func DumpStack(to *[StackSize]byte)
