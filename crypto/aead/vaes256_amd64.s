// SPDX-License-Identifier: Apache-2.0

//go:build linux

#include "textflag.h"
#include "go_asm.h"
#include "slot.h"

// AVX2 with VAES and VPCLMULQDQ: two blocks in a register, masks for whole words only. What ciphertexts of more than 48 bytes go through
// is in aesni_amd64.s, beside what it has in common with those functions.

// Reverses the bytes of each block.
DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
DATA reverse<>+16(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+24(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $32

// Takes the AAD apart into what the IV is XORed with: stream id || 0 0 || counter || 0 0 0 0.
DATA nonce<>+0(SB)/8, $0x0b0a808003020100
DATA nonce<>+8(SB)/8, $0x808080800f0e0d0c
DATA nonce<>+16(SB)/8, $0x0b0a808003020100
DATA nonce<>+24(SB)/8, $0x808080800f0e0d0c
GLOBL nonce<>(SB), RODATA|NOPTR, $32

// x^128 + x^127 + x^126 + x^121 + 1 without its first term.
DATA poly<>+0(SB)/8, $0x0000000000000001
DATA poly<>+8(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $16

// The last words of the counter blocks 1 to 4, big-endian.
DATA count<>+0(SB)/8, $0
DATA count<>+8(SB)/8, $0x0100000000000000
DATA count<>+16(SB)/8, $0
DATA count<>+24(SB)/8, $0x0200000000000000
DATA count<>+32(SB)/8, $0
DATA count<>+40(SB)/8, $0x0300000000000000
DATA count<>+48(SB)/8, $0
DATA count<>+56(SB)/8, $0x0400000000000000
GLOBL count<>(SB), RODATA|NOPTR, $64

// 64 bytes of ones, then zeros: 32 bytes at 48-n and at 80-n are the mask of AAD and n bytes.
DATA ones<>+0(SB)/8, $-1
DATA ones<>+8(SB)/8, $-1
DATA ones<>+16(SB)/8, $-1
DATA ones<>+24(SB)/8, $-1
DATA ones<>+32(SB)/8, $-1
DATA ones<>+40(SB)/8, $-1
DATA ones<>+48(SB)/8, $-1
DATA ones<>+56(SB)/8, $-1
DATA ones<>+64(SB)/8, $0
DATA ones<>+72(SB)/8, $0
DATA ones<>+80(SB)/8, $0
DATA ones<>+88(SB)/8, $0
DATA ones<>+96(SB)/8, $0
DATA ones<>+104(SB)/8, $0
DATA ones<>+112(SB)/8, $0
DATA ones<>+120(SB)/8, $0
GLOBL ones<>(SB), RODATA|NOPTR, $128

// 16 bytes at 16+r shift a block r bytes to the front; 16 bytes at r bring in the next block behind it.
DATA shift<>+0(SB)/8, $0x8080808080808080
DATA shift<>+8(SB)/8, $0x8080808080808080
DATA shift<>+16(SB)/8, $0x0706050403020100
DATA shift<>+24(SB)/8, $0x0f0e0d0c0b0a0908
DATA shift<>+32(SB)/8, $0x8080808080808080
DATA shift<>+40(SB)/8, $0x8080808080808080
GLOBL shift<>(SB), RODATA|NOPTR, $48

// Two PDUs are a group.
//
//	R15       the group's operations
//	SI DI     slots
//	R8 R9     records
//	R10 R11   n, the bytes of ciphertext
//	R12 R13   the powers of H that the AADs meet
//	Y0 Y1     [E(J0), KS2] and [KS3, KS4] of the first, Y4 Y5 of the second
//	Y2 Y3     [AAD, C1] and [C2, C3] of the first, Y6 Y7 of the second, zero behind n
//	Y8 to Y10, Y12  used inside the macros
//	X11       what becomes of the first PDU's tag
//	Y13 to Y15  products: low, high, middle

#define FIELD(i, field) ((field)+(i)*Op__size)(R15)

// TAKE finds operation i, if it is one for this kernel.
#define TAKE(i, SLOT, RECORD, N, CHECK) \
	MOVQ  FIELD(i, Op_Record+8), N  \
	MOVQ  FIELD(i, Op_Key), SLOT    \
	SUBQ  $32, N                    \
	CMPQ  N, $const_fastText        \
	JHI   other                     \
	CHECK(i, N)                     \
	TESTQ SLOT, SLOT                \
	JEQ   other                     \
	MOVQ  Key_slot(SLOT), SLOT      \
	TESTQ SLOT, SLOT                \
	JEQ   other                     \
	MOVQ  FIELD(i, Op_Record), RECORD

#define NOCHECK(i, N)

#define DSTCHECK(i, N) \
	CMPQ N, FIELD(i, Op_Dst+16) \
	JGT  other

// POWERS finds the power of H that the AAD meets, H^m+2 for m blocks of ciphertext.
#define POWERS(SLOT, N, POWER) \
	LEAQ 15(N), AX                     \
	ANDQ $~15, AX                      \
	LEAQ (SLOT_POWER1-16)(SLOT), POWER \
	SUBQ AX, POWER

// LOAD brings AAD and data into D0 and D1, zero behind n, each byte read once. The first two blocks lie inside any
// record, for the tag follows. The others begin inside it only if n > 16 and n > 32, and end inside it then; of one that
// does not, the AAD is loaded in its place, and masked away.
#define LOAD(RECORD, N, D0, D1, X) \
	LEAQ    ones<>+48(SB), AX          \
	SUBQ    N, AX                      \
	LEAQ    32(RECORD), BX             \
	LEAQ    48(RECORD), CX             \
	CMPQ    N, $16                     \
	CMOVQLE RECORD, BX                 \
	CMPQ    N, $32                     \
	CMOVQLE RECORD, CX                 \
	VMOVDQU (RECORD), D0               \
	VMOVDQU (BX), X                    \
	VINSERTI128 $1, (CX), D1, D1       \
	VPAND   (AX), D0, D0               \
	VPAND   32(AX), D1, D1

// COUNTERS makes the counter blocks 1 to 4 and adds the first round key.
#define COUNTERS(SLOT, DATA, C0, C1) \
	VPERM2I128     $0x00, DATA, DATA, C0 \
	VPSHUFB        nonce<>(SB), C0, C0   \
	VBROADCASTI128 SLOT_FIRST(SLOT), Y12 \
	VPXOR          Y12, C0, C0           \
	VPXOR          count<>+32(SB), C0, C1 \
	VPXOR          count<>+0(SB), C0, C0

// ROUND does round i of both PDUs.
#define ROUND(op, i) \
	VBROADCASTI128 SLOT_ROUND(i)(SI), Y8 \
	VBROADCASTI128 SLOT_ROUND(i)(DI), Y9 \
	op             Y8, Y0, Y0            \
	op             Y9, Y4, Y4            \
	op             Y8, Y1, Y1            \
	op             Y9, Y5, Y5

// HASH0 multiplies [AAD, C1] with their powers of H, without carry and without reduction; HASH1 adds [C2, C3].
#define HASH0(DATA, POWER) \
	VPSHUFB    reverse<>(SB), DATA, Y10 \
	VMOVDQU    (POWER), Y12             \
	VPCLMULQDQ $0x00, Y12, Y10, Y13     \
	VPCLMULQDQ $0x11, Y12, Y10, Y14     \
	VPCLMULQDQ $0x01, Y12, Y10, Y15     \
	VPCLMULQDQ $0x10, Y12, Y10, Y10     \
	VPXOR      Y10, Y15, Y15

#define HASH1(DATA, POWER) \
	VPSHUFB    reverse<>(SB), DATA, Y10 \
	VMOVDQU    32(POWER), Y12           \
	VPCLMULQDQ $0x00, Y12, Y10, Y8      \
	VPCLMULQDQ $0x11, Y12, Y10, Y9      \
	VPXOR      Y8, Y13, Y13             \
	VPXOR      Y9, Y14, Y14             \
	VPCLMULQDQ $0x01, Y12, Y10, Y8      \
	VPCLMULQDQ $0x10, Y12, Y10, Y10     \
	VPXOR      Y8, Y15, Y15             \
	VPXOR      Y10, Y15, Y15

// ACROSS adds the two lanes of Y, whose low half is X.
#define ACROSS(Y, X) \
	VEXTRACTI128 $1, Y, X12 \
	VPXOR        X12, X, X

// FOLD is half of the Montgomery reduction, X13 / x^64. X10 is the polynomial.
#define FOLD \
	VPCLMULQDQ $0x01, X13, X10, X12 \
	VPSHUFD    $0x4e, X13, X13      \
	VPXOR      X12, X13, X13

// REDUCE makes GHASH of the sums and of the product of the length block, in X13, in the order of bytes that tags have.
#define REDUCE(SLOT, N) \
	ACROSS(Y13, X13)          \
	ACROSS(Y14, X14)          \
	ACROSS(Y15, X15)          \
	VMOVDQU poly<>(SB), X10   \
	VPSLLDQ $8, X15, X12      \
	VPSRLDQ $8, X15, X15      \
	VPXOR   X12, X13, X13     \
	VPXOR   X15, X14, X14     \
	FOLD                      \
	FOLD                      \
	MOVQ    N, AX             \
	SHLQ    $4, AX            \
	VPXOR   X14, X13, X13     \
	VPXOR   SLOT_LENGTH(SLOT)(AX*1), X13, X13 \
	VPSHUFB reverse<>(SB), X13, X13

// REPORT reports on operation i, whose tag was right if X is zero, and stores the plaintext, [P1, P2] in Y1 and P3 in X3, under a
// mask that is zero for a PDU that is refused: the same instructions at the same addresses, whatever the tag.
//
// The masks of AVX2 are of whole words of 8 bytes, as every plaintext on CAN FD has them. Others take the way of odd.
#define REPORT(i, X, N) \
	XORL         CX, CX               \
	VPTEST       X, X                 \
	SETEQ        CX                   \
	MOVB         CX, FIELD(i, Op_OK)  \
	ADDQ         CX, accepted+32(FP)  \
	NEGQ         CX                   \
	MOVQ         CX, AX               \
	ANDQ         N, AX                \
	MOVQ         AX, FIELD(i, Op_N)   \
	MOVQ         FIELD(i, Op_Dst), BX \
	LEAQ         ones<>+64(SB), AX    \
	SUBQ         N, AX                \
	VMOVQ        CX, X12              \
	VPBROADCASTQ X12, Y12             \
	TESTQ        $7, N

#define STORE \
	VPAND      (AX), Y12, Y2    \
	VPAND      32(AX), X12, X12 \
	VPMASKMOVQ Y1, Y2, (BX)     \
	VPMASKMOVQ X3, X12, 32(BX)

// ODD stores a plaintext of any length; for a PDU that is refused, zeros, and aside, to the place that has Dst's offset in its
// page. Only the address differs then.
#define ODD(N) \
	VPAND        Y12, Y1, Y1         \
	VPAND        X12, X3, X3         \
	VEXTRACTI128 $1, Y1, X2          \
	MOVQ         aside+16(FP), DX    \
	MOVQ         BX, AX              \
	SUBQ         DX, AX              \
	ANDL         $const_pageMask, AX \
	ADDQ         DX, AX              \
	TESTQ        CX, CX              \
	CMOVQEQ      AX, BX              \
	MOVQ         N, CX               \
	CALL         put<>(SB)

// put stores the first CX bytes, 1 to 48, of X1, X2, X3 at BX, and not one more. AX and X12 change.
TEXT put<>(SB), NOSPLIT, $0-0
	CMPQ    CX, $16
	JLT     short
	LEAQ    shift<>(SB), AX
	VMOVDQU X1, (BX)
	CMPQ    CX, $32
	JLT     last
	VMOVDQU X2, 16(BX)
	VMOVDQA X2, X1
	VMOVDQA X3, X2
	SUBQ    $16, AX

last:
	// 16 bytes that end where the text ends: the last r of X2 behind those of X1 that are left.
	VMOVDQU -16(AX)(CX*1), X12
	VPSHUFB X12, X2, X2
	VMOVDQU (AX)(CX*1), X12
	VPSHUFB X12, X1, X1
	VPOR    X2, X1, X1
	VMOVDQU X1, -16(BX)(CX*1)
	RET

short:
	VMOVQ X1, AX
	CMPQ  CX, $8
	JLT   short4
	MOVQ  AX, (BX)
	LEAQ  shift<>+8(SB), AX
	VMOVDQU (AX)(CX*1), X12
	VPSHUFB X12, X1, X1
	VMOVQ X1, -8(BX)(CX*1)
	XORL  AX, AX
	RET

short4:
	CMPQ CX, $4
	JLT  short1
	MOVL AX, (BX)
	SHLQ $3, CX
	RORQ CX, AX
	SHRQ $3, CX
	SHRQ $32, AX
	MOVL AX, -4(BX)(CX*1)
	XORL AX, AX
	RET

short1:
	MOVB AX, (BX)
	SHRQ $8, AX
	CMPQ CX, $2
	JLT  done
	MOVB AX, 1(BX)
	SHRQ $8, AX
	CMPQ CX, $3
	JLT  done
	MOVB AX, 2(BX)

done:
	XORL AX, AX
	RET

// func openVAES256(ops *Op, groups int, aside *aside) (done, accepted int)
TEXT ·openVAES256(SB), NOSPLIT, $0-40
	MOVQ ops+0(FP), R15
	MOVQ $0, done+24(FP)
	MOVQ $0, accepted+32(FP)

group:
	TAKE(0, SI, R8, R10, DSTCHECK)
	TAKE(1, DI, R9, R11, DSTCHECK)
	POWERS(SI, R10, R12)
	POWERS(DI, R11, R13)
	LOAD(R8, R10, Y2, Y3, X3)
	LOAD(R9, R11, Y6, Y7, X7)
	COUNTERS(SI, Y2, Y0, Y1)
	COUNTERS(DI, Y6, Y4, Y5)

	// GHASH and the cipher do not depend on each other. Their lines alternate, so that both units have work.
	HASH0(Y2, R12)
	ROUND(VAESENC, 1)
	ROUND(VAESENC, 2)
	HASH1(Y3, R12)
	ROUND(VAESENC, 3)
	ROUND(VAESENC, 4)
	ROUND(VAESENC, 5)
	REDUCE(SI, R10)
	ROUND(VAESENC, 6)
	VPXOR 16(R8)(R10*1), X13, X11
	ROUND(VAESENC, 7)
	HASH0(Y6, R13)
	ROUND(VAESENC, 8)
	ROUND(VAESENC, 9)
	HASH1(Y7, R13)
	ROUND(VAESENC, 10)
	ROUND(VAESENC, 11)
	REDUCE(DI, R11)
	ROUND(VAESENC, 12)
	VPXOR 16(R9)(R11*1), X13, X13
	ROUND(VAESENC, 13)
	ROUND(VAESENCLAST, 14)

	// GHASH XOR the tag that came XOR E(J0) is zero: all sixteen bytes are looked at, whatever differs first.
	VPXOR        X11, X0, X11
	VPXOR        X13, X4, X13
	VPXOR        Y2, Y0, Y0
	VPXOR        Y3, Y1, Y2
	VPERM2I128   $0x21, Y2, Y0, Y1
	VEXTRACTI128 $1, Y2, X3
	REPORT(0, X11, R10)
	JNE          odd0
	STORE

second:
	VPXOR        Y6, Y4, Y4
	VPXOR        Y7, Y5, Y2
	VPERM2I128   $0x21, Y2, Y4, Y1
	VEXTRACTI128 $1, Y2, X3
	REPORT(1, X13, R11)
	JNE          odd1
	STORE

next:
	ADDQ $2, done+24(FP)
	ADDQ $(2*Op__size), R15
	DECQ groups+8(FP)
	JNZ  group

other:
	VZEROALL
	RET

odd0:
	ODD(R10)
	JMP second

odd1:
	ODD(R11)
	JMP next

// SEALDATA makes [AAD, C1] and [C2, C3] from the plaintexts and the keystream. E(J0) stays in the low half of C0, and
// must not get into the data, nor what lies behind n.
#define SEALDATA(N, C0, C1, D0, D1) \
	LEAQ       ones<>+48(SB), AX    \
	SUBQ       N, AX                \
	VPERM2I128 $0x18, C0, C0, Y12   \
	VPAND      (AX), Y12, Y12       \
	VPXOR      Y12, D0, D0          \
	VPAND      32(AX), C1, C1       \
	VPXOR      C1, D1, D1

// SEALSTORE stores the ciphertext. A block that begins inside the record ends inside it, and what it takes of the tag's
// room is overwritten by the tag.
#define SEALSTORE(RECORD, N, D0, D1, X, end) \
	TESTQ        N, N                \
	JEQ          end                 \
	VEXTRACTI128 $1, D0, 16(RECORD)  \
	CMPQ         N, $16              \
	JLE          end                 \
	VMOVDQU      X, 32(RECORD)       \
	CMPQ         N, $32              \
	JLE          end                 \
	VEXTRACTI128 $1, D1, 48(RECORD)

// func sealVAES256(ops *Op, groups int) (done int)
TEXT ·sealVAES256(SB), NOSPLIT, $0-24
	MOVQ ops+0(FP), R15
	MOVQ $0, done+16(FP)

group:
	TAKE(0, SI, R8, R10, NOCHECK)
	TAKE(1, DI, R9, R11, NOCHECK)
	POWERS(SI, R10, R12)
	POWERS(DI, R11, R13)
	LOAD(R8, R10, Y2, Y3, X3)
	LOAD(R9, R11, Y6, Y7, X7)
	COUNTERS(SI, Y2, Y0, Y1)
	COUNTERS(DI, Y6, Y4, Y5)
	ROUND(VAESENC, 1)
	ROUND(VAESENC, 2)
	ROUND(VAESENC, 3)
	ROUND(VAESENC, 4)
	ROUND(VAESENC, 5)
	ROUND(VAESENC, 6)
	ROUND(VAESENC, 7)
	ROUND(VAESENC, 8)
	ROUND(VAESENC, 9)
	ROUND(VAESENC, 10)
	ROUND(VAESENC, 11)
	ROUND(VAESENC, 12)
	ROUND(VAESENC, 13)
	ROUND(VAESENCLAST, 14)
	SEALDATA(R10, Y0, Y1, Y2, Y3)
	SEALDATA(R11, Y4, Y5, Y6, Y7)
	SEALSTORE(R8, R10, Y2, Y3, X3, hash0)

hash0:
	HASH0(Y2, R12)
	HASH1(Y3, R12)
	REDUCE(SI, R10)
	VPXOR   X13, X0, X0
	VMOVDQU X0, 16(R8)(R10*1)
	SEALSTORE(R9, R11, Y6, Y7, X7, hash1)

hash1:
	HASH0(Y6, R13)
	HASH1(Y7, R13)
	REDUCE(DI, R11)
	VPXOR   X13, X4, X4
	VMOVDQU X4, 16(R9)(R11*1)

	ADDQ $2, done+16(FP)
	ADDQ $(2*Op__size), R15
	DECQ groups+8(FP)
	JNZ  group

other:
	VZEROALL
	RET

// func cpuidVAES() (ecx uint32)
//
// The register ECX of CPUID leaf 7, or 0 where there is no such leaf.
TEXT ·cpuidVAES(SB), NOSPLIT, $0-4
	MOVL $0, ecx+0(FP)
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JLT  none
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)

none:
	RET
