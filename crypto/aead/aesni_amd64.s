// SPDX-License-Identifier: Apache-2.0

//go:build linux

#include "textflag.h"
#include "go_asm.h"
#include "slot.h"

// SSE4.1, AES-NI and PCLMULQDQ, nothing newer: the small cores that gateways have know no AVX.

// Reverses the bytes of a block.
DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

// Takes the AAD apart into what the IV is XORed with: stream id || 0 0 || counter || 0 0 0 0.
DATA nonce<>+0(SB)/8, $0x0b0a808003020100
DATA nonce<>+8(SB)/8, $0x808080800f0e0d0c
GLOBL nonce<>(SB), RODATA|NOPTR, $16

// x^128 + x^127 + x^126 + x^121 + 1 without its first term.
DATA poly<>+0(SB)/8, $0x0000000000000001
DATA poly<>+8(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $16

// The last word of a counter block, big-endian. No carry leaves its last byte.
DATA one<>+0(SB)/8, $0
DATA one<>+8(SB)/8, $0x0100000000000000
GLOBL one<>(SB), RODATA|NOPTR, $16

// 48 bytes of ones, then zeros: 16 bytes at 48-n+16*j are the mask of block j of n bytes.
DATA ones<>+0(SB)/8, $-1
DATA ones<>+8(SB)/8, $-1
DATA ones<>+16(SB)/8, $-1
DATA ones<>+24(SB)/8, $-1
DATA ones<>+32(SB)/8, $-1
DATA ones<>+40(SB)/8, $-1
DATA ones<>+48(SB)/8, $0
DATA ones<>+56(SB)/8, $0
DATA ones<>+64(SB)/8, $0
DATA ones<>+72(SB)/8, $0
DATA ones<>+80(SB)/8, $0
DATA ones<>+88(SB)/8, $0
GLOBL ones<>(SB), RODATA|NOPTR, $96

// 16 bytes at 16+r shift a block r bytes to the front; 16 bytes at r bring in the next block behind it.
DATA shift<>+0(SB)/8, $0x8080808080808080
DATA shift<>+8(SB)/8, $0x8080808080808080
DATA shift<>+16(SB)/8, $0x0706050403020100
DATA shift<>+24(SB)/8, $0x0f0e0d0c0b0a0908
DATA shift<>+32(SB)/8, $0x8080808080808080
DATA shift<>+40(SB)/8, $0x8080808080808080
GLOBL shift<>(SB), RODATA|NOPTR, $48

// Two PDUs are a group. Their blocks AAD, C1, C2, C3 lie byte-reversed in the frame from where they are hashed and
// decrypted: the record itself is read once. (What is in the frame was on the wire; no secret goes there.)
//
//	R15       the group's operations
//	SI DI     slots
//	R8 R9     records
//	R10 R11   n, the bytes of ciphertext
//	R12 R13   the powers of H that the AADs meet
//	X0 to X3  E(J0), KS2, KS3, KS4 of the first, X4 to X7 of the second
//	X8 X9     round keys
//	X10 X12   used inside the macros
//	X11       what becomes of the first PDU's tag
//	X13 to X15  products: low, high, middle
#define FRAME0 0
#define FRAME1 64

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
	LEAQ 15(N), AX                  \
	ANDQ $~15, AX                   \
	LEAQ (SLOT_POWER1-16)(SLOT), POWER \
	SUBQ AX, POWER

// BLOCK loads block j (1 to 3) of the ciphertext, or plaintext, into X, zero behind n. AX is 48-n and the table. A block
// begins inside the record only if n > 16*(j-1), and then its 16 bytes lie inside too, for the tag follows. Of one that
// does not, the AAD is loaded in its place, and masked away.
#define BLOCK(j, RECORD, N, X) \
	LEAQ    (16*j)(RECORD), BX       \
	CMPQ    N, $(16*(j-1))           \
	CMOVQLE RECORD, BX               \
	MOVOU   (BX), X                  \
	MOVOU   (16*(j-1))(AX), X12      \
	PAND    X12, X

// MASKS finds the masks for n bytes.
#define MASKS(N) \
	LEAQ ones<>+48(SB), AX \
	SUBQ N, AX

// KEEP puts a block into the frame, reversed. X15 is the reversal.
#define KEEP(X, to) \
	PSHUFB X15, X   \
	MOVOU  X, to(SP)

// COUNTERS makes the counter blocks 1 to 4 from the AAD in C0 and adds the first round key. X13 is the nonce's shuffle,
// X14 is 1 in the last word.
#define COUNTERS(SLOT, C0, C1, C2, C3) \
	PSHUFB X13, C0              \
	MOVOU  SLOT_FIRST(SLOT), X12 \
	PXOR   X12, C0              \
	MOVOU  X14, C1              \
	PADDL  X14, C1              \
	MOVOU  C1, C2               \
	PADDL  X14, C2              \
	MOVOU  C2, C3               \
	PADDL  X14, C3              \
	PXOR   C0, C1               \
	PXOR   C0, C2               \
	PXOR   C0, C3               \
	PXOR   X14, C0

// ROUNDn does round i of both PDUs for n counter blocks.
#define ROUND2(op, i) \
	MOVOU SLOT_ROUND(i)(SI), X8 \
	MOVOU SLOT_ROUND(i)(DI), X9 \
	op    X8, X0                \
	op    X9, X4                \
	op    X8, X1                \
	op    X9, X5

#define ROUND3(op, i) \
	ROUND2(op, i) \
	op X8, X2     \
	op X9, X6

#define ROUND4(op, i) \
	ROUND3(op, i) \
	op X8, X3     \
	op X9, X7

// PRODUCT adds the product of X10 and a power of H in memory to the sums. X10 and X12 change.
#define PRODUCT(power, POWER) \
	MOVOU     X10, X12                  \
	PCLMULQDQ $0x00, power(POWER), X12  \
	PXOR      X12, X13                  \
	MOVOU     X10, X12                  \
	PCLMULQDQ $0x11, power(POWER), X12  \
	PXOR      X12, X14                  \
	MOVOU     X10, X12                  \
	PCLMULQDQ $0x01, power(POWER), X12  \
	PXOR      X12, X15                  \
	PCLMULQDQ $0x10, power(POWER), X10  \
	PXOR      X10, X15

// HASH adds the product of block j in the frame.
#define HASH(frame, j, POWER) \
	MOVOU (frame+16*j)(SP), X10 \
	PRODUCT((16*j), POWER)

#define NOSUMS \
	PXOR X13, X13 \
	PXOR X14, X14 \
	PXOR X15, X15

// FOLD is half of the Montgomery reduction, X13 / x^64.
#define FOLD \
	MOVOU     poly<>(SB), X12   \
	PCLMULQDQ $0x01, X13, X12   \
	PSHUFD    $0x4e, X13, X13   \
	PXOR      X12, X13

// REDUCE makes GHASH of the sums and of the product of the length block, in X13, in the order of bytes that tags have.
#define REDUCE(SLOT, N) \
	MOVOU  X15, X12   \
	PSLLDQ $8, X12    \
	PSRLDQ $8, X15    \
	PXOR   X12, X13   \
	PXOR   X15, X14   \
	FOLD              \
	FOLD              \
	PXOR   X14, X13   \
	MOVQ   N, AX      \
	SHLQ   $4, AX     \
	MOVOU  SLOT_LENGTH(SLOT)(AX*1), X12 \
	PXOR   X12, X13   \
	MOVOU  reverse<>(SB), X12 \
	PSHUFB X12, X13

// CLEAR leaves nothing of a key, a keystream or a plaintext behind.
#define CLEAR \
	PXOR X0, X0   \
	PXOR X1, X1   \
	PXOR X2, X2   \
	PXOR X3, X3   \
	PXOR X4, X4   \
	PXOR X5, X5   \
	PXOR X6, X6   \
	PXOR X7, X7   \
	PXOR X8, X8   \
	PXOR X9, X9   \
	PXOR X10, X10 \
	PXOR X11, X11 \
	PXOR X12, X12 \
	PXOR X13, X13 \
	PXOR X14, X14 \
	PXOR X15, X15

// put stores the first CX bytes, 1 to 48, of X1, X2, X3 at BX, and not one more. AX, X12 and X13 change.
TEXT put<>(SB), NOSPLIT, $0-0
	CMPQ  CX, $16
	JLT   short
	LEAQ  shift<>(SB), AX
	MOVOU X1, (BX)
	CMPQ  CX, $32
	JLT   last
	MOVOU X2, 16(BX)
	MOVOU X2, X1
	MOVOU X3, X2
	SUBQ  $16, AX

last:
	// 16 bytes that end where the text ends: the last r of X2 behind those of X1 that are left.
	MOVOU  -16(AX)(CX*1), X12
	MOVOU  (AX)(CX*1), X13
	PSHUFB X12, X2
	PSHUFB X13, X1
	POR    X2, X1
	MOVOU  X1, -16(BX)(CX*1)
	RET

short:
	MOVQ X1, AX
	CMPQ CX, $8
	JLT  short4
	MOVQ AX, (BX)
	LEAQ shift<>+8(SB), AX
	MOVOU (AX)(CX*1), X12
	PSHUFB X12, X1
	MOVQ X1, -8(BX)(CX*1)
	XORL AX, AX
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

// OPENROUNDS hashes and encrypts counter blocks for both PDUs. Their lines alternate, so that both units have work.
#define OPENROUNDS(ROUND, HASH2, HASH3) \
	NOSUMS                    \
	HASH(FRAME0, 0, R12)      \
	ROUND(AESENC, 1)          \
	HASH(FRAME0, 1, R12)      \
	ROUND(AESENC, 2)          \
	HASH2(FRAME0, 2, R12)     \
	ROUND(AESENC, 3)          \
	HASH3(FRAME0, 3, R12)     \
	ROUND(AESENC, 4)          \
	ROUND(AESENC, 5)          \
	REDUCE(SI, R10)           \
	ROUND(AESENC, 6)          \
	MOVOU 16(R8)(R10*1), X11  \
	PXOR  X13, X11            \
	NOSUMS                    \
	HASH(FRAME1, 0, R13)      \
	ROUND(AESENC, 7)          \
	HASH(FRAME1, 1, R13)      \
	ROUND(AESENC, 8)          \
	HASH2(FRAME1, 2, R13)     \
	ROUND(AESENC, 9)          \
	HASH3(FRAME1, 3, R13)     \
	ROUND(AESENC, 10)         \
	ROUND(AESENC, 11)         \
	REDUCE(DI, R11)           \
	ROUND(AESENC, 12)         \
	MOVOU 16(R9)(R11*1), X12  \
	PXOR  X12, X13            \
	ROUND(AESENC, 13)         \
	ROUND(AESENCLAST, 14)

#define NOHASH(frame, j, POWER)

// REPORT reports on operation i, whose tag was right if X is zero. It leaves Dst in BX, and in CX and X12 ones if the tag was right, else
// zeros.
#define REPORT(i, X, N) \
	XORL       CX, CX               \
	PTEST      X, X                 \
	SETEQ      CX                   \
	MOVB       CX, FIELD(i, Op_OK)  \
	ADDQ       CX, accepted+32(FP)  \
	NEGQ       CX                   \
	MOVQ       CX, X12              \
	PUNPCKLQDQ X12, X12             \
	MOVQ       FIELD(i, Op_Dst), BX \
	MOVQ       N, AX                \
	ANDQ       CX, AX               \
	MOVQ       AX, FIELD(i, Op_N)

// ASIDE leaves in BX where put stores, and in CX how much. What is done is the same whatever the tag: the plaintext of a PDU that is
// refused is cleared in its registers, and the zeros go aside, to the place that has Dst's offset in its page.
#define ASIDE(N) \
	PAND    X12, X1             \
	PAND    X12, X2             \
	PAND    X12, X3             \
	MOVQ    aside+16(FP), DX    \
	MOVQ    BX, AX              \
	SUBQ    DX, AX              \
	ANDL    $const_pageMask, AX \
	ADDQ    DX, AX              \
	TESTQ   CX, CX              \
	CMOVQEQ AX, BX              \
	MOVQ    N, CX               \
	TESTQ   CX, CX

// MASKED stores a plaintext of whole words of 4 bytes under masks, which are zero for a PDU that is refused. Needs AVX.
#define MASKED(N) \
	MASKS(N)                  \
	MOVOU      (AX), X8       \
	PAND       X12, X8        \
	VMASKMOVPS X1, X8, (BX)   \
	MOVOU      16(AX), X8     \
	PAND       X12, X8        \
	VMASKMOVPS X2, X8, 16(BX) \
	MOVOU      32(AX), X8     \
	PAND       X12, X8        \
	VMASKMOVPS X3, X8, 32(BX)

// PLAIN turns the keystream in C into the plaintext of block j. X15 is the reversal.
#define PLAIN(frame, j, C) \
	MOVOU  (frame+16*j)(SP), X12 \
	PSHUFB X15, X12              \
	PXOR   X12, C

// OPENGROUP opens the two PDUs from R15 on, up to the verdict: X0 and X4 are GHASH XOR the tag that came XOR E(J0), which is zero if
// the tag was right: all sixteen bytes are looked at, whatever differs first. X1 to X3 are the plaintext of the first, X5 to X7 the
// keystream of the second. Of each as many blocks are made as the longer of the two has.
#define OPENGROUP \
	TAKE(0, SI, R8, R10, DSTCHECK) \
	TAKE(1, DI, R9, R11, DSTCHECK) \
	POWERS(SI, R10, R12) \
	POWERS(DI, R11, R13) \
	MOVOU reverse<>(SB), X15 \
	MOVOU nonce<>(SB), X13 \
	MOVOU one<>(SB), X14 \
	MASKS(R10) \
	MOVOU (R8), X0 \
	BLOCK(1, R8, R10, X1) \
	BLOCK(2, R8, R10, X2) \
	BLOCK(3, R8, R10, X3) \
	MOVOU X0, X8 \
	KEEP(X8, FRAME0+0) \
	KEEP(X1, FRAME0+16) \
	KEEP(X2, FRAME0+32) \
	KEEP(X3, FRAME0+48) \
	MASKS(R11) \
	MOVOU (R9), X4 \
	BLOCK(1, R9, R11, X5) \
	BLOCK(2, R9, R11, X6) \
	BLOCK(3, R9, R11, X7) \
	MOVOU X4, X8 \
	KEEP(X8, FRAME1+0) \
	KEEP(X5, FRAME1+16) \
	KEEP(X6, FRAME1+32) \
	KEEP(X7, FRAME1+48) \
	COUNTERS(SI, X0, X1, X2, X3) \
	COUNTERS(DI, X4, X5, X6, X7) \
	MOVQ    R10, AX \
	CMPQ    R11, AX \
	CMOVQGT R11, AX \
	CMPQ    AX, $32 \
	JGT     four \
	CMPQ    AX, $16 \
	JGT     three \
	OPENROUNDS(ROUND2, NOHASH, NOHASH) \
	JMP     judge \
three: \
	OPENROUNDS(ROUND3, HASH, NOHASH) \
	JMP judge \
four: \
	OPENROUNDS(ROUND4, HASH, HASH) \
judge: \
	PXOR  X11, X0 \
	PXOR  X13, X4 \
	MOVOU reverse<>(SB), X15 \
	PLAIN(FRAME0, 1, X1) \
	PLAIN(FRAME0, 2, X2) \
	PLAIN(FRAME0, 3, X3)

// SECONDPLAIN turns the keystream of the second into its plaintext.
#define SECONDPLAIN \
	MOVOU X5, X1         \
	MOVOU X6, X2         \
	MOVOU X7, X3         \
	PLAIN(FRAME1, 1, X1) \
	PLAIN(FRAME1, 2, X2) \
	PLAIN(FRAME1, 3, X3)

// func openAESNI(ops *Op, groups int, aside *aside) (done, accepted int)
TEXT ·openAESNI(SB), NOSPLIT, $128-40
	MOVQ ops+0(FP), R15
	MOVQ $0, done+24(FP)
	MOVQ $0, accepted+32(FP)

group:
	OPENGROUP
	REPORT(0, X0, R10)
	ASIDE(R10)
	JEQ  second
	CALL put<>(SB)

second:
	SECONDPLAIN
	REPORT(1, X4, R11)
	ASIDE(R11)
	JEQ  next
	CALL put<>(SB)

next:
	ADDQ $2, done+24(FP)
	ADDQ $(2*Op__size), R15
	DECQ groups+8(FP)
	JNZ  group

other:
	CLEAR
	RET

// func openAVX(ops *Op, groups int, aside *aside) (done, accepted int)
//
// It is openAESNI for a CPU that stores under masks: where a plaintext is one of whole words of 4 bytes, as on CAN FD, right and wrong tags
// do the same at the same addresses.
TEXT ·openAVX(SB), NOSPLIT, $128-40
	MOVQ ops+0(FP), R15
	MOVQ $0, done+24(FP)
	MOVQ $0, accepted+32(FP)

group:
	OPENGROUP
	REPORT(0, X0, R10)
	TESTQ $3, R10
	JNE   odd0
	MASKED(R10)

second:
	SECONDPLAIN
	REPORT(1, X4, R11)
	TESTQ $3, R11
	JNE   odd1
	MASKED(R11)

next:
	ADDQ $2, done+24(FP)
	ADDQ $(2*Op__size), R15
	DECQ groups+8(FP)
	JNZ  group

other:
	CLEAR
	RET

odd0:
	ASIDE(R10)
	CALL put<>(SB)
	JMP  second

odd1:
	ASIDE(R11)
	CALL put<>(SB)
	JMP  next

// SEALBLOCK makes ciphertext in C of block j, zero behind n, from the keystream in C.
#define SEALBLOCK(j, RECORD, N, C) \
	BLOCK(j, RECORD, N, X10)        \
	PAND  X12, C                    \
	PXOR  X10, C

// SEALSTORE stores block j of the ciphertext. One that begins inside the record ends inside it, and what it takes of the
// tag's room is overwritten by the tag.
#define SEALSTORE(j, RECORD, N, C, skip) \
	CMPQ  N, $(16*(j-1)) \
	JLE   skip           \
	MOVOU C, (16*j)(RECORD)

// SEALHASH hashes a PDU with the ciphertext C1 to C3.
#define SEALHASH(RECORD, N, SLOT, POWER, C1, C2, C3) \
	NOSUMS               \
	MOVOU  reverse<>(SB), X9 \
	MOVOU  (RECORD), X10 \
	PSHUFB X9, X10       \
	PRODUCT(0, POWER)    \
	MOVOU  C1, X10       \
	PSHUFB X9, X10       \
	PRODUCT(16, POWER)   \
	MOVOU  C2, X10       \
	PSHUFB X9, X10       \
	PRODUCT(32, POWER)   \
	MOVOU  C3, X10       \
	PSHUFB X9, X10       \
	PRODUCT(48, POWER)   \
	REDUCE(SLOT, N)

// func sealAESNI(ops *Op, groups int) (done int)
TEXT ·sealAESNI(SB), NOSPLIT, $0-24
	MOVQ ops+0(FP), R15
	MOVQ $0, done+16(FP)

group:
	TAKE(0, SI, R8, R10, NOCHECK)
	TAKE(1, DI, R9, R11, NOCHECK)
	POWERS(SI, R10, R12)
	POWERS(DI, R11, R13)
	MOVOU nonce<>(SB), X13
	MOVOU one<>(SB), X14
	MOVOU (R8), X0
	COUNTERS(SI, X0, X1, X2, X3)
	MOVOU (R9), X4
	COUNTERS(DI, X4, X5, X6, X7)
	ROUND4(AESENC, 1)
	ROUND4(AESENC, 2)
	ROUND4(AESENC, 3)
	ROUND4(AESENC, 4)
	ROUND4(AESENC, 5)
	ROUND4(AESENC, 6)
	ROUND4(AESENC, 7)
	ROUND4(AESENC, 8)
	ROUND4(AESENC, 9)
	ROUND4(AESENC, 10)
	ROUND4(AESENC, 11)
	ROUND4(AESENC, 12)
	ROUND4(AESENC, 13)
	ROUND4(AESENCLAST, 14)
	MASKS(R10)
	SEALBLOCK(1, R8, R10, X1)
	SEALBLOCK(2, R8, R10, X2)
	SEALBLOCK(3, R8, R10, X3)
	MASKS(R11)
	SEALBLOCK(1, R9, R11, X5)
	SEALBLOCK(2, R9, R11, X6)
	SEALBLOCK(3, R9, R11, X7)

	// All is loaded: from here on stores.
	SEALSTORE(1, R8, R10, X1, hash0)
	SEALSTORE(2, R8, R10, X2, hash0)
	SEALSTORE(3, R8, R10, X3, hash0)

hash0:
	SEALHASH(R8, R10, SI, R12, X1, X2, X3)
	PXOR  X13, X0
	MOVOU X0, 16(R8)(R10*1)
	SEALSTORE(1, R9, R11, X5, hash1)
	SEALSTORE(2, R9, R11, X6, hash1)
	SEALSTORE(3, R9, R11, X7, hash1)

hash1:
	SEALHASH(R9, R11, DI, R13, X5, X6, X7)
	PXOR  X13, X4
	MOVOU X4, 16(R9)(R11*1)

	ADDQ $2, done+16(FP)
	ADDQ $(2*Op__size), R15
	DECQ groups+8(FP)
	JNZ  group

other:
	CLEAR
	RET

#define ENCRYPT1(i) \
	MOVOU  SLOT_ROUND(i)(DI), X8 \
	AESENC X8, X0

// TAGFRONT takes slot, record and n in DI, R8 and R10. It makes E(J0) in X0, and puts the length of AAD and ciphertext into DX, the
// place of the tag into R9, and the reversal into X9.
#define TAGFRONT \
	LEAQ 16(R10), DX \
	LEAQ (R8)(DX*1), R9 \
	MOVOU      (R8), X0 \
	MOVOU      nonce<>(SB), X13 \
	MOVOU      SLOT_FIRST(DI), X12 \
	PSHUFB     X13, X0 \
	PXOR       X12, X0 \
	MOVOU      one<>(SB), X12 \
	PXOR       X12, X0 \
	ENCRYPT1(1) \
	ENCRYPT1(2) \
	ENCRYPT1(3) \
	ENCRYPT1(4) \
	ENCRYPT1(5) \
	ENCRYPT1(6) \
	ENCRYPT1(7) \
	ENCRYPT1(8) \
	ENCRYPT1(9) \
	ENCRYPT1(10) \
	ENCRYPT1(11) \
	ENCRYPT1(12) \
	ENCRYPT1(13) \
	MOVOU      SLOT_ROUND(14)(DI), X8 \
	AESENCLAST X8, X0 \
	MOVOU reverse<>(SB), X9 \
	PXOR  X11, X11

// TAGREST hashes what is left: r = 0 to 16 blocks, the last perhaps short, and the length block: powers from H^r+1 on. The state
// joins the first, or stands alone. The 16 bytes from each block on are the record's, for the tag follows. The tag is left in X0.
#define TAGREST \
	LEAQ (SLOT_POWER1-16*15)(DI), R12 \
	NOSUMS \
	LEAQ  15(DX), AX \
	ANDQ  $~15, AX \
	LEAQ  SLOT_POWER1(DI), R12 \
	SUBQ  AX, R12 \
	MOVOU X11, X10 \
	TESTQ DX, DX \
	JEQ   alone \
block: \
	MOVOU  (R8), X10 \
	CMPQ   DX, $16 \
	JGE    whole \
	LEAQ   ones<>+48(SB), AX \
	SUBQ   DX, AX \
	MOVOU  (AX), X12 \
	PAND   X12, X10 \
whole: \
	PSHUFB X9, X10 \
	PXOR   X11, X10 \
alone: \
	PXOR X11, X11 \
	PRODUCT(0, R12) \
	ADDQ $16, R12 \
	ADDQ $16, R8 \
	SUBQ $16, DX \
	JGT  block \
	SHLQ   $3, R10 \
	MOVQ   R10, X10 \
	MOVQ   $128, AX \
	PINSRQ $1, AX, X10 \
	PRODUCT(SLOT_POWER1, DI) \
	MOVOU  X15, X12 \
	PSLLDQ $8, X12 \
	PSRLDQ $8, X15 \
	PXOR   X12, X13 \
	PXOR   X15, X14 \
	FOLD \
	FOLD \
	PXOR   X14, X13 \
	PSHUFB X9, X13 \
	PXOR   X13, X0

// func tagAESNI(slot *keySlot, record *byte, n int, write bool) (same bool)
//
// X11 is the state of GHASH, byte-reversed; X9 is the reversal.
TEXT ·tagAESNI(SB), NOSPLIT, $0-33
	MOVQ slot+0(FP), DI
	MOVQ record+8(FP), R8
	MOVQ n+16(FP), R10
	TAGFRONT

	// Sixteen blocks at a time: state = (state + X1) H^16 + X2 H^15 + ... + X16 H.
sixteen:
	CMPQ DX, $256
	JLT  last
	LEAQ (SLOT_POWER1-16*15)(DI), R12
	NOSUMS
	MOVQ $4, CX

quarter:
	MOVOU  (R8), X10
	PSHUFB X9, X10
	PXOR   X11, X10
	PXOR   X11, X11
	PRODUCT(0, R12)
	MOVOU  16(R8), X10
	PSHUFB X9, X10
	PRODUCT(16, R12)
	MOVOU  32(R8), X10
	PSHUFB X9, X10
	PRODUCT(32, R12)
	MOVOU  48(R8), X10
	PSHUFB X9, X10
	PRODUCT(48, R12)
	ADDQ   $64, R8
	ADDQ   $64, R12
	DECQ   CX
	JNZ    quarter
	MOVOU  X15, X12
	PSLLDQ $8, X12
	PSRLDQ $8, X15
	PXOR   X12, X13
	PXOR   X15, X14
	FOLD
	FOLD
	PXOR   X14, X13
	MOVOU  X13, X11
	SUBQ   $256, DX
	JMP    sixteen

last:
	TAGREST
	CMPB   write+24(FP), $0
	JNE    store
	MOVOU  (R9), X12
	PXOR   X12, X0
	PTEST  X0, X0
	SETEQ  same+32(FP)
	CLEAR
	RET

store:
	MOVOU X0, (R9)
	MOVB  $1, same+32(FP)
	CLEAR
	RET

#define NEXT(X) \
	MOVOU X9, X   \
	PADDL X10, X9

#define EIGHT(op, i) \
	MOVOU SLOT_ROUND(i)(DI), X8 \
	op    X8, X0                \
	op    X8, X1                \
	op    X8, X2                \
	op    X8, X3                \
	op    X8, X4                \
	op    X8, X5                \
	op    X8, X6                \
	op    X8, X7

#define XORTO(off, X) \
	MOVOU off(R8), X8 \
	PXOR  X8, X       \
	MOVOU X, off(R9)

// func cryptAESNI(slot *keySlot, record *byte, n int, dst *byte)
//
// X9 is the next counter, X10 is 1 in the same place, and X14 is what all counter blocks share.
TEXT ·cryptAESNI(SB), NOSPLIT, $8-32
	MOVQ   slot+0(FP), DI
	MOVQ   record+8(FP), R8
	MOVQ   n+16(FP), DX
	MOVQ   dst+24(FP), R9
	MOVOU  (R8), X14
	MOVOU  nonce<>(SB), X13
	MOVOU  SLOT_FIRST(DI), X12
	PSHUFB X13, X14
	PXOR   X12, X14
	MOVOU  one<>(SB), X10
	MOVOU  X10, X9
	PADDL  X10, X9           // counter 2
	ADDQ   $16, R8

eight:
	TESTQ DX, DX
	JEQ   done
	NEXT(X0)
	NEXT(X1)
	NEXT(X2)
	NEXT(X3)
	NEXT(X4)
	NEXT(X5)
	NEXT(X6)
	NEXT(X7)
	PXOR  X14, X0
	PXOR  X14, X1
	PXOR  X14, X2
	PXOR  X14, X3
	PXOR  X14, X4
	PXOR  X14, X5
	PXOR  X14, X6
	PXOR  X14, X7
	EIGHT(AESENC, 1)
	EIGHT(AESENC, 2)
	EIGHT(AESENC, 3)
	EIGHT(AESENC, 4)
	EIGHT(AESENC, 5)
	EIGHT(AESENC, 6)
	EIGHT(AESENC, 7)
	EIGHT(AESENC, 8)
	EIGHT(AESENC, 9)
	EIGHT(AESENC, 10)
	EIGHT(AESENC, 11)
	EIGHT(AESENC, 12)
	EIGHT(AESENC, 13)
	EIGHT(AESENCLAST, 14)
	CMPQ  DX, $128
	JLT   rest
	XORTO(0, X0)
	XORTO(16, X1)
	XORTO(32, X2)
	XORTO(48, X3)
	XORTO(64, X4)
	XORTO(80, X5)
	XORTO(96, X6)
	XORTO(112, X7)
	ADDQ  $128, R8
	ADDQ  $128, R9
	SUBQ  $128, DX
	JMP   eight

	// Fewer than eight blocks, the last perhaps short: one after another, and the keystream moves down.
rest:
	CMPQ  DX, $16
	JLT   short
	XORTO(0, X0)
	MOVOU X1, X0
	MOVOU X2, X1
	MOVOU X3, X2
	MOVOU X4, X3
	MOVOU X5, X4
	MOVOU X6, X5
	MOVOU X7, X6
	ADDQ  $16, R8
	ADDQ  $16, R9
	SUBQ  $16, DX
	JMP   rest

short:
	TESTQ DX, DX
	JEQ   done
	MOVOU (R8), X1           // the tag follows: these 16 bytes are the record's
	PXOR  X0, X1
	MOVQ  R9, BX
	MOVQ  DX, CX
	CALL  put<>(SB)

done:
	CLEAR
	RET

// The same with two blocks in a register, for vaes256.

// PAIR adds the products of 32 bytes in Y10 with the powers at R12+off.
#define PAIR(off) \
	VMOVDQU    off(R12), Y8         \
	VPCLMULQDQ $0x00, Y8, Y10, Y12  \
	VPXOR      Y12, Y13, Y13        \
	VPCLMULQDQ $0x11, Y8, Y10, Y12  \
	VPXOR      Y12, Y14, Y14        \
	VPCLMULQDQ $0x01, Y8, Y10, Y12  \
	VPXOR      Y12, Y15, Y15        \
	VPCLMULQDQ $0x10, Y8, Y10, Y12  \
	VPXOR      Y12, Y15, Y15

#define NEXTPAIR(off) \
	VMOVDQU off(R8), Y10   \
	VPSHUFB Y9, Y10, Y10   \
	PAIR(off)

// BOTH adds the upper half of a register to the lower one.
#define BOTH(Y, X) \
	VEXTRACTI128 $1, Y, X12  \
	VPXOR        X12, X, X

#define FOLDBOTH \
	VMOVDQU    poly<>(SB), X12       \
	VPCLMULQDQ $0x01, X13, X12, X12  \
	VPSHUFD    $0x4e, X13, X13       \
	VPXOR      X12, X13, X13

// func tagVAES256(slot *keySlot, record *byte, n int, write bool) (same bool)
TEXT ·tagVAES256(SB), NOSPLIT, $0-33
	MOVQ slot+0(FP), DI
	MOVQ record+8(FP), R8
	MOVQ n+16(FP), R10
	TAGFRONT
	CMPQ           DX, $256
	JLT            last
	LEAQ           (SLOT_POWER1-16*15)(DI), R12
	VBROADCASTI128 reverse<>(SB), Y9
	VPXOR          Y11, Y11, Y11

sixteen:
	VPXOR   Y13, Y13, Y13
	VPXOR   Y14, Y14, Y14
	VPXOR   Y15, Y15, Y15
	VMOVDQU (R8), Y10
	VPSHUFB Y9, Y10, Y10
	VPXOR   Y11, Y10, Y10
	PAIR(0)
	NEXTPAIR(32)
	NEXTPAIR(64)
	NEXTPAIR(96)
	NEXTPAIR(128)
	NEXTPAIR(160)
	NEXTPAIR(192)
	NEXTPAIR(224)
	BOTH(Y13, X13)
	BOTH(Y14, X14)
	BOTH(Y15, X15)
	VPSLLDQ $8, X15, X12
	VPSRLDQ $8, X15, X15
	VPXOR   X12, X13, X13
	VPXOR   X15, X14, X14
	FOLDBOTH
	FOLDBOTH
	VPXOR   X14, X13, X11
	ADDQ    $256, R8
	SUBQ    $256, DX
	CMPQ    DX, $256
	JGE     sixteen
	VZEROUPPER

last:
	TAGREST
	CMPB   write+24(FP), $0
	JNE    store
	MOVOU  (R9), X12
	PXOR   X12, X0
	PTEST  X0, X0
	SETEQ  same+32(FP)
	CLEAR
	RET

store:
	MOVOU X0, (R9)
	MOVB  $1, same+32(FP)
	CLEAR
	RET

#define NEXTBOTH(Y) \
	VPXOR  Y14, Y9, Y    \
	VPADDD Y10, Y9, Y9

#define SIXTEEN(op, i) \
	VBROADCASTI128 SLOT_ROUND(i)(DI), Y8 \
	op             Y8, Y0, Y0            \
	op             Y8, Y1, Y1            \
	op             Y8, Y2, Y2            \
	op             Y8, Y3, Y3            \
	op             Y8, Y4, Y4            \
	op             Y8, Y5, Y5            \
	op             Y8, Y6, Y6            \
	op             Y8, Y7, Y7

#define XORBOTH(off, Y) \
	VPXOR   off(R8), Y, Y \
	VMOVDQU Y, off(R9)

// func cryptVAES256(slot *keySlot, record *byte, n int, dst *byte)
//
// Y9 are the next two counters, Y10 is 2 in the same places, and Y14 is what all counter blocks share.
TEXT ·cryptVAES256(SB), NOSPLIT, $8-32
	MOVQ           slot+0(FP), DI
	MOVQ           record+8(FP), R8
	MOVQ           n+16(FP), DX
	MOVQ           dst+24(FP), R9
	VBROADCASTI128 (R8), Y14
	VBROADCASTI128 nonce<>(SB), Y13
	VBROADCASTI128 SLOT_FIRST(DI), Y12
	VPSHUFB        Y13, Y14, Y14
	VPXOR          Y12, Y14, Y14
	VMOVDQU        one<>(SB), X10
	VPADDD         X10, X10, X9            // counter 2
	VPADDD         X10, X9, X11            // counter 3
	VINSERTI128    $1, X11, Y9, Y9
	VPADDD         X10, X10, X10
	VINSERTI128    $1, X10, Y10, Y10
	ADDQ           $16, R8

sixteen:
	TESTQ DX, DX
	JEQ   done
	NEXTBOTH(Y0)
	NEXTBOTH(Y1)
	NEXTBOTH(Y2)
	NEXTBOTH(Y3)
	NEXTBOTH(Y4)
	NEXTBOTH(Y5)
	NEXTBOTH(Y6)
	NEXTBOTH(Y7)
	SIXTEEN(VAESENC, 1)
	SIXTEEN(VAESENC, 2)
	SIXTEEN(VAESENC, 3)
	SIXTEEN(VAESENC, 4)
	SIXTEEN(VAESENC, 5)
	SIXTEEN(VAESENC, 6)
	SIXTEEN(VAESENC, 7)
	SIXTEEN(VAESENC, 8)
	SIXTEEN(VAESENC, 9)
	SIXTEEN(VAESENC, 10)
	SIXTEEN(VAESENC, 11)
	SIXTEEN(VAESENC, 12)
	SIXTEEN(VAESENC, 13)
	SIXTEEN(VAESENCLAST, 14)
	CMPQ  DX, $256
	JLT   rest
	XORBOTH(0, Y0)
	XORBOTH(32, Y1)
	XORBOTH(64, Y2)
	XORBOTH(96, Y3)
	XORBOTH(128, Y4)
	XORBOTH(160, Y5)
	XORBOTH(192, Y6)
	XORBOTH(224, Y7)
	ADDQ  $256, R8
	ADDQ  $256, R9
	SUBQ  $256, DX
	JMP   sixteen

	// Fewer than sixteen blocks, the last perhaps short: two after two, and the keystream moves down.
rest:
	CMPQ    DX, $32
	JLT     one
	XORBOTH(0, Y0)
	VMOVDQA Y1, Y0
	VMOVDQA Y2, Y1
	VMOVDQA Y3, Y2
	VMOVDQA Y4, Y3
	VMOVDQA Y5, Y4
	VMOVDQA Y6, Y5
	VMOVDQA Y7, Y6
	ADDQ    $32, R8
	ADDQ    $32, R9
	SUBQ    $32, DX
	JMP     rest

one:
	CMPQ         DX, $16
	JLT          short
	VEXTRACTI128 $1, Y0, X1
	VPXOR        (R8), X0, X0
	VMOVDQU      X0, (R9)
	VMOVDQA      X1, X0
	ADDQ         $16, R8
	ADDQ         $16, R9
	SUBQ         $16, DX

short:
	VZEROUPPER
	TESTQ DX, DX
	JEQ   done
	MOVOU (R8), X1           // the tag follows: these 16 bytes are the record's
	PXOR  X0, X1
	MOVQ  R9, BX
	MOVQ  DX, CX
	CALL  put<>(SB)

done:
	VZEROUPPER
	CLEAR
	RET
