// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func prefetch(first unsafe.Pointer, stride uintptr, n int)
//
// PREFETCHW is a no-operation on the few CPUs that do not have it.
TEXT ·prefetch(SB), NOSPLIT, $0-24
	MOVQ first+0(FP), AX
	MOVQ stride+8(FP), BX
	MOVQ n+16(FP), CX

next:
	BYTE $0x0f; BYTE $0x0d; BYTE $0x08 // PREFETCHW (AX)
	ADDQ BX, AX
	DECQ CX
	JGT  next
	RET
