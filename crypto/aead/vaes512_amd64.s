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
GLOBL nonce<>(SB), RODATA|NOPTR, $16

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
#define NONCE   Z30
#define COUNT   Z29
#define POLY    Z28

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

// The lanes of a PDU's registers:
//
//	data    AAD    C1   C2   C3     one masked load of record[:16+n], zero behind it
//	cipher  E(J0)  KS2  KS3  KS4    counter blocks 1 to 4 under the PDU's own key
//	power   H^m+2  ...              m blocks of ciphertext; lanes behind them meet zeros
//
// K1 to K4 are the masks of the loads. Z20 collects the tags that came with the records, Z21 the products of the
// lengths.

// LOAD finds operation number i of the group and brings its data and first counter blocks into registers. It leaves
// the record in BX and 16+n in DX.
#define LOAD(i, OP, SLOT, MASK, DATA, CIPHER) \
	MOVL            4*i(R15), AX            \
	IMUL3Q          $Op__size, AX, AX       \
	MOVQ            ops+0(FP), OP           \
	ADDQ            AX, OP                  \
	MOVQ            Op_Key(OP), SLOT        \
	MOVQ            Key_slot(SLOT), SLOT    \
	MOVQ            Op_Record(OP), BX       \
	MOVQ            (Op_Record+8)(OP), DX   \
	SUBQ            $16, DX                 \
	MOVQ            $-1, AX                 \
	BZHIQ           DX, AX, AX              \
	KMOVQ           AX, MASK                \
	VMOVDQU8.Z      (BX), MASK, DATA        \
	VBROADCASTI32X4 (BX), CIPHER            \
	VPSHUFB         NONCE, CIPHER, CIPHER   \
	VBROADCASTI32X4 SLOT_FIRST(SLOT), Z27   \
	VPTERNLOGQ      $0x96, COUNT, Z27, CIPHER

// POWERS brings the powers of H for a PDU with 16+n in DX into Z27 and leaves the offset of its length's product in
// AX. 16+n-1 without its low bits is 16*m.
#define POWERS(SLOT) \
	MOVQ      DX, AX                            \
	DECQ      DX                                \
	ANDQ      $~15, DX                          \
	NEGQ      DX                                \
	VMOVDQU64 (SLOT_POWER1-16)(SLOT)(DX*1), Z27 \
	SHLQ      $4, AX

// HASH multiplies the blocks of DATA with the powers in Z27, without carry and without reduction. Z25 and Z26 change.
#define HASH(DATA, LO, MID, HI) \
	VPSHUFB    REVERSE, DATA, Z25   \
	VPCLMULQDQ $0x00, Z27, Z25, LO  \
	VPCLMULQDQ $0x11, Z27, Z25, HI  \
	VPCLMULQDQ $0x01, Z27, Z25, MID \
	VPCLMULQDQ $0x10, Z27, Z25, Z26 \
	VPXORQ     Z26, MID, MID

// ROUND does round i of the four, each under its own key.
#define ROUND(i) \
	VBROADCASTI32X4 SLOT_ROUND(i)(SI), Z22  \
	VBROADCASTI32X4 SLOT_ROUND(i)(DI), Z23  \
	VBROADCASTI32X4 SLOT_ROUND(i)(R12), Z24 \
	VBROADCASTI32X4 SLOT_ROUND(i)(R13), Z25 \
	VAESENC         Z22, Z0, Z0             \
	VAESENC         Z23, Z1, Z1             \
	VAESENC         Z24, Z2, Z2             \
	VAESENC         Z25, Z3, Z3

#define LASTROUND \
	VBROADCASTI32X4 SLOT_ROUND(14)(SI), Z22  \
	VBROADCASTI32X4 SLOT_ROUND(14)(DI), Z23  \
	VBROADCASTI32X4 SLOT_ROUND(14)(R12), Z24 \
	VBROADCASTI32X4 SLOT_ROUND(14)(R13), Z25 \
	VAESENCLAST     Z22, Z0, Z0              \
	VAESENCLAST     Z23, Z1, Z1              \
	VAESENCLAST     Z24, Z2, Z2              \
	VAESENCLAST     Z25, Z3, Z3

// SUM adds up the four lanes of each of A, B, C and D; the sums become the four lanes of A.
#define SUM(A, B, C, D) \
	VSHUFI64X2 $0x44, B, A, Z26 \
	VSHUFI64X2 $0xee, B, A, A   \
	VPXORQ     Z26, A, A        \
	VSHUFI64X2 $0x44, D, C, Z27 \
	VSHUFI64X2 $0xee, D, C, C   \
	VPXORQ     Z27, C, C        \
	VSHUFI64X2 $0x88, C, A, B   \
	VSHUFI64X2 $0xdd, C, A, A   \
	VPXORQ     B, A, A

// FOLD is half of the Montgomery reduction, X / x^64, in each lane.
#define FOLD(X) \
	VPCLMULQDQ $0x01, X, POLY, Z26 \
	VPSHUFD    $0x4e, X, X         \
	VPXORQ     Z26, X, X

// REDUCE makes four values of GHASH, still byte-reversed, from the sums, and reverses them into LO.
#define REDUCE(LO, MID, HI) \
	VPSLLDQ    $8, MID, Z26        \
	VPSRLDQ    $8, MID, MID        \
	VPXORQ     Z26, LO, LO         \
	FOLD(LO)                       \
	FOLD(LO)                       \
	VPTERNLOGQ $0x96, HI, MID, LO  \
	VPXORQ     Z21, LO, LO         \
	VPSHUFB    REVERSE, LO, LO

// FINISH reports on operation number i and stores its plaintext if and only if bit 2*i of AX is set: for a PDU that is
// refused length and mask are zero.
#define FINISH(i, OP, MASK, DATA, CIPHER) \
	MOVL      AX, BX                 \
	SHRL      $(2*i), BX             \
	ANDL      $1, BX                 \
	MOVB      BX, Op_OK(OP)          \
	NEGQ      BX                     \
	MOVQ      (Op_Record+8)(OP), CX  \
	SUBQ      $32, CX                \
	ANDQ      BX, CX                 \
	MOVQ      CX, Op_N(OP)           \
	MOVQ      $-1, DX                \
	BZHIQ     CX, DX, DX             \
	KMOVQ     DX, MASK               \
	MOVQ      Op_Dst(OP), CX         \
	VPXORQ    DATA, CIPHER, CIPHER   \
	VALIGNQ   $2, CIPHER, CIPHER, CIPHER \
	VMOVDQU8  CIPHER, MASK, (CX)

// func open4VAES512(ops *Op, index *uint32, groups int) (accepted int)
TEXT ·open4VAES512(SB), NOSPLIT, $0-32
	MOVQ $0, accepted+24(FP)
	MOVQ index+8(FP), R15
	CONSTANTS

group:
	LOAD(0, R8, SI, K1, Z4, Z0)
	VMOVDQU64      (BX)(DX*1), X20
	POWERS(SI)
	VMOVDQU64      (SLOT_LENGTH-256)(SI)(AX*1), X21
	HASH(Z4, Z9, Z10, Z11)
	LOAD(1, R9, DI, K2, Z5, Z1)
	VINSERTI32X4 $1, (BX)(DX*1), Z20, Z20
	POWERS(DI)
	VINSERTI32X4 $1, (SLOT_LENGTH-256)(DI)(AX*1), Z21, Z21
	HASH(Z5, Z12, Z13, Z14)
	LOAD(2, R10, R12, K3, Z6, Z2)
	VINSERTI32X4 $2, (BX)(DX*1), Z20, Z20
	POWERS(R12)
	VINSERTI32X4 $2, (SLOT_LENGTH-256)(R12)(AX*1), Z21, Z21
	HASH(Z6, Z15, Z16, Z17)
	LOAD(3, R11, R13, K4, Z7, Z3)
	VINSERTI32X4 $3, (BX)(DX*1), Z20, Z20
	POWERS(R13)
	VINSERTI32X4 $3, (SLOT_LENGTH-256)(R13)(AX*1), Z21, Z21
	HASH(Z7, Z18, Z19, Z8)

	ROUND(1)
	ROUND(2)
	SUM(Z9, Z12, Z15, Z18)
	ROUND(3)
	ROUND(4)
	SUM(Z10, Z13, Z16, Z19)
	ROUND(5)
	ROUND(6)
	SUM(Z11, Z14, Z17, Z8)
	ROUND(7)
	ROUND(8)
	REDUCE(Z9, Z10, Z11)
	ROUND(9)
	ROUND(10)
	ROUND(11)
	ROUND(12)
	ROUND(13)
	LASTROUND

	// Tag = GHASH XOR E(J0): both sides are compared whole, whatever differs first.
	VMOVDQA64    Z0, Z10
	VINSERTI32X4 $1, X1, Z10, Z10
	VINSERTI32X4 $2, X2, Z10, Z10
	VINSERTI32X4 $3, X3, Z10, Z10
	VPXORQ       Z10, Z9, Z9
	VPCMPEQQ     Z20, Z9, K5
	KMOVB        K5, AX
	MOVL         AX, BX
	SHRL         $1, BX
	ANDL         BX, AX
	ANDL         $0x55, AX
	POPCNTL      AX, BX
	ADDQ         BX, accepted+24(FP)

	FINISH(0, R8, K1, Z4, Z0)
	FINISH(1, R9, K2, Z5, Z1)
	FINISH(2, R10, K3, Z6, Z2)
	FINISH(3, R11, K4, Z7, Z3)

	ADDQ $16, R15
	DECQ groups+16(FP)
	JNZ  group
	CLEAR
	RET

// SEALDATA makes [AAD, C1, C2, C3] in DATA from the plaintext in DATA and the keystream in CIPHER: lane 0 of the
// keystream is E(J0) and must not be used, nor what lies behind the plaintext. It stores the ciphertext.
#define SEALDATA(OP, MASK, DATA, CIPHER) \
	MOVQ       Op_Record(OP), BX      \
	KMOVQ      MASK, DX               \
	ANDQ       $~0xffff, DX           \
	KMOVQ      DX, MASK               \
	VMOVDQU8.Z CIPHER, MASK, CIPHER   \
	VPXORQ     CIPHER, DATA, DATA     \
	VMOVDQU8   DATA, MASK, (BX)

// SEALHASH leaves the products of DATA, the pointer to the tag in OP and the offset of the length's product in AX.
#define SEALHASH(OP, SLOT, DATA, LO, MID, HI) \
	MOVQ (Op_Record+8)(OP), DX \
	MOVQ Op_Record(OP), OP     \
	SUBQ $16, DX               \
	ADDQ DX, OP                \
	POWERS(SLOT)               \
	HASH(DATA, LO, MID, HI)

// func seal4VAES512(ops *Op, index *uint32, groups int)
TEXT ·seal4VAES512(SB), NOSPLIT, $0-24
	MOVQ index+8(FP), R15
	CONSTANTS

group:
	LOAD(0, R8, SI, K1, Z4, Z0)
	LOAD(1, R9, DI, K2, Z5, Z1)
	LOAD(2, R10, R12, K3, Z6, Z2)
	LOAD(3, R11, R13, K4, Z7, Z3)
	ROUND(1)
	ROUND(2)
	ROUND(3)
	ROUND(4)
	ROUND(5)
	ROUND(6)
	ROUND(7)
	ROUND(8)
	ROUND(9)
	ROUND(10)
	ROUND(11)
	ROUND(12)
	ROUND(13)
	LASTROUND
	VMOVDQA64    Z0, Z20
	VINSERTI32X4 $1, X1, Z20, Z20
	VINSERTI32X4 $2, X2, Z20, Z20
	VINSERTI32X4 $3, X3, Z20, Z20

	SEALDATA(R8, K1, Z4, Z0)
	SEALDATA(R9, K2, Z5, Z1)
	SEALDATA(R10, K3, Z6, Z2)
	SEALDATA(R11, K4, Z7, Z3)
	SEALHASH(R8, SI, Z4, Z9, Z10, Z11)
	VMOVDQU64      (SLOT_LENGTH-256)(SI)(AX*1), X21
	SEALHASH(R9, DI, Z5, Z12, Z13, Z14)
	VINSERTI32X4 $1, (SLOT_LENGTH-256)(DI)(AX*1), Z21, Z21
	SEALHASH(R10, R12, Z6, Z15, Z16, Z17)
	VINSERTI32X4 $2, (SLOT_LENGTH-256)(R12)(AX*1), Z21, Z21
	SEALHASH(R11, R13, Z7, Z18, Z19, Z8)
	VINSERTI32X4 $3, (SLOT_LENGTH-256)(R13)(AX*1), Z21, Z21
	SUM(Z9, Z12, Z15, Z18)
	SUM(Z10, Z13, Z16, Z19)
	SUM(Z11, Z14, Z17, Z8)
	REDUCE(Z9, Z10, Z11)
	VPXORQ        Z20, Z9, Z9
	VMOVDQU       X9, (R8)
	VEXTRACTI32X4 $1, Z9, (R9)
	VEXTRACTI32X4 $2, Z9, (R10)
	VEXTRACTI32X4 $3, Z9, (R11)

	ADDQ $16, R15
	DECQ groups+16(FP)
	JNZ  group
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
	VPCLMULQDQ $0x01, X, X28, X9 \
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
	VPSHUFB    X30, X0, X0
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

// func cryptVAES512(slot *keySlot, record *byte, n int, dst *byte)
//
// Z12 is the part that all counter blocks share, Z13 the counters of the next four, Z15 to Z27 and Z29 are the round
// keys.
TEXT ·cryptVAES512(SB), NOSPLIT, $0-32
	MOVQ slot+0(FP), DI
	MOVQ record+8(FP), BX
	MOVQ n+16(FP), DX
	MOVQ dst+24(FP), R8
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
	VMOVDQU64 Z0, (R8)
	VMOVDQU64 Z1, 64(R8)
	VMOVDQU64 Z2, 128(R8)
	VMOVDQU64 Z3, 192(R8)
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
	VMOVDQU8   Z0, K1, (R8)
	VMOVDQU8   Z1, K2, 64(R8)
	VMOVDQU8   Z2, K3, 128(R8)
	VMOVDQU8   Z3, K4, 192(R8)

done:
	CLEAR
	RET
