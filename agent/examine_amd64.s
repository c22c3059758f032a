// SPDX-License-Identifier: Apache-2.0

//go:build !race

#include "textflag.h"
#include "go_asm.h"

// SAMPLE is detect.Pace.Plain for the i-th sample from SI and DI on, in its order. The level is in DX.
#define SAMPLE(i) \
	MOVL    ((i)*candidate__size+candidate_index)(SI), CX    \
	CMPQ    CX, R9                                           \
	JAE     other                                            \
	MOVQ    (R8)(CX*8), BX                                   \
	MOVQ    ((i)*candidate__size+candidate_header)(SI), R11  \
	SHRQ    $16, R11                                         \
	CMPQ    R11, const_paceNext(BX)                          \
	JNE     other                                            \
	CMPQ    R11, const_paceEnd(BX)                           \
	JAE     other                                            \
	MOVQ    ((i)*candidate__size+candidate_time)(SI), AX     \
	CMPQ    AX, const_paceSeen(BX)                           \
	JLT     other                                            \
	MOVQ    AX, R12                                          \
	MOVQ    const_paceSource(BX), R13                        \
	MOVL    ((i)*const_sizeofText+const_textFront)(DI), CX   \
	SUBL    R13, CX                                          \
	MOVLQSX CX, CX                                           \
	CMPQ    CX, const_paceLeast(BX)                          \
	JLT     other                                            \
	ADDQ    CX, R13                                          \
	MULQ    R15                                              \
	IMUL3Q  $const_paceMillisecond, R13, AX                  \
	SUBQ    AX, DX                                           \
	MOVQ    const_paceFastest(BX), CX                        \
	MOVQ    DX, AX                                           \
	SUBQ    CX, AX                                           \
	CMOVQLT DX, CX                                           \
	CMPQ    AX, $const_paceMaxDelay                          \
	JGT     other                                            \
	INCQ    R11                                              \
	MOVQ    R11, const_paceNext(BX)                          \
	MOVQ    R13, const_paceSource(BX)                        \
	MOVQ    R12, const_paceSeen(BX)                          \
	MOVQ    CX, const_paceFastest(BX)

// func examineAMD64(paces **detect.Pace, streams int, candidates *candidate, text *spdu.TextFD, n int) (done int)
//
//	SI  candidates
//	DI  text
//	R8  paces, R9 how many
//	R10 how many samples are left
//	R15 detect.Slowdown
//	BX  the sample's pace, R11 its counter, R12 when it came, R13 its source time
TEXT ·examineAMD64(SB), NOSPLIT, $0-48
	MOVQ paces+0(FP), R8
	MOVQ streams+8(FP), R9
	MOVQ candidates+16(FP), SI
	MOVQ text+24(FP), DI
	MOVQ n+32(FP), R10
	MOVQ $const_paceSlowdown, R15

next:
	SAMPLE(0)
	ADDQ $candidate__size, SI
	ADDQ $const_sizeofText, DI
	DECQ R10
	JNE  next

other:
	MOVQ n+32(FP), AX
	SUBQ R10, AX
	MOVQ AX, done+40(FP)
	RET
