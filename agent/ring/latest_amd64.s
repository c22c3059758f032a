// SPDX-License-Identifier: Apache-2.0

//go:build !race

#include "textflag.h"
#include "go_asm.h"

// func fillLatestAMD64(w *latestWork, newest *uint32, n int, places *place)
//
//	SI  newest, CX how many are left
//	DI  places
//	R8  slots, R9 bytes apart, R10 mask of positions, R11 the first
//	R12 latest values, R13 bytes apart
//	AX  the slot, DX the latest value, BX the marker
TEXT ·fillLatestAMD64(SB), NOSPLIT, $0-32
	MOVQ w+0(FP), AX
	MOVQ newest+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ places+24(FP), DI
	MOVQ latestWork_slots(AX), R8
	MOVQ latestWork_stride(AX), R9
	MOVQ latestWork_mask(AX), R10
	MOVQ latestWork_first(AX), R11
	MOVQ latestWork_latest(AX), R12
	MOVQ latestWork_size(AX), R13

next:
	MOVL  (SI), AX
	ADDQ  R11, AX
	LEAQ  1(AX), BX
	ANDQ  R10, AX
	IMULQ R9, AX
	ADDQ  R8, AX
	MOVL  slotLayout_Stream(AX), DX
	IMULQ R13, DX
	MOVQ  DX, (DI)
	ADDQ  R12, DX
	MOVQ  BX, latestLayout_Begin(DX)

	// All behind the marker, and 8 bytes of body, for which there is always room.
	MOVOU   8(AX), X0
	MOVOU   24(AX), X1
	MOVOU   40(AX), X2
	MOVOU   X0, (latestLayout_Slot+8)(DX)
	MOVOU   X1, (latestLayout_Slot+24)(DX)
	MOVOU   X2, (latestLayout_Slot+40)(DX)
	MOVWLZX slotLayout_Length(AX), R14
	CMPL    R14, $8
	JHI     body

placed:
	ADDQ $4, SI
	ADDQ $8, DI
	DECQ CX
	JNE  next
	RET

	// The rest of the body, in whole words, for which there is room in both places.
body:
	ADDQ $7, R14
	SHRQ $3, R14

word:
	MOVQ (slotLayout__size-8)(AX)(R14*8), R15
	MOVQ R15, (latestLayout__size-8)(DX)(R14*8)
	DECQ R14
	CMPQ R14, $1
	JNE  word
	JMP  placed

// func showLatestAMD64(latest unsafe.Pointer, places *place, n int)
TEXT ·showLatestAMD64(SB), NOSPLIT, $0-24
	MOVQ latest+0(FP), DX
	MOVQ places+8(FP), SI
	MOVQ n+16(FP), CX

show:
	MOVQ (SI), AX
	MOVQ latestLayout_Begin(DX)(AX*1), BX
	MOVQ BX, (latestLayout_Slot+slotLayout_Marker)(DX)(AX*1)
	ADDQ $8, SI
	DECQ CX
	JNE  show
	RET
