// SPDX-License-Identifier: Apache-2.0

//go:build linux

#include "textflag.h"
#include "go_asm.h"
#include "slot.h"

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

// Two PDUs are a group.
//
//	R0        the group's operations
//	R1        groups to go
//	R2 R3     slots
//	R4 R5     records
//	R6 R7     n, the bytes of ciphertext
//	R8 R9     the powers of H that the AADs meet
//	R10 to R15  used inside the macros
//	R19 R20   done, accepted
//	V0 to V3    E(J0), KS2, KS3, KS4 of the first, V4 to V7 of the second
//	V8 to V11   AAD, C1, C2, C3 of the first, V12 to V15 of the second, zero behind n
//	V16 V17     round keys
//	V18 to V21  used inside the macros
//	V22 to V24  products: low, middle, high
//	V25         what becomes of the first PDU's tag
//	V26 to V30  constants: zero, the polynomial, reversal of a block, the nonce's shuffle, 1 in the last word

// CONSTANTS: V28 reverses the bytes of a block. V29 takes the AAD apart into what the IV is XORed with: stream id || 0 0
// || counter || 0 0 0 0. V27 is x^128 + x^127 + x^126 + x^121 + 1 without its first and last term.
#define CONSTANTS \
	VEOR  V26.B16, V26.B16, V26.B16                       \
	VMOVQ $0xc200000000000000, $0x0000000000000000, V27   \
	VMOVQ $0x08090a0b0c0d0e0f, $0x0001020304050607, V28   \
	VMOVQ $0x0b0a808003020100, $0x808080800f0e0d0c, V29   \
	VMOVQ $0x0000000000000000, $0x0100000000000000, V30

#define FIELD(i, field) ((field)+(i)*Op__size)(R0)

// TAKE finds operation i, if it is one for this kernel.
#define TAKE(i, SLOT, RECORD, N, CHECK) \
	MOVD FIELD(i, Op_Record+8), N  \
	MOVD FIELD(i, Op_Key), SLOT    \
	SUB  $32, N                    \
	CMP  $const_fastText, N        \
	BHI  other                     \
	CHECK(i, N)                    \
	CBZ  SLOT, other               \
	MOVD Key_slot(SLOT), SLOT      \
	CBZ  SLOT, other               \
	MOVD FIELD(i, Op_Record), RECORD

#define NOCHECK(i, N)

#define DSTCHECK(i, N) \
	MOVD FIELD(i, Op_Dst+16), R10 \
	CMP  N, R10                   \
	BLT  other

// POWERS finds the power of H that the AAD meets, H^m+2 for m blocks of ciphertext.
#define POWERS(SLOT, N, POWER) \
	ADD $15, N, R10                    \
	AND $~15, R10, R10                 \
	ADD $(SLOT_POWER1-16), SLOT, POWER \
	SUB R10, POWER, POWER

// LOAD brings AAD and data into registers, zero behind n, each byte read once. A block begins inside the record only if
// n > 16*(j-1), and then its 16 bytes lie inside too, for the tag follows. Of one that does not, the AAD is loaded in its
// place, and masked away.
#define LOAD(RECORD, N, D0, D1, D2, D3) \
	MOVD  $ones<>+48(SB), R14         \
	SUB   N, R14, R14                 \
	ADD   $16, RECORD, R10            \
	ADD   $32, RECORD, R11            \
	ADD   $48, RECORD, R12            \
	CMP   $16, N                      \
	CSEL  LE, RECORD, R11, R11        \
	CMP   $32, N                      \
	CSEL  LE, RECORD, R12, R12        \
	VLD1  (RECORD), [D0.B16]          \
	VLD1  (R10), [D1.B16]             \
	VLD1  (R11), [D2.B16]             \
	VLD1  (R12), [D3.B16]             \
	VLD1  (R14), [V18.B16, V19.B16, V20.B16] \
	VAND  V18.B16, D1.B16, D1.B16     \
	VAND  V19.B16, D2.B16, D2.B16     \
	VAND  V20.B16, D3.B16, D3.B16

// COUNTERS makes the counter blocks 1 to 4. The first round adds the IV with its round key.
#define COUNTERS(AAD, C0, C1, C2, C3) \
	VTBL V29.B16, [AAD.B16], V18.B16     \
	VADD V30.S4, V30.S4, V19.S4          \
	VADD V30.S4, V19.S4, V20.S4          \
	VADD V30.S4, V20.S4, V21.S4          \
	VEOR V18.B16, V30.B16, C0.B16        \
	VEOR V18.B16, V19.B16, C1.B16        \
	VEOR V18.B16, V20.B16, C2.B16        \
	VEOR V18.B16, V21.B16, C3.B16

#define STEP(K, S) \
	AESE  K.B16, S.B16 \
	AESMC S.B16, S.B16

// ROUND does the round whose key lies at off, of both PDUs.
#define ROUND(off) \
	FMOVQ off(R2), F16 \
	FMOVQ off(R3), F17 \
	STEP(V16, V0)      \
	STEP(V17, V4)      \
	STEP(V16, V1)      \
	STEP(V17, V5)      \
	STEP(V16, V2)      \
	STEP(V17, V6)      \
	STEP(V16, V3)      \
	STEP(V17, V7)

#define LASTROUND \
	FMOVQ SLOT_ROUND(13)(R2), F16  \
	FMOVQ SLOT_ROUND(13)(R3), F17  \
	AESE  V16.B16, V0.B16          \
	AESE  V17.B16, V4.B16          \
	AESE  V16.B16, V1.B16          \
	AESE  V17.B16, V5.B16          \
	AESE  V16.B16, V2.B16          \
	AESE  V17.B16, V6.B16          \
	AESE  V16.B16, V3.B16          \
	AESE  V17.B16, V7.B16          \
	FMOVQ SLOT_ROUND(14)(R2), F16  \
	FMOVQ SLOT_ROUND(14)(R3), F17  \
	VEOR  V16.B16, V0.B16, V0.B16  \
	VEOR  V17.B16, V4.B16, V4.B16  \
	VEOR  V16.B16, V1.B16, V1.B16  \
	VEOR  V17.B16, V5.B16, V5.B16  \
	VEOR  V16.B16, V2.B16, V2.B16  \
	VEOR  V17.B16, V6.B16, V6.B16  \
	VEOR  V16.B16, V3.B16, V3.B16  \
	VEOR  V17.B16, V7.B16, V7.B16

#define NOSUMS \
	VEOR V22.B16, V22.B16, V22.B16 \
	VEOR V23.B16, V23.B16, V23.B16 \
	VEOR V24.B16, V24.B16, V24.B16

// PRODUCT adds the product of V18 and the power of H at off to the sums.
#define PRODUCT(off, POWER) \
	FMOVQ   off(POWER), F19                \
	VEXT    $8, V19.B16, V19.B16, V20.B16  \
	VPMULL  V18.D1, V19.D1, V21.Q1         \
	VEOR    V21.B16, V22.B16, V22.B16      \
	VPMULL2 V18.D2, V19.D2, V21.Q1         \
	VEOR    V21.B16, V24.B16, V24.B16      \
	VPMULL  V18.D1, V20.D1, V21.Q1         \
	VEOR    V21.B16, V23.B16, V23.B16      \
	VPMULL2 V18.D2, V20.D2, V21.Q1         \
	VEOR    V21.B16, V23.B16, V23.B16

// HASH adds the product of a block.
#define HASH(D, off, POWER) \
	VTBL V28.B16, [D.B16], V18.B16 \
	PRODUCT(off, POWER)

// FOLD is half of the Montgomery reduction, V22 / x^64.
#define FOLD \
	VPMULL V22.D1, V27.D1, V18.Q1         \
	VEXT   $8, V22.B16, V22.B16, V22.B16  \
	VEOR   V18.B16, V22.B16, V22.B16

// REDUCE makes one block of the sums, in V22, byte-reversed.
#define REDUCE \
	VEXT $8, V23.B16, V26.B16, V18.B16 \
	VEXT $8, V26.B16, V23.B16, V19.B16 \
	VEOR V18.B16, V22.B16, V22.B16     \
	VEOR V19.B16, V24.B16, V24.B16     \
	FOLD                               \
	FOLD                               \
	VEOR V24.B16, V22.B16, V22.B16

// GHASH adds the product of the length block to what REDUCE has made, and reverses it into the order that tags have.
#define GHASH(SLOT, N) \
	REDUCE                          \
	ADD  N<<4, SLOT, R10            \
	FMOVQ SLOT_LENGTH(R10), F18     \
	VEOR V18.B16, V22.B16, V22.B16  \
	VTBL V28.B16, [V22.B16], V22.B16

// CAME loads the tag that came with a record.
#define CAME(RECORD, N) \
	ADD  N, RECORD, R10  \
	FMOVQ 16(R10), F18

// CLEAR leaves nothing of a key, a keystream or a plaintext behind.
#define CLEAR \
	VEOR V0.B16, V0.B16, V0.B16    \
	VEOR V1.B16, V1.B16, V1.B16    \
	VEOR V2.B16, V2.B16, V2.B16    \
	VEOR V3.B16, V3.B16, V3.B16    \
	VEOR V4.B16, V4.B16, V4.B16    \
	VEOR V5.B16, V5.B16, V5.B16    \
	VEOR V6.B16, V6.B16, V6.B16    \
	VEOR V7.B16, V7.B16, V7.B16    \
	VEOR V8.B16, V8.B16, V8.B16    \
	VEOR V9.B16, V9.B16, V9.B16    \
	VEOR V10.B16, V10.B16, V10.B16 \
	VEOR V11.B16, V11.B16, V11.B16 \
	VEOR V12.B16, V12.B16, V12.B16 \
	VEOR V13.B16, V13.B16, V13.B16 \
	VEOR V14.B16, V14.B16, V14.B16 \
	VEOR V15.B16, V15.B16, V15.B16 \
	VEOR V16.B16, V16.B16, V16.B16 \
	VEOR V17.B16, V17.B16, V17.B16 \
	VEOR V18.B16, V18.B16, V18.B16 \
	VEOR V19.B16, V19.B16, V19.B16 \
	VEOR V20.B16, V20.B16, V20.B16 \
	VEOR V21.B16, V21.B16, V21.B16 \
	VEOR V22.B16, V22.B16, V22.B16 \
	VEOR V23.B16, V23.B16, V23.B16 \
	VEOR V24.B16, V24.B16, V24.B16 \
	VEOR V25.B16, V25.B16, V25.B16 \
	VEOR V31.B16, V31.B16, V31.B16

// put stores the first R11 bytes, 1 to 48, of V1, V2, V3 at R10, and not one more. R12, R13, V18 and V19 change.
TEXT put<>(SB), NOSPLIT, $0-0
	MOVD $shift<>(SB), R12
	CMP  $16, R11
	BLT  short
	VST1 [V1.B16], (R10)
	CMP  $32, R11
	BLT  last
	ADD  $16, R10, R13
	VST1 [V2.B16], (R13)
	VORR V2.B16, V2.B16, V1.B16
	VORR V3.B16, V3.B16, V2.B16
	SUB  $16, R12, R12

last:
	// 16 bytes that end where the text ends: the last r of V2 behind those of V1 that are left.
	ADD  R11, R12, R13
	VLD1 (R13), [V19.B16]
	SUB  $16, R13, R13
	VLD1 (R13), [V18.B16]
	VTBL V18.B16, [V2.B16], V2.B16
	VTBL V19.B16, [V1.B16], V1.B16
	VORR V2.B16, V1.B16, V1.B16
	ADD  R11, R10, R13
	SUB  $16, R13, R13
	VST1 [V1.B16], (R13)
	RET

short:
	CMP  $8, R11
	BLT  short4
	ADD  R11, R12, R13
	ADD  $8, R13, R13
	VLD1 (R13), [V18.B16]
	VMOV V1.D[0], R12
	MOVD R12, (R10)
	VTBL V18.B16, [V1.B16], V1.B16
	VMOV V1.D[0], R12
	ADD  R11, R10, R13
	MOVD R12, -8(R13)
	MOVD ZR, R12
	RET

short4:
	VMOV V1.D[0], R12
	CMP  $4, R11
	BLT  short1
	MOVW R12, (R10)
	SUB  $4, R11, R13
	LSL  $3, R13, R13
	LSR  R13, R12, R12
	ADD  R11, R10, R13
	MOVW R12, -4(R13)
	MOVD ZR, R12
	RET

short1:
	MOVB R12, (R10)
	LSR  $8, R12, R12
	CMP  $2, R11
	BLT  done
	MOVB R12, 1(R10)
	LSR  $8, R12, R12
	CMP  $3, R11
	BLT  done
	MOVB R12, 2(R10)

done:
	MOVD ZR, R12
	RET

// SAME sets R10 to 1 if all 16 bytes of V are zero, else to 0.
#define SAME(V) \
	VMOV V.D[0], R10    \
	VMOV V.D[1], R11    \
	ORR  R11, R10, R10  \
	CMP  $0, R10        \
	CSET EQ, R10

// REPORT reports on operation i, whose tag was right if V is zero, and leaves in R10 where put stores, and in R11 how
// much. What is done is the same whatever the tag: the plaintext of a PDU that is refused is cleared in its registers,
// and the zeros go aside, to the place that has Dst's offset in its page.
#define REPORT(i, V, N) \
	SAME(V)                      \
	MOVB R10, FIELD(i, Op_OK)    \
	ADD  R10, R20, R20           \
	NEG  R10, R12                \
	VDUP R12, V18.D2             \
	VAND V18.B16, V1.B16, V1.B16 \
	VAND V18.B16, V2.B16, V2.B16 \
	VAND V18.B16, V3.B16, V3.B16 \
	AND  R12, N, R11             \
	MOVD R11, FIELD(i, Op_N)     \
	MOVD FIELD(i, Op_Dst), R10   \
	MOVD aside+16(FP), R13       \
	SUB  R13, R10, R11           \
	AND  $const_pageMask, R11    \
	ADD  R13, R11                \
	CMP  $0, R12                 \
	CSEL NE, R10, R11, R10       \
	MOVD N, R11

// func openAESE(ops *Op, groups int, aside *aside) (done, accepted int)
TEXT ·openAESE(SB), NOSPLIT, $16-40
	MOVD ops+0(FP), R0
	MOVD groups+8(FP), R1
	MOVD ZR, R19
	MOVD ZR, R20
	CONSTANTS

group:
	TAKE(0, R2, R4, R6, DSTCHECK)
	TAKE(1, R3, R5, R7, DSTCHECK)
	POWERS(R2, R6, R8)
	POWERS(R3, R7, R9)
	LOAD(R4, R6, V8, V9, V10, V11)
	LOAD(R5, R7, V12, V13, V14, V15)
	COUNTERS(V8, V0, V1, V2, V3)
	COUNTERS(V12, V4, V5, V6, V7)

	// GHASH and the cipher do not depend on each other. Their lines alternate, so that both units have work.
	NOSUMS
	HASH(V8, 0, R8)
	ROUND(SLOT_FIRST)
	HASH(V9, 16, R8)
	ROUND(SLOT_ROUND(1))
	HASH(V10, 32, R8)
	ROUND(SLOT_ROUND(2))
	HASH(V11, 48, R8)
	ROUND(SLOT_ROUND(3))
	ROUND(SLOT_ROUND(4))
	GHASH(R2, R6)
	CAME(R4, R6)
	VEOR V18.B16, V22.B16, V25.B16
	ROUND(SLOT_ROUND(5))
	NOSUMS
	HASH(V12, 0, R9)
	ROUND(SLOT_ROUND(6))
	HASH(V13, 16, R9)
	ROUND(SLOT_ROUND(7))
	HASH(V14, 32, R9)
	ROUND(SLOT_ROUND(8))
	HASH(V15, 48, R9)
	ROUND(SLOT_ROUND(9))
	ROUND(SLOT_ROUND(10))
	GHASH(R3, R7)
	CAME(R5, R7)
	VEOR V18.B16, V22.B16, V22.B16
	ROUND(SLOT_ROUND(11))
	ROUND(SLOT_ROUND(12))
	LASTROUND

	// GHASH XOR the tag that came XOR E(J0) is zero: all sixteen bytes are looked at, whatever differs first.
	VEOR V25.B16, V0.B16, V0.B16
	VEOR V22.B16, V4.B16, V4.B16
	VEOR V9.B16, V1.B16, V1.B16
	VEOR V10.B16, V2.B16, V2.B16
	VEOR V11.B16, V3.B16, V3.B16
	REPORT(0, V0, R6)
	CBZ  R11, second
	CALL put<>(SB)

second:
	VEOR V13.B16, V5.B16, V1.B16
	VEOR V14.B16, V6.B16, V2.B16
	VEOR V15.B16, V7.B16, V3.B16
	REPORT(1, V4, R7)
	CBZ  R11, next
	CALL put<>(SB)

next:
	ADD  $2, R19, R19
	ADD  $(2*Op__size), R0, R0
	SUBS $1, R1, R1
	BNE  group

other:
	CLEAR
	MOVD R19, done+24(FP)
	MOVD R20, accepted+32(FP)
	RET

// SEALDATA makes ciphertext, zero behind n, in D1 to D3 from the plaintext there and the keystream.
#define SEALDATA(N, C1, C2, C3, D1, D2, D3) \
	MOVD $ones<>+48(SB), R14               \
	SUB  N, R14, R14                       \
	VLD1 (R14), [V18.B16, V19.B16, V20.B16] \
	VAND V18.B16, C1.B16, C1.B16           \
	VAND V19.B16, C2.B16, C2.B16           \
	VAND V20.B16, C3.B16, C3.B16           \
	VEOR C1.B16, D1.B16, D1.B16            \
	VEOR C2.B16, D2.B16, D2.B16            \
	VEOR C3.B16, D3.B16, D3.B16

// SEALSTORE stores the ciphertext. A block that begins inside the record ends inside it, and what it takes of the tag's
// room is overwritten by the tag.
#define SEALSTORE(RECORD, N, D1, D2, D3, end) \
	CBZ  N, end           \
	ADD  $16, RECORD, R10 \
	VST1 [D1.B16], (R10)  \
	CMP  $16, N           \
	BLE  end              \
	ADD  $32, RECORD, R10 \
	VST1 [D2.B16], (R10)  \
	CMP  $32, N           \
	BLE  end              \
	ADD  $48, RECORD, R10 \
	VST1 [D3.B16], (R10)

// SEALTAG hashes a PDU and stores its tag, for which E(J0) is in C0.
#define SEALTAG(RECORD, N, SLOT, POWER, C0, D0, D1, D2, D3) \
	NOSUMS                         \
	HASH(D0, 0, POWER)             \
	HASH(D1, 16, POWER)            \
	HASH(D2, 32, POWER)            \
	HASH(D3, 48, POWER)            \
	GHASH(SLOT, N)                 \
	VEOR C0.B16, V22.B16, V22.B16  \
	ADD  N, RECORD, R10            \
	ADD  $16, R10, R10             \
	VST1 [V22.B16], (R10)

// func sealAESE(ops *Op, groups int) (done int)
TEXT ·sealAESE(SB), NOSPLIT, $0-24
	MOVD ops+0(FP), R0
	MOVD groups+8(FP), R1
	MOVD ZR, R19
	CONSTANTS

group:
	TAKE(0, R2, R4, R6, NOCHECK)
	TAKE(1, R3, R5, R7, NOCHECK)
	POWERS(R2, R6, R8)
	POWERS(R3, R7, R9)
	LOAD(R4, R6, V8, V9, V10, V11)
	LOAD(R5, R7, V12, V13, V14, V15)
	COUNTERS(V8, V0, V1, V2, V3)
	COUNTERS(V12, V4, V5, V6, V7)
	ROUND(SLOT_FIRST)
	ROUND(SLOT_ROUND(1))
	ROUND(SLOT_ROUND(2))
	ROUND(SLOT_ROUND(3))
	ROUND(SLOT_ROUND(4))
	ROUND(SLOT_ROUND(5))
	ROUND(SLOT_ROUND(6))
	ROUND(SLOT_ROUND(7))
	ROUND(SLOT_ROUND(8))
	ROUND(SLOT_ROUND(9))
	ROUND(SLOT_ROUND(10))
	ROUND(SLOT_ROUND(11))
	ROUND(SLOT_ROUND(12))
	LASTROUND
	SEALDATA(R6, V1, V2, V3, V9, V10, V11)
	SEALDATA(R7, V5, V6, V7, V13, V14, V15)
	SEALSTORE(R4, R6, V9, V10, V11, tag0)

tag0:
	SEALTAG(R4, R6, R2, R8, V0, V8, V9, V10, V11)
	SEALSTORE(R5, R7, V13, V14, V15, tag1)

tag1:
	SEALTAG(R5, R7, R3, R9, V4, V12, V13, V14, V15)
	ADD  $2, R19, R19
	ADD  $(2*Op__size), R0, R0
	SUBS $1, R1, R1
	BNE  group

other:
	CLEAR
	MOVD R19, done+16(FP)
	RET

#define ENCRYPT1(off) \
	FMOVQ off(R2), F16 \
	STEP(V16, V0)

// func tagAESE(slot *keySlot, record *byte, n int, write bool) (same bool)
//
// V25 is the state of GHASH, byte-reversed.
TEXT ·tagAESE(SB), NOSPLIT, $0-33
	MOVD slot+0(FP), R2
	MOVD record+8(FP), R4
	MOVD n+16(FP), R6
	ADD  $16, R6, R7         // bytes left: AAD and ciphertext
	ADD  R7, R4, R5          // the tag's place
	CONSTANTS

	// E(J0).
	VLD1  (R4), [V0.B16]
	VTBL  V29.B16, [V0.B16], V0.B16
	VEOR  V30.B16, V0.B16, V0.B16
	ENCRYPT1(SLOT_FIRST)
	ENCRYPT1(SLOT_ROUND(1))
	ENCRYPT1(SLOT_ROUND(2))
	ENCRYPT1(SLOT_ROUND(3))
	ENCRYPT1(SLOT_ROUND(4))
	ENCRYPT1(SLOT_ROUND(5))
	ENCRYPT1(SLOT_ROUND(6))
	ENCRYPT1(SLOT_ROUND(7))
	ENCRYPT1(SLOT_ROUND(8))
	ENCRYPT1(SLOT_ROUND(9))
	ENCRYPT1(SLOT_ROUND(10))
	ENCRYPT1(SLOT_ROUND(11))
	ENCRYPT1(SLOT_ROUND(12))
	FMOVQ SLOT_ROUND(13)(R2), F16
	AESE  V16.B16, V0.B16
	FMOVQ SLOT_ROUND(14)(R2), F16
	VEOR  V16.B16, V0.B16, V0.B16

	VEOR V25.B16, V25.B16, V25.B16

	// Sixteen blocks at a time: state = (state + X1) H^16 + X2 H^15 + ... + X16 H.
sixteen:
	ADD  $(SLOT_POWER1-16*15), R2, R8
	NOSUMS
	CMP  $256, R7
	BLT  rest
	MOVD $4, R9

quarter:
	VLD1.P 64(R4), [V8.B16, V9.B16, V10.B16, V11.B16]
	VTBL   V28.B16, [V8.B16], V18.B16
	VEOR   V25.B16, V18.B16, V18.B16
	VEOR   V25.B16, V25.B16, V25.B16
	PRODUCT(0, R8)
	HASH(V9, 16, R8)
	HASH(V10, 32, R8)
	HASH(V11, 48, R8)
	ADD    $64, R8
	SUBS   $1, R9, R9
	BNE    quarter
	REDUCE
	VORR   V22.B16, V22.B16, V25.B16
	SUB    $256, R7, R7
	B      sixteen

	// What is left are r = 0 to 16 blocks, the last perhaps short, and the length block: powers from H^r+1 on. The state
	// joins the first, or stands alone.
rest:
	ADD  $15, R7, R10
	AND  $~15, R10, R10
	ADD  $SLOT_POWER1, R2, R8
	SUB  R10, R8, R8
	VORR V25.B16, V25.B16, V18.B16
	CBZ  R7, alone

block:
	VLD1.P 16(R4), [V8.B16]  // the tag follows: these 16 bytes are the record's
	CMP    $16, R7
	BGE    whole
	MOVD   $ones<>+48(SB), R14
	SUB    R7, R14, R14
	VLD1   (R14), [V18.B16]
	VAND   V18.B16, V8.B16, V8.B16

whole:
	VTBL V28.B16, [V8.B16], V18.B16
	VEOR V25.B16, V18.B16, V18.B16

alone:
	VEOR V25.B16, V25.B16, V25.B16
	PRODUCT(0, R8)
	ADD  $16, R8, R8
	SUBS $16, R7, R7
	BGT  block

	LSL  $3, R6, R6
	MOVD $128, R10
	VMOV R6, V18.D[0]
	VMOV R10, V18.D[1]
	PRODUCT(SLOT_POWER1, R2)
	REDUCE
	VTBL V28.B16, [V22.B16], V22.B16
	VEOR V22.B16, V0.B16, V0.B16
	MOVBU write+24(FP), R12
	CBNZ R12, store
	VLD1 (R5), [V18.B16]
	VEOR V18.B16, V0.B16, V0.B16
	SAME(V0)
	MOVB R10, same+32(FP)
	CLEAR
	MOVD ZR, R11
	RET

store:
	VST1 [V0.B16], (R5)
	MOVD $1, R10
	MOVB R10, same+32(FP)
	CLEAR
	RET

#define NEXT(V) \
	VEOR V19.B16, V20.B16, V.B16 \
	VADD V30.S4, V20.S4, V20.S4

#define EIGHT(off) \
	FMOVQ off(R2), F16 \
	STEP(V16, V0)      \
	STEP(V16, V1)      \
	STEP(V16, V2)      \
	STEP(V16, V3)      \
	STEP(V16, V4)      \
	STEP(V16, V5)      \
	STEP(V16, V6)      \
	STEP(V16, V7)

#define LAST1(V) \
	AESE V16.B16, V.B16         \
	VEOR V17.B16, V.B16, V.B16

#define XORTO(V) \
	VLD1.P 16(R4), [V8.B16]    \
	VEOR   V8.B16, V.B16, V.B16 \
	VST1.P [V.B16], 16(R5)

#define DOWN(FROM, TO) \
	VORR FROM.B16, FROM.B16, TO.B16

// func cryptAESE(slot *keySlot, record *byte, n int, dst *byte)
//
// V20 is the next counter, V19 what all counter blocks share.
TEXT ·cryptAESE(SB), NOSPLIT, $16-32
	MOVD slot+0(FP), R2
	MOVD record+8(FP), R4
	MOVD n+16(FP), R7
	MOVD dst+24(FP), R5
	CONSTANTS
	VLD1.P 16(R4), [V8.B16]
	VTBL V29.B16, [V8.B16], V19.B16
	VADD V30.S4, V30.S4, V20.S4 // counter 2

eight:
	CBZ  R7, done
	NEXT(V0)
	NEXT(V1)
	NEXT(V2)
	NEXT(V3)
	NEXT(V4)
	NEXT(V5)
	NEXT(V6)
	NEXT(V7)
	EIGHT(SLOT_FIRST)
	EIGHT(SLOT_ROUND(1))
	EIGHT(SLOT_ROUND(2))
	EIGHT(SLOT_ROUND(3))
	EIGHT(SLOT_ROUND(4))
	EIGHT(SLOT_ROUND(5))
	EIGHT(SLOT_ROUND(6))
	EIGHT(SLOT_ROUND(7))
	EIGHT(SLOT_ROUND(8))
	EIGHT(SLOT_ROUND(9))
	EIGHT(SLOT_ROUND(10))
	EIGHT(SLOT_ROUND(11))
	EIGHT(SLOT_ROUND(12))
	FMOVQ SLOT_ROUND(13)(R2), F16
	FMOVQ SLOT_ROUND(14)(R2), F17
	LAST1(V0)
	LAST1(V1)
	LAST1(V2)
	LAST1(V3)
	LAST1(V4)
	LAST1(V5)
	LAST1(V6)
	LAST1(V7)
	CMP  $128, R7
	BLT  rest
	XORTO(V0)
	XORTO(V1)
	XORTO(V2)
	XORTO(V3)
	XORTO(V4)
	XORTO(V5)
	XORTO(V6)
	XORTO(V7)
	SUB  $128, R7, R7
	B    eight

	// Fewer than eight blocks, the last perhaps short: one after another, and the keystream moves down.
rest:
	CMP  $16, R7
	BLT  short
	XORTO(V0)
	DOWN(V1, V0)
	DOWN(V2, V1)
	DOWN(V3, V2)
	DOWN(V4, V3)
	DOWN(V5, V4)
	DOWN(V6, V5)
	DOWN(V7, V6)
	SUB  $16, R7, R7
	B    rest

short:
	CBZ  R7, done
	VLD1 (R4), [V1.B16]      // the tag follows: these 16 bytes are the record's
	VEOR V0.B16, V1.B16, V1.B16
	MOVD R5, R10
	MOVD R7, R11
	CALL put<>(SB)

done:
	CLEAR
	RET

// SUBWORD puts each byte of FROM through the S-box: AESE with a zero key, on a block whose columns are all the same, so
// that shifting rows changes nothing.
#define SUBWORD(FROM, TO) \
	VDUP FROM, V1.S4       \
	AESE V26.B16, V1.B16   \
	VMOV V1.S[0], TO

// HALF makes four words of the key schedule (FIPS 197, 5.2) from what the S-box gave, in R15.
#define HALF(A, B, C, D) \
	EORW R15, A, A \
	EORW A, B, B   \
	EORW B, C, C   \
	EORW C, D, D

#define EVEN(rcon, i) \
	RORW $8, R11, R15    \
	SUBWORD(R15, R15)    \
	EORW $rcon, R15, R15 \
	HALF(R4, R5, R6, R7) \
	STPW (R4, R5), SLOT_ROUND(i)(R2)     \
	STPW (R6, R7), (SLOT_ROUND(i)+8)(R2)

#define ODD(i) \
	SUBWORD(R7, R15)       \
	HALF(R8, R9, R10, R11) \
	STPW (R8, R9), SLOT_ROUND(i)(R2)       \
	STPW (R10, R11), (SLOT_ROUND(i)+8)(R2)

// func expandARM64(slot *keySlot, key *[32]byte, iv *[12]byte)
//
// Everything is computed in registers and stored to the slot alone: no part of a key touches the stack.
TEXT ·expandARM64(SB), NOSPLIT, $0-24
	MOVD slot+0(FP), R2
	MOVD key+8(FP), R0
	MOVD iv+16(FP), R1
	CONSTANTS
	VLD1 (R0), [V2.B16, V3.B16]
	LDPW 0(R0), (R4, R5)
	LDPW 8(R0), (R6, R7)
	LDPW 16(R0), (R8, R9)
	LDPW 24(R0), (R10, R11)
	MOVD 0(R1), R12
	MOVWU 8(R1), R13
	VMOV R12, V0.D[0]
	VMOV R13, V0.D[1]
	VEOR V2.B16, V0.B16, V0.B16
	VST1 [V0.B16], (R2)
	FMOVQ F3, SLOT_ROUND(1)(R2)
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
	VEOR V0.B16, V0.B16, V0.B16
	STEP(V2, V0)
	ENCRYPT1(SLOT_ROUND(1))
	ENCRYPT1(SLOT_ROUND(2))
	ENCRYPT1(SLOT_ROUND(3))
	ENCRYPT1(SLOT_ROUND(4))
	ENCRYPT1(SLOT_ROUND(5))
	ENCRYPT1(SLOT_ROUND(6))
	ENCRYPT1(SLOT_ROUND(7))
	ENCRYPT1(SLOT_ROUND(8))
	ENCRYPT1(SLOT_ROUND(9))
	ENCRYPT1(SLOT_ROUND(10))
	ENCRYPT1(SLOT_ROUND(11))
	ENCRYPT1(SLOT_ROUND(12))
	FMOVQ SLOT_ROUND(13)(R2), F16
	AESE  V16.B16, V0.B16
	FMOVQ SLOT_ROUND(14)(R2), F16
	VEOR  V16.B16, V0.B16, V0.B16

	// H' = H reversed, times x: shift all 128 bits to the left by one, and subtract the polynomial if a bit was lost, by
	// a mask and not by a branch.
	VTBL V28.B16, [V0.B16], V0.B16
	VMOV V0.D[0], R4
	VMOV V0.D[1], R5
	ASR  $63, R5, R6
	EXTR $63, R4, R5, R5
	LSL  $1, R4, R4
	AND  $1, R6, R7
	EOR  R7, R4, R4
	MOVD $0xc200000000000000, R8
	AND  R8, R6, R6
	EOR  R6, R5, R5
	VMOV R4, V18.D[0]
	VMOV R5, V18.D[1]

	// Powers.
	ADD  $SLOT_POWER1, R2, R3
	FMOVQ F18, (R3)
	MOVD $16, R9

powers:
	NOSUMS
	PRODUCT(SLOT_POWER1, R2)
	REDUCE
	VORR V22.B16, V22.B16, V18.B16
	SUB  $16, R3, R3
	FMOVQ F18, (R3)
	SUBS $1, R9, R9
	BNE  powers

	// Length blocks.
	ADD  $SLOT_LENGTH, R2, R3
	MOVD $128, R10
	MOVD ZR, R9

lengths:
	VMOV R9, V18.D[0]
	VMOV R10, V18.D[1]
	NOSUMS
	PRODUCT(SLOT_POWER1, R2)
	REDUCE
	VST1.P [V22.B16], 16(R3)
	ADD  $8, R9, R9
	CMP  $(8*const_fastText), R9
	BLE  lengths

	CLEAR
	MOVD ZR, R4
	MOVD ZR, R5
	MOVD ZR, R6
	MOVD ZR, R7
	MOVD ZR, R8
	MOVD ZR, R9
	MOVD ZR, R10
	MOVD ZR, R11
	MOVD ZR, R12
	MOVD ZR, R13
	MOVD ZR, R15
	RET
