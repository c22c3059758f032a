// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func PaintStack()
TEXT ·PaintStack(SB), 0, $2048-0
	MOVQ $0x5a5a5a5a5a5a5a5a, AX
	MOVQ SP, DI
	MOVQ $256, CX

paint:
	MOVQ AX, (DI)
	ADDQ $8, DI
	DECQ CX
	JNZ  paint
	RET

// func DumpStack(to *[2048]byte)
TEXT ·DumpStack(SB), 0, $2048-8
	MOVQ to+0(FP), BX
	MOVQ SP, DI
	MOVQ $256, CX

dump:
	MOVQ (DI), AX
	MOVQ AX, (BX)
	ADDQ $8, DI
	ADDQ $8, BX
	DECQ CX
	JNZ  dump
	RET
