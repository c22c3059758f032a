// SPDX-License-Identifier: Apache-2.0

//go:build linux

#include "textflag.h"
#include "go_asm.h"
#include "slot.h"

// Byte reversal of a block.
DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

// x^128 + x^127 + x^126 + x^121 + 1 without its first term.
DATA poly<>+0(SB)/8, $0x0000000000000001
DATA poly<>+8(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $16

// One step of the key schedule (FIPS 197, 5.2) for the even round keys: X1 is the round key before last, X3 the last.
#define EVEN(rcon, i) \
	AESKEYGENASSIST $rcon, X3, X2 \
	PSHUFD $0xff, X2, X2 \
	SPREAD(X1)           \
	PXOR   X2, X1        \
	MOVOU  X1, SLOT_ROUND(i)(DI)

// The same for the odd ones: no rotation, no constant.
#define ODD(i) \
	AESKEYGENASSIST $0, X1, X2 \
	PSHUFD $0xaa, X2, X2 \
	SPREAD(X3)           \
	PXOR   X2, X3        \
	MOVOU  X3, SLOT_ROUND(i)(DI)

// Each word becomes the XOR of itself and all words below.
#define SPREAD(x) \
	MOVOU  x, X4     \
	PSLLDQ $4, X4    \
	PXOR   X4, x     \
	PSLLDQ $4, X4    \
	PXOR   X4, x     \
	PSLLDQ $4, X4    \
	PXOR   X4, x

// a = a * H' in X8, reduced. H' in X1, poly in X15; X9 to X11 change.
#define MULTIPLY(a) \
	MOVOU     a, X9          \
	PCLMULQDQ $0x11, X1, X9  \
	MOVOU     a, X10         \
	PCLMULQDQ $0x10, X1, X10 \
	MOVOU     a, X11         \
	PCLMULQDQ $0x01, X1, X11 \
	PCLMULQDQ $0x00, X1, a   \
	PXOR      X11, X10       \
	MOVOU     X10, X11       \
	PSLLDQ    $8, X10        \
	PSRLDQ    $8, X11        \
	PXOR      X10, a         \
	PXOR      X11, X9        \
	FOLD(a)                  \
	FOLD(a)                  \
	PXOR      X9, a

// Half of the Montgomery reduction: a / x^64.
#define FOLD(a) \
	MOVOU     X15, X10     \
	PCLMULQDQ $0x01, a, X10 \
	PSHUFD    $0x4e, a, a  \
	PXOR      X10, a

// func expandAMD64(slot *keySlot, key *[32]byte, iv *[12]byte)
//
// Everything is computed in registers and stored to the slot alone: no part of a key touches the stack.
TEXT ·expandAMD64(SB), NOSPLIT, $0-24
	MOVQ slot+0(FP), DI
	MOVQ key+8(FP), SI
	MOVQ iv+16(FP), DX

	MOVOU 0(SI), X1
	MOVOU 16(SI), X3
	MOVOU X1, X0           // the encryption of a zero block starts with the first round key
	MOVQ  0(DX), X5
	MOVL  8(DX), AX
	PINSRD $2, AX, X5
	PXOR  X1, X5
	MOVOU X5, SLOT_FIRST(DI)
	MOVOU X3, SLOT_ROUND(1)(DI)
	EVEN(0x01, 2)
	ODD(3)
	EVEN(0x02, 4)
	ODD(5)
	EVEN(0x04, 6)
	ODD(7)
	EVEN(0x08, 8)
	ODD(9)
	EVEN(0x10, 10)
	ODD(11)
	EVEN(0x20, 12)
	ODD(13)
	EVEN(0x40, 14)

	// H = AES(0).
	LEAQ SLOT_ROUND(1)(DI), SI
	MOVQ $13, CX

encrypt:
	MOVOU  (SI), X2
	AESENC X2, X0
	ADDQ   $16, SI
	DECQ   CX
	JNZ    encrypt
	MOVOU  (SI), X2
	AESENCLAST X2, X0

	// H' = H reversed, times x: shift all 128 bits to the left by one, and subtract the polynomial if a bit was
	// lost, by a mask and not by a branch.
	MOVOU  reverse<>(SB), X6
	MOVOU  poly<>(SB), X15
	PSHUFB X6, X0
	PSHUFD $0xff, X0, X2
	PSRAL  $31, X2
	PAND   X15, X2
	MOVOU  X0, X1
	PSRLQ  $63, X1
	PSLLDQ $8, X1
	PSLLQ  $1, X0
	POR    X0, X1
	PXOR   X2, X1

	// Powers.
	LEAQ  SLOT_POWER1(DI), SI
	MOVOU X1, X8
	MOVOU X8, (SI)
	MOVQ  $16, CX

powers:
	MULTIPLY(X8)
	SUBQ  $16, SI
	MOVOU X8, (SI)
	DECQ  CX
	JNZ   powers

	// Length blocks.
	LEAQ SLOT_LENGTH(DI), SI
	MOVQ $128, BX
	XORQ CX, CX

lengths:
	MOVQ   CX, X8
	PINSRQ $1, BX, X8
	MULTIPLY(X8)
	MOVOU  X8, (SI)
	ADDQ   $16, SI
	ADDQ   $8, CX
	CMPQ   CX, $(8*const_fastText)
	JLE    lengths

	PXOR X0, X0
	PXOR X1, X1
	PXOR X2, X2
	PXOR X3, X3
	PXOR X4, X4
	PXOR X5, X5
	PXOR X8, X8
	PXOR X9, X9
	PXOR X10, X10
	PXOR X11, X11
	PXOR X15, X15
	RET
