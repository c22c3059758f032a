// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func prefetch(first unsafe.Pointer, stride uintptr, n int)
TEXT ·prefetch(SB), NOSPLIT, $0-24
	MOVD first+0(FP), R0
	MOVD stride+8(FP), R1
	MOVD n+16(FP), R2

next:
	PRFM (R0), PSTL1KEEP
	ADD  R1, R0, R0
	SUBS $1, R2, R2
	BGT  next
	RET
