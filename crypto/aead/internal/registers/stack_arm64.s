// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func PaintStack()
TEXT ·PaintStack(SB), 0, $2048-0
	MOVD $0x5a5a5a5a5a5a5a5a, R0
	MOVD RSP, R1
	ADD  $8, R1 // the return address lies below
	MOVD $256, R2

paint:
	MOVD.P R0, 8(R1)
	SUBS   $1, R2
	BNE    paint
	RET

// func DumpStack(to *[2048]byte)
TEXT ·DumpStack(SB), 0, $2048-8
	MOVD to+0(FP), R3
	MOVD RSP, R1
	ADD  $8, R1
	MOVD $256, R2

dump:
	MOVD.P 8(R1), R0
	MOVD.P R0, 8(R3)
	SUBS   $1, R2
	BNE    dump
	RET
