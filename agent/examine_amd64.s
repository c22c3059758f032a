// SPDX-License-Identifier: Apache-2.0

//go:build !race

#include "textflag.h"
#include "go_asm.h"

// SAMPLE is detect.Pace.Plain for the i-th sample from SI and DI on. Its advance is above a number that is not negative, so that as a
// number without a sign it is the same.
#define SAMPLE(i, other) \
	MOVL    ((i)*candidate__size+candidate_index)(SI), CX  \
	MOVQ    (R8)(CX*8), BX                                 \
	MOVQ    ((i)*candidate__size+candidate_header)(SI), AX \
	SHRQ    $16, AX                                        \
	CMPQ    AX, const_paceNext(BX)                         \
	JNE     other                                          \
	MOVQ    ((i)*candidate__size+candidate_time)(SI), R12  \
	CMPQ    R12, const_paceSeen(BX)                        \
	JLT     other                                          \
	MOVQ    const_paceSource(BX), R13                      \
	MOVL    ((i)*const_sizeofText+const_textFront)(DI), CX \
	SUBL    R13, CX                                        \
	CMPL    CX, const_paceAbove(BX)                        \
	JLE     other                                          \
	ADDQ    CX, R13                                        \
	MOVQ    R15, AX                                        \
	MULQ    R12                                            \
	IMUL3Q  $const_paceMillisecond, R13, AX                \
	SUBQ    AX, DX                                         \
	XORL    AX, AX                                         \
	SUBQ    const_paceFastest(BX), DX                      \
	CMOVQLT DX, AX                                         \
	CMPQ    DX, $const_paceMaxDelay                        \
	JGT     other                                          \
	INCQ    const_paceNext(BX)                             \
	MOVQ    R13, const_paceSource(BX)                      \
	MOVQ    R12, const_paceSeen(BX)                        \
	ADDQ    AX, const_paceFastest(BX)

// func examineAMD64(paces **detect.Pace, candidates *candidate, text *spdu.TextFD, n int) (done int)
//
//	SI  candidates, R11 behind those that are in pairs
//	DI  text
//	R8  paces
//	R15 detect.Slowdown
//	BX  the sample's pace, R12 when it came, R13 its source time, unwrapped
//	DX  its level over the least one, AX the same if it is less
TEXT ·examineAMD64(SB), NOSPLIT, $0-40
	MOVQ paces+0(FP), R8
	MOVQ candidates+8(FP), SI
	MOVQ text+16(FP), DI
	MOVQ n+24(FP), R11
	MOVQ $const_paceSlowdown, R15
	ANDQ $~1, R11
	JEQ  one
	SHLQ $5, R11
	ADDQ SI, R11

pair:
	SAMPLE(0, even)
	SAMPLE(1, odd)
	ADDQ $(2*candidate__size), SI
	ADDQ $(2*const_sizeofText), DI
	CMPQ SI, R11
	JNE  pair

one:
	MOVQ  n+24(FP), AX
	TESTB $1, AX
	JEQ   even
	SAMPLE(0, even)

odd:
	ADDQ $candidate__size, SI

even:
	SUBQ candidates+8(FP), SI
	SHRQ $5, SI
	MOVQ SI, done+32(FP)
	RET
