// SPDX-License-Identifier: Apache-2.0

//go:build linux

#include "textflag.h"
#include "go_asm.h"
#include "slot.h"

// Reverses the bytes of a block.
DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

// Takes the AAD apart into what the IV is XORed with: stream id || 0 0 || counter || 0 0 0 0.
DATA nonce<>+0(SB)/8, $0x0b0a808003020100
DATA nonce<>+8(SB)/8, $0x808080800f0e0d0c
DATA nonce<>+16(SB)/8, $0x0b0a808003020100
DATA nonce<>+24(SB)/8, $0x808080800f0e0d0c
DATA nonce<>+32(SB)/8, $0x0b0a808003020100
DATA nonce<>+40(SB)/8, $0x808080800f0e0d0c
DATA nonce<>+48(SB)/8, $0x0b0a808003020100
DATA nonce<>+56(SB)/8, $0x808080800f0e0d0c
GLOBL nonce<>(SB), RODATA|NOPTR, $64

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

// x^128 + x^127 + x^126 + x^121 + 1 without its first term.
DATA poly<>+0(SB)/8, $0x0000000000000001
DATA poly<>+8(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), RODATA|NOPTR, $16

// What is added to four counter blocks for the next four. No carry leaves the last byte: see maxBlocks.
DATA four<>+0(SB)/8, $0
DATA four<>+8(SB)/8, $0x0400000000000000
GLOBL four<>(SB), RODATA|NOPTR, $16

DATA one<>+0(SB)/8, $0
DATA one<>+8(SB)/8, $0x0100000000000000
GLOBL one<>(SB), RODATA|NOPTR, $16

#define REVERSE Z31
#define NONCE   Z28
#define COUNT   Z29
#define POLY    Z30

#define CONSTANTS \
	VBROADCASTI32X4 reverse<>(SB), REVERSE \
	VBROADCASTI32X4 nonce<>(SB), NONCE     \
	VMOVDQU64       count<>(SB), COUNT     \
	VBROADCASTI32X4 poly<>(SB), POLY

// Nothing of a key, a keystream or a plaintext stays behind.
#define CLEAR \
	VZEROALL             \
	VPXORQ Z16, Z16, Z16 \
	VPXORQ Z17, Z17, Z17 \
	VPXORQ Z18, Z18, Z18 \
	VPXORQ Z19, Z19, Z19 \
	VPXORQ Z20, Z20, Z20 \
	VPXORQ Z21, Z21, Z21 \
	VPXORQ Z22, Z22, Z22 \
	VPXORQ Z23, Z23, Z23 \
	VPXORQ Z24, Z24, Z24 \
	VPXORQ Z25, Z25, Z25 \
	VPXORQ Z26, Z26, Z26 \
	VPXORQ Z27, Z27, Z27 \
	VPXORQ Z28, Z28, Z28 \
	VPXORQ Z29, Z29, Z29 \
	VPXORQ Z30, Z30, Z30 \
	VPXORQ Z31, Z31, Z31

// The registers of one PDU, and what their four lanes hold:
//
//	data    AAD    C1   C2   C3     one masked load of record[:16+n], zero behind it
//	cipher  E(J0)  KS2  KS3  KS4    counter blocks 1 to 4 under the PDU's own key
//	power   H^m+2  ...              m blocks of ciphertext; lanes behind them meet zeros
//
// Four PDUs are a group. What they have in common after their products are summed up has one lane for each.
//
//	R15         the group's operations
//	R14         -1
//	SI DI R8 R9 slots
//	Z0 to Z3    cipher
//	Z8 to Z11   data
//	Z18 to Z26  products, then sums
//	Z27 to Z29  used inside the macros

// FIELD is a field of the i-th operation of the group.
#define FIELD(i, field) ((field)+(i)*Op__size)(R15)

// ASK finds operation i, if it is one for this kernel: with a key, 0 to 48 bytes of ciphertext, and what CHECK asks. If not, it
// jumps.
#define ASK(i, SLOT, CHECK, otherwise) \
	MOVQ  FIELD(i, Op_Record+8), DX \
	MOVQ  FIELD(i, Op_Key), SLOT    \
	LEAQ  -32(DX), CX               \
	CMPQ  CX, $const_fastText       \
	JHI   otherwise                 \
	CHECK(i, otherwise)             \
	TESTQ SLOT, SLOT                \
	JEQ   otherwise                 \
	MOVQ  Key_slot(SLOT), SLOT      \
	TESTQ SLOT, SLOT                \
	JEQ   otherwise

// TAKE loads the data of operation i once, and all that follows is made from the register: what has been hashed is what is
// decrypted, and what the nonce is made of, even if the record should change meanwhile. It leaves 16+n in DX.
#define TAKE(i, SLOT, DATA, CIPHER) \
	MOVQ            FIELD(i, Op_Record+8), DX       \
	MOVQ            FIELD(i, Op_Record), BX         \
	SUBQ            $16, DX                         \
	BZHIQ           DX, R14, AX                     \
	KMOVQ           AX, K1                          \
	VMOVDQU8.Z      (BX), K1, DATA                  \
	VSHUFI64X2      $0, DATA, DATA, CIPHER          \
	VBROADCASTI32X4 SLOT_FIRST(SLOT), Z29           \
	VPSHUFB         nonce<>(SB), CIPHER, CIPHER     \
	VPTERNLOGQ      $0x96, count<>(SB), Z29, CIPHER

#define NOCHECK(i, otherwise)

// DSTCHECK: Dst has room for n bytes, which are in CX.
#define DSTCHECK(i, otherwise) \
	CMPQ CX, FIELD(i, Op_Dst+16) \
	JGT  otherwise

#define ONE(op, off, SLOT, CIPHER) \
	VBROADCASTI32X4 off(SLOT), Z29      \
	op              Z29, CIPHER, CIPHER

// ROUND does round i of the four, each under its own key. THEIRS does so for the four in the other half of the registers.
#define ROUND(op, i) \
	ONE(op, SLOT_ROUND(i), SI, Z0) \
	ONE(op, SLOT_ROUND(i), DI, Z1) \
	ONE(op, SLOT_ROUND(i), R8, Z2) \
	ONE(op, SLOT_ROUND(i), R9, Z3)

#define THEIRS(op, i) \
	ONE(op, SLOT_ROUND(i), R10, Z4) \
	ONE(op, SLOT_ROUND(i), R11, Z5) \
	ONE(op, SLOT_ROUND(i), R12, Z6) \
	ONE(op, SLOT_ROUND(i), R13, Z7)

// PRODUCTS multiplies the blocks of DATA with their powers of H, without carry and without reduction. 16+n-1 without
// its low bits is 16*m, and so many bytes in front of H^2 lies the power that the AAD meets.
#define PRODUCTS(i, SLOT, DATA, LO, MID, HI) \
	MOVQ       FIELD(i, Op_Record+8), DX         \
	VPSHUFB    REVERSE, DATA, Z28                \
	SUBQ       $17, DX                           \
	ANDQ       $~15, DX                          \
	NEGQ       DX                                \
	VMOVDQU64  (SLOT_POWER1-16)(SLOT)(DX*1), Z27 \
	VPCLMULQDQ $0x00, Z27, Z28, LO               \
	VPCLMULQDQ $0x11, Z27, Z28, HI               \
	VPCLMULQDQ $0x01, Z27, Z28, MID              \
	VPCLMULQDQ $0x10, Z27, Z28, Z27              \
	VPXORQ     Z27, MID, MID

// PAIR halves the lanes of A and B: A becomes [a0+a2, a1+a3, b0+b2, b1+b3].
#define PAIR(A, B) \
	VSHUFI64X2 $0x44, B, A, Z28 \
	VSHUFI64X2 $0xee, B, A, A   \
	VPXORQ     Z28, A, A

// JOIN does so again: A becomes [a, b, c, d] of two pairs.
#define JOIN(A, C) \
	VSHUFI64X2 $0x88, C, A, Z28 \
	VSHUFI64X2 $0xdd, C, A, A   \
	VPXORQ     Z28, A, A

// FOLD is half of the Montgomery reduction, X / x^64, in each lane.
#define FOLD(X) \
	VPCLMULQDQ $0x01, X, POLY, Z28 \
	VPSHUFD    $0x4e, X, X         \
	VPXORQ     Z28, X, X

// LENGTH puts the product of the length block of operation i into its lane of Z21. It leaves the record in BX, and in
// CX its length.
#define LENGTH(i, lane, SLOT) \
	MOVQ         FIELD(i, Op_Record), BX                           \
	MOVQ         FIELD(i, Op_Record+8), CX                         \
	MOVQ         CX, DX                                            \
	SHLQ         $4, DX                                            \
	VINSERTI32X4 lane, (SLOT_LENGTH-16*32)(SLOT)(DX*1), Z21, Z21

// REDUCE makes the four values of GHASH from the sums in Z18 to Z20 and from the products of the lengths, in the order
// of bytes that tags have.
#define REDUCE(OUT) \
	VPSLLDQ    $8, Z19, Z28         \
	VPSRLDQ    $8, Z19, Z19         \
	VPXORQ     Z28, Z18, Z18        \
	VPXORQ     Z19, Z20, Z20        \
	FOLD(Z18)                       \
	FOLD(Z18)                       \
	VPTERNLOGQ $0x96, Z20, Z21, Z18 \
	VPSHUFB    REVERSE, Z18, OUT

// FIRSTS collects E(J0) of the four.
#define FIRSTS(Z0, X1, X2, X3, OUT) \
	VINSERTI32X4 $1, X1, Z0, OUT  \
	VINSERTI32X4 $2, X2, OUT, OUT \
	VINSERTI32X4 $3, X3, OUT, OUT

// CAME puts the tag that came with a record, which LENGTH has left in BX and CX, into its lane of Z22.
#define CAME(lane) \
	VINSERTI32X4 lane, -16(BX)(CX*1), Z22, Z22

// REPORT reports on operation i and stores its plaintext if and only if bit 2*i of AX is set: for a PDU that is refused
// length and mask are zero.
#define REPORT(i, DATA, CIPHER) \
	MOVQ     FIELD(i, Op_Record+8), DX  \
	BTL      $(2*i), AX                 \
	SETCS    FIELD(i, Op_OK)            \
	SBBQ     CX, CX                     \
	SUBQ     $32, DX                    \
	ANDQ     CX, DX                     \
	MOVQ     FIELD(i, Op_Dst), BX       \
	MOVQ     DX, FIELD(i, Op_N)         \
	BZHIQ    DX, R14, DX                \
	KMOVQ    DX, K1                     \
	VPXORQ   DATA, CIPHER, CIPHER       \
	VALIGNQ  $2, CIPHER, CIPHER, CIPHER \
	VMOVDQU8 CIPHER, K1, (BX)

// FIRSTHALF is rounds 1 to 9 of a group, and the whole of GHASH, the values of which are left in Z16 and the tags that came in Z22. The
// two do not depend on each other: their lines alternate, so that both units have work.
#define FIRSTHALF(DO, A, B, C, D, DA, DB, DC, DD) \
	PRODUCTS(0, A, DA, Z18, Z19, Z20) \
	DO(VAESENC, 1)                    \
	PRODUCTS(1, B, DB, Z21, Z22, Z23) \
	DO(VAESENC, 2)                    \
	PAIR(Z18, Z21)                    \
	PAIR(Z19, Z22)                    \
	PAIR(Z20, Z23)                    \
	DO(VAESENC, 3)                    \
	PRODUCTS(2, C, DC, Z21, Z22, Z23) \
	DO(VAESENC, 4)                    \
	PRODUCTS(3, D, DD, Z24, Z25, Z26) \
	DO(VAESENC, 5)                    \
	PAIR(Z21, Z24)                    \
	PAIR(Z22, Z25)                    \
	PAIR(Z23, Z26)                    \
	DO(VAESENC, 6)                    \
	JOIN(Z18, Z21)                    \
	JOIN(Z19, Z22)                    \
	JOIN(Z20, Z23)                    \
	DO(VAESENC, 7)                    \
	LENGTH(0, $0, A)                  \
	CAME($0)                          \
	LENGTH(1, $1, B)                  \
	CAME($1)                          \
	DO(VAESENC, 8)                    \
	LENGTH(2, $2, C)                  \
	CAME($2)                          \
	LENGTH(3, $3, D)                  \
	CAME($3)                          \
	DO(VAESENC, 9)                    \
	REDUCE(Z16)

// VERDICT compares all sixteen bytes of GHASH XOR the tag that came with E(J0), whatever differs first. A PDU is right when
// both of its words are. What REPORT asks for is left in AX.
#define VERDICT(C0, X1, X2, X3) \
	FIRSTS(C0, X1, X2, X3, Z18) \
	VPCMPEQQ Z16, Z18, K1       \
	KMOVB    K1, AX             \
	MOVL     AX, BX             \
	SHRL     $1, BX             \
	ANDL     BX, AX             \
	ANDL     $0x55, AX          \
	POPCNTL  AX, BX             \
	ADDQ     BX, accepted+32(FP)

// func openVAES512(ops *Op, groups int, aside *aside) (done, accepted int)
//
// It stores under a mask, which is zero for a PDU that is refused, and needs no place aside.
//
// A group's rounds wait for one another, so the next group is taken meanwhile, into the other half of the registers:
//
//	           slots           cipher    data
//	one group  SI, DI, R8, R9  Z0 to Z3  Z8 to Z11
//	the next   R10 to R13      Z4 to Z7  Z12 to Z15
TEXT ·openVAES512(SB), NOSPLIT, $0-40
	MOVQ ops+0(FP), R15
	MOVQ $0, done+24(FP)
	MOVQ $0, accepted+32(FP)
	MOVQ $-1, R14
	CONSTANTS
	ASK(0, SI, DSTCHECK, other)
	ASK(1, DI, DSTCHECK, other)
	ASK(2, R8, DSTCHECK, other)
	ASK(3, R9, DSTCHECK, other)
	TAKE(0, SI, Z8, Z0)
	TAKE(1, DI, Z9, Z1)
	TAKE(2, R8, Z10, Z2)
	TAKE(3, R9, Z11, Z3)

group:
	DECQ groups+8(FP)
	JEQ  last
	ASK(4, R10, DSTCHECK, last)
	ASK(5, R11, DSTCHECK, last)
	ASK(6, R12, DSTCHECK, last)
	ASK(7, R13, DSTCHECK, last)
	FIRSTHALF(ROUND, SI, DI, R8, R9, Z8, Z9, Z10, Z11)
	ROUND(VAESENC, 10)
	VPXORQ Z22, Z16, Z16
	TAKE(4, R10, Z12, Z4)
	ROUND(VAESENC, 11)
	TAKE(5, R11, Z13, Z5)
	ROUND(VAESENC, 12)
	TAKE(6, R12, Z14, Z6)
	ROUND(VAESENC, 13)
	TAKE(7, R13, Z15, Z7)
	ROUND(VAESENCLAST, 14)
	VERDICT(Z0, X1, X2, X3)
	REPORT(0, Z8, Z0)
	REPORT(1, Z9, Z1)
	REPORT(2, Z10, Z2)
	REPORT(3, Z11, Z3)
	ADDQ $4, done+24(FP)
	ADDQ $(4*Op__size), R15

	DECQ groups+8(FP)
	JEQ  theirs
	ASK(4, SI, DSTCHECK, theirs)
	ASK(5, DI, DSTCHECK, theirs)
	ASK(6, R8, DSTCHECK, theirs)
	ASK(7, R9, DSTCHECK, theirs)
	FIRSTHALF(THEIRS, R10, R11, R12, R13, Z12, Z13, Z14, Z15)
	THEIRS(VAESENC, 10)
	VPXORQ Z22, Z16, Z16
	TAKE(4, SI, Z8, Z0)
	THEIRS(VAESENC, 11)
	TAKE(5, DI, Z9, Z1)
	THEIRS(VAESENC, 12)
	TAKE(6, R8, Z10, Z2)
	THEIRS(VAESENC, 13)
	TAKE(7, R9, Z11, Z3)
	THEIRS(VAESENCLAST, 14)
	VERDICT(Z4, X5, X6, X7)
	REPORT(0, Z12, Z4)
	REPORT(1, Z13, Z5)
	REPORT(2, Z14, Z6)
	REPORT(3, Z15, Z7)
	ADDQ $4, done+24(FP)
	ADDQ $(4*Op__size), R15
	JMP  group

theirs:
	MOVQ      R10, SI
	MOVQ      R11, DI
	MOVQ      R12, R8
	MOVQ      R13, R9
	VMOVDQA64 Z4, Z0
	VMOVDQA64 Z5, Z1
	VMOVDQA64 Z6, Z2
	VMOVDQA64 Z7, Z3
	VMOVDQA64 Z12, Z8
	VMOVDQA64 Z13, Z9
	VMOVDQA64 Z14, Z10
	VMOVDQA64 Z15, Z11

last:
	FIRSTHALF(ROUND, SI, DI, R8, R9, Z8, Z9, Z10, Z11)
	ROUND(VAESENC, 10)
	VPXORQ Z22, Z16, Z16
	ROUND(VAESENC, 11)
	ROUND(VAESENC, 12)
	ROUND(VAESENC, 13)
	ROUND(VAESENCLAST, 14)
	VERDICT(Z0, X1, X2, X3)
	REPORT(0, Z8, Z0)
	REPORT(1, Z9, Z1)
	REPORT(2, Z10, Z2)
	REPORT(3, Z11, Z3)
	ADDQ $4, done+24(FP)

other:
	CLEAR
	RET

// SEALDATA makes [AAD, C1, C2, C3] of operation i in DATA from the plaintext there and the keystream, and stores the
// ciphertext. Lane 0 of the keystream is E(J0): it must not be used, and what lies behind the plaintext neither.
#define SEALDATA(i, DATA, CIPHER) \
	MOVQ       FIELD(i, Op_Record), BX   \
	MOVQ       FIELD(i, Op_Record+8), DX \
	SUBQ       $16, DX                   \
	BZHIQ      DX, R14, AX               \
	ANDQ       $~0xffff, AX              \
	KMOVQ      AX, K1                    \
	VMOVDQU8.Z CIPHER, K1, CIPHER        \
	VPXORQ     CIPHER, DATA, DATA        \
	VMOVDQU8   DATA, K1, (BX)

// PUTTAG stores the tag of operation i, a lane of Z18.
#define PUTTAG(i, lane) \
	MOVQ          FIELD(i, Op_Record), BX      \
	MOVQ          FIELD(i, Op_Record+8), CX    \
	VEXTRACTI32X4 lane, Z18, -16(BX)(CX*1)

// func sealVAES512(ops *Op, groups int) (done int)
TEXT ·sealVAES512(SB), NOSPLIT, $0-24
	MOVQ ops+0(FP), R15
	MOVQ $0, done+16(FP)
	MOVQ $-1, R14
	CONSTANTS

group:
	ASK(0, SI, NOCHECK, other)
	ASK(1, DI, NOCHECK, other)
	ASK(2, R8, NOCHECK, other)
	ASK(3, R9, NOCHECK, other)
	TAKE(0, SI, Z8, Z0)
	TAKE(1, DI, Z9, Z1)
	TAKE(2, R8, Z10, Z2)
	TAKE(3, R9, Z11, Z3)
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
	FIRSTS(Z0, X1, X2, X3, Z16)
	SEALDATA(0, Z8, Z0)
	PRODUCTS(0, SI, Z8, Z18, Z19, Z20)
	SEALDATA(1, Z9, Z1)
	PRODUCTS(1, DI, Z9, Z21, Z22, Z23)
	PAIR(Z18, Z21)
	PAIR(Z19, Z22)
	PAIR(Z20, Z23)
	SEALDATA(2, Z10, Z2)
	PRODUCTS(2, R8, Z10, Z21, Z22, Z23)
	SEALDATA(3, Z11, Z3)
	PRODUCTS(3, R9, Z11, Z24, Z25, Z26)
	PAIR(Z21, Z24)
	PAIR(Z22, Z25)
	PAIR(Z23, Z26)
	JOIN(Z18, Z21)
	JOIN(Z19, Z22)
	JOIN(Z20, Z23)
	LENGTH(0, $0, SI)
	LENGTH(1, $1, DI)
	LENGTH(2, $2, R8)
	LENGTH(3, $3, R9)
	REDUCE(Z18)
	VPXORQ Z16, Z18, Z18
	PUTTAG(0, $0)
	PUTTAG(1, $1)
	PUTTAG(2, $2)
	PUTTAG(3, $3)

	ADDQ $4, done+16(FP)
	ADDQ $(4*Op__size), R15
	DECQ groups+8(FP)
	JNZ  group

other:
	CLEAR
	RET

// CHUNK adds the products of 64 bytes in DATA with the powers at offset off from SI to Z4 (low), Z5 (middle) and Z6
// (high).
#define CHUNK(DATA, off) \
	VPSHUFB    REVERSE, DATA, DATA  \
	CHUNKREVERSED(DATA, off)

#define CHUNKREVERSED(DATA, off) \
	VMOVDQU64  off(SI), Z8           \
	VPCLMULQDQ $0x00, Z8, DATA, Z9   \
	VPCLMULQDQ $0x11, Z8, DATA, Z10  \
	VPCLMULQDQ $0x01, Z8, DATA, Z11  \
	VPCLMULQDQ $0x10, Z8, DATA, Z12  \
	VPXORQ     Z9, Z4, Z4            \
	VPXORQ     Z10, Z6, Z6           \
	VPTERNLOGQ $0x96, Z11, Z12, Z5

// ACROSS adds up the four lanes of a register: Z and X are its names.
#define ACROSS(Z, X) \
	VEXTRACTI32X4 $1, Z, X9  \
	VEXTRACTI32X4 $2, Z, X10 \
	VEXTRACTI32X4 $3, Z, X11 \
	VPXOR         X9, X, X   \
	VPXOR         X10, X, X  \
	VPXOR         X11, X, X

// GATHER reduces the sums into X7, byte-reversed: the state of GHASH.
#define GATHER \
	ACROSS(Z4, X4)         \
	ACROSS(Z5, X5)         \
	ACROSS(Z6, X6)         \
	GATHERLOW

#define GATHERLOW \
	VPSLLDQ $8, X5, X9     \
	VPSRLDQ $8, X5, X5     \
	VPXOR   X9, X4, X4     \
	VPXOR   X5, X6, X6     \
	FOLDLOW(X4)            \
	FOLDLOW(X4)            \
	VPXOR   X6, X4, X7

#define FOLDLOW(X) \
	VPCLMULQDQ $0x01, X, X30, X9 \
	VPSHUFD    $0x4e, X, X       \
	VPXOR      X9, X, X

// LEFT makes a mask of the DX bytes that are left, at most 64, and takes 64 away from DX, down to 0.
#define LEFT(MASK) \
	MOVQ    $-1, AX      \
	BZHIQ   DX, AX, AX   \
	KMOVQ   AX, MASK     \
	XORL    AX, AX       \
	SUBQ    $64, DX      \
	CMOVQLT AX, DX

#define ENCRYPT1(i) \
	VAESENC SLOT_ROUND(i)(DI), X0, X0

// func tagVAES512(slot *keySlot, record *byte, n int, write bool) (same bool)
TEXT ·tagVAES512(SB), NOSPLIT, $0-33
	MOVQ slot+0(FP), DI
	MOVQ record+8(FP), BX
	MOVQ n+16(FP), CX
	LEAQ 16(CX), DX          // bytes left: AAD and ciphertext
	LEAQ (BX)(DX*1), R8      // the tag's place
	CONSTANTS

	// E(J0).
	VMOVDQU    (BX), X0
	VPSHUFB    X28, X0, X0
	VPXOR      SLOT_FIRST(DI), X0, X0
	VPXOR      one<>(SB), X0, X0
	ENCRYPT1(1)
	ENCRYPT1(2)
	ENCRYPT1(3)
	ENCRYPT1(4)
	ENCRYPT1(5)
	ENCRYPT1(6)
	ENCRYPT1(7)
	ENCRYPT1(8)
	ENCRYPT1(9)
	ENCRYPT1(10)
	ENCRYPT1(11)
	ENCRYPT1(12)
	ENCRYPT1(13)
	VAESENCLAST SLOT_ROUND(14)(DI), X0, X0

	// Sixteen blocks at a time: state = (state + X1) H^16 + X2 H^15 + ... + X16 H.
	VPXOR X7, X7, X7
	LEAQ  (SLOT_POWER1-16*15)(DI), SI

sixteen:
	CMPQ      DX, $256
	JLT       rest
	VPXORQ    Z4, Z4, Z4
	VPXORQ    Z5, Z5, Z5
	VPXORQ    Z6, Z6, Z6
	VMOVDQU64 (BX), Z1
	VPSHUFB   REVERSE, Z1, Z1
	VPXORQ    Z7, Z1, Z1
	CHUNKREVERSED(Z1, 0)
	VMOVDQU64 64(BX), Z1
	CHUNK(Z1, 64)
	VMOVDQU64 128(BX), Z1
	CHUNK(Z1, 128)
	VMOVDQU64 192(BX), Z1
	CHUNK(Z1, 192)
	GATHER
	ADDQ      $256, BX
	SUBQ      $256, DX
	JMP       sixteen

	// What is left are r = 0 to 16 blocks, the last perhaps short, and the length block: powers from H^r+1 on.
	// Registers behind the last block are zero, whatever power they meet.
rest:
	LEAQ      15(DX), AX
	ANDQ      $~15, AX
	LEAQ      SLOT_POWER1(DI), SI
	SUBQ      AX, SI
	VPXORQ    Z4, Z4, Z4
	VPXORQ    Z5, Z5, Z5
	VPXORQ    Z6, Z6, Z6
	LEFT(K1)
	LEFT(K2)
	LEFT(K3)
	LEFT(K4)
	VMOVDQU8.Z (BX), K1, Z1
	VPSHUFB   REVERSE, Z1, Z1
	VPXORQ    Z7, Z1, Z1
	CHUNKREVERSED(Z1, 0)
	VMOVDQU8.Z 64(BX), K2, Z1
	CHUNK(Z1, 64)
	VMOVDQU8.Z 128(BX), K3, Z1
	CHUNK(Z1, 128)
	VMOVDQU8.Z 192(BX), K4, Z1
	CHUNK(Z1, 192)
	ACROSS(Z4, X4)
	ACROSS(Z5, X5)
	ACROSS(Z6, X6)

	// The length block: 128 bits of AAD, 8*n bits of ciphertext, times H.
	SHLQ       $3, CX
	VMOVQ      CX, X1
	MOVQ       $128, AX
	VPINSRQ    $1, AX, X1, X1
	VMOVDQU    SLOT_POWER1(DI), X8
	VPCLMULQDQ $0x00, X8, X1, X9
	VPCLMULQDQ $0x11, X8, X1, X10
	VPCLMULQDQ $0x01, X8, X1, X11
	VPCLMULQDQ $0x10, X8, X1, X12
	VPXOR      X9, X4, X4
	VPXOR      X10, X6, X6
	VPXOR      X11, X5, X5
	VPXOR      X12, X5, X5
	GATHERLOW

	VPSHUFB X31, X7, X7
	VPXOR   X0, X7, X7
	CMPB    write+24(FP), $0
	JNE     store
	VPXOR   (R8), X7, X7
	VPTEST  X7, X7
	SETEQ   same+32(FP)
	CLEAR
	RET

store:
	VMOVDQU X7, (R8)
	MOVB    $1, same+32(FP)
	CLEAR
	RET

#define KEY(i, K) \
	VBROADCASTI32X4 SLOT_ROUND(i)(DI), K

// NEXT16 makes the next sixteen blocks of keystream in Z0 to Z3.
#define NEXT16 \
	VPXORQ Z12, Z13, Z0  \
	VPADDD Z14, Z13, Z13 \
	VPXORQ Z12, Z13, Z1  \
	VPADDD Z14, Z13, Z13 \
	VPXORQ Z12, Z13, Z2  \
	VPADDD Z14, Z13, Z13 \
	VPXORQ Z12, Z13, Z3  \
	VPADDD Z14, Z13, Z13 \
	ALL(Z15)             \
	ALL(Z16)             \
	ALL(Z17)             \
	ALL(Z18)             \
	ALL(Z19)             \
	ALL(Z20)             \
	ALL(Z21)             \
	ALL(Z22)             \
	ALL(Z23)             \
	ALL(Z24)             \
	ALL(Z25)             \
	ALL(Z26)             \
	ALL(Z27)             \
	VAESENCLAST Z29, Z0, Z0 \
	VAESENCLAST Z29, Z1, Z1 \
	VAESENCLAST Z29, Z2, Z2 \
	VAESENCLAST Z29, Z3, Z3

#define ALL(K) \
	VAESENC K, Z0, Z0 \
	VAESENC K, Z1, Z1 \
	VAESENC K, Z2, Z2 \
	VAESENC K, Z3, Z3

// func cryptVAES512(slot *keySlot, record *byte, n int, dst *byte, keep uint64)
//
// It stores under the mask keep, -1 or 0: 0 is for a record that is refused, of which nothing is stored while all else is done.
// // Z12 is the part that all counter blocks share, Z13 the counters of the next four, Z15 to Z27 and Z29 are the round
// keys.
TEXT ·cryptVAES512(SB), NOSPLIT, $0-40
	MOVQ slot+0(FP), DI
	MOVQ record+8(FP), BX
	MOVQ n+16(FP), DX
	MOVQ dst+24(FP), R8
	MOVQ keep+32(FP), AX
	KMOVQ AX, K5
	CONSTANTS
	VBROADCASTI32X4 (BX), Z12
	VPSHUFB         NONCE, Z12, Z12
	VBROADCASTI32X4 SLOT_FIRST(DI), Z0
	VPXORQ          Z0, Z12, Z12
	VBROADCASTI32X4 one<>(SB), Z0
	VPADDD          COUNT, Z0, Z13
	VBROADCASTI32X4 four<>(SB), Z14
	KEY(1, Z15)
	KEY(2, Z16)
	KEY(3, Z17)
	KEY(4, Z18)
	KEY(5, Z19)
	KEY(6, Z20)
	KEY(7, Z21)
	KEY(8, Z22)
	KEY(9, Z23)
	KEY(10, Z24)
	KEY(11, Z25)
	KEY(12, Z26)
	KEY(13, Z27)
	KEY(14, Z29)
	ADDQ $16, BX

sixteen:
	CMPQ      DX, $256
	JLT       rest
	NEXT16
	VPXORQ    (BX), Z0, Z0
	VPXORQ    64(BX), Z1, Z1
	VPXORQ    128(BX), Z2, Z2
	VPXORQ    192(BX), Z3, Z3
	VMOVDQU64 Z0, K5, (R8)
	VMOVDQU64 Z1, K5, 64(R8)
	VMOVDQU64 Z2, K5, 128(R8)
	VMOVDQU64 Z3, K5, 192(R8)
	ADDQ      $256, BX
	ADDQ      $256, R8
	SUBQ      $256, DX
	JMP       sixteen

rest:
	TESTQ      DX, DX
	JEQ        done
	LEFT(K1)
	LEFT(K2)
	LEFT(K3)
	LEFT(K4)
	NEXT16
	VMOVDQU8.Z (BX), K1, Z4
	VMOVDQU8.Z 64(BX), K2, Z5
	VMOVDQU8.Z 128(BX), K3, Z6
	VMOVDQU8.Z 192(BX), K4, Z7
	VPXORQ     Z4, Z0, Z0
	VPXORQ     Z5, Z1, Z1
	VPXORQ     Z6, Z2, Z2
	VPXORQ     Z7, Z3, Z3
	KANDQ      K5, K1, K1
	KANDQ      K5, K2, K2
	KANDQ      K5, K3, K3
	KANDQ      K5, K4, K4
	VMOVDQU8   Z0, K1, (R8)
	VMOVDQU8   Z1, K2, 64(R8)
	VMOVDQU8   Z2, K3, 128(R8)
	VMOVDQU8   Z3, K4, 192(R8)

done:
	CLEAR
	RET
