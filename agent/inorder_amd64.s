// SPDX-License-Identifier: Apache-2.0

//go:build !race

#include "textflag.h"
#include "go_asm.h"

// Fields of a record; loader.Head says what they are.
#define RECORD_TIME   0
#define RECORD_SLOT   8
#define RECORD_SIZE   16
#define RECORD_ORIGIN 20
#define RECORD_EPOCH  28
#define RECORD_AAD    24
#define RECORD_HEADER 32

// spdu.InOrderMask
#define IN_ORDER_MASK ~0xfff0

// FRAME looks the i-th record from SI on up. It asks for the rest of the record, in which the engine is interested.
#define FRAME(i, formed) \
	MOVQ    ((i)*24)(SI), BX                             \
	CMPQ    ((i)*24+8)(SI), $const_maxRecord             \
	JLT     other                                        \
	MOVL    RECORD_SLOT(BX), R9                          \
	MOVQ    R9, CX                                       \
	CMPQ    R9, lanes-16(SP)                             \
	JAE     other                                        \
	SHLQ    $7, CX                                       \
	MOVL    R9, (R11)(R12*4)                             \
	ADDQ    R8, CX                                       \
	MOVQ    RECORD_ORIGIN(BX), AX                        \
	CMPQ    AX, lane_origin(CX)                          \
	JNE     other                                        \
	MOVL    RECORD_EPOCH(BX), AX                         \
	CMPL    AX, lane_number(CX)                          \
	JNE     other                                        \
	MOVQ    RECORD_HEADER(BX), DX                        \
	MOVQ    DX, AX                                       \
	ANDQ    $IN_ORDER_MASK, AX                           \
	CMPQ    AX, lane_ahead(CX)                           \
	JNE     other                                        \
	CMPQ    AX, lane_until(CX)                           \
	JAE     other                                        \
	MOVWLZX RECORD_SIZE(BX), R15                         \
	CMPL    R15, $48                                     \
	JEQ     formed                                       \
	CMPL    R15, $64                                     \
	JEQ     formed                                       \
	CMPL    R15, $32                                     \
	JNE     other                                        \
	MOVL    DX, AX                                       \
	ANDL    $0xf0, AX                                    \
	CMPL    AX, $0x40                                    \
	JHI     other                                        \
formed:                                                      \
	MOVQ    RECORD_TIME(BX), AX                          \
	CMPQ    AX, R13                                      \
	JLT     other                                        \
	MOVQ    AX, R13                                      \
	MOVQ    DX, ((i)*32+candidate_header)(DI)            \
	MOVQ    AX, ((i)*32+candidate_time)(DI)              \
	MOVL    R9, ((i)*32+candidate_slot)(DI)              \
	MOVL    R15, ((i)*32+candidate_size)(DI)             \
	MOVQ    lane_index(CX), AX                           \
	MOVQ    AX, ((i)*32+candidate_index)(DI)             \
	ADDQ    $8, R15                                      \
	PREFETCHT0 64(BX)                                    \
	ADDQ    $RECORD_AAD, BX                              \
	MOVQ    BX, ((i)*const_sizeofOp+const_opRecord)(R10) \
	MOVQ    R15, ((i)*const_sizeofOp+const_opRecord+8)(R10) \
	MOVQ    R15, ((i)*const_sizeofOp+const_opRecord+16)(R10) \
	MOVQ    lane_key(CX), AX                             \
	MOVQ    AX, ((i)*const_sizeofOp+const_opKey)(R10)    \
	CMPL    lane_seen(CX), $1                            \
	ADCQ    $0, R12                                      \
	ADDQ    $0x10000, lane_ahead(CX)                     \
	MOVQ    R14, lane_newest(CX)                         \
	INCQ    R14

// func lookUpAMD64(c *core, batch *loader.Record, records, n int, since int64) (taken int)
//
//	SI  records of the batch
//	DI  candidates
//	R10 operations
//	R8  lanes
//	R11 runs, R12 how many
//	R14 newest | seen<<32, for the lane
//	R13 time of the record before
//	BX  the record, CX its lane, R9 its slot, DX its header, R15 the size of its SPDU
//
// A run more has begun if the lane was not seen: that is added without a branch, since which streams come first in a batch is
// nothing that a processor could guess.
TEXT ·lookUpAMD64(SB), NOSPLIT, $16-48
	MOVQ c+0(FP), AX
	MOVQ batch+8(FP), SI
	MOVQ core_lanes(AX), R8
	MOVQ (core_lanes+8)(AX), R9
	MOVQ R9, lanes-16(SP)
	LEAQ core_runs(AX), R11
	MOVQ core_nRuns(AX), R12
	MOVQ since+32(FP), R13

	MOVQ   n+24(FP), R14
	MOVQ   R14, DI
	SHLQ   $5, DI
	LEAQ   core_candidates(AX)(DI*1), DI
	IMUL3Q $const_sizeofOp, R14, R10
	LEAQ   core_ops(AX)(R10*1), R10
	BTSQ   $32, R14

	MOVQ records+16(FP), AX
	ANDQ $~1, AX
	JEQ  one
	LEAQ (AX)(AX*2), AX
	LEAQ (SI)(AX*8), AX
	MOVQ AX, pairs-8(SP)

pair:
	FRAME(0, even)
	FRAME(1, odd)
	ADDQ $48, SI
	ADDQ $64, DI
	ADDQ $(2*const_sizeofOp), R10
	CMPQ SI, pairs-8(SP)
	JNE  pair

one:
	MOVQ  records+16(FP), AX
	TESTB $1, AX
	JEQ   other
	FRAME(0, single)

other:
	MOVQ c+0(FP), AX
	MOVQ R12, core_nRuns(AX)
	MOVQ n+24(FP), AX
	SUBL AX, R14
	MOVQ R14, taken+40(FP)
	RET

// func layDownAMD64(span *ring.Span, candidates *candidate, text *spdu.TextFD, padding *spdu.PaddingFD, ahead uintptr) (done int)
//
//	SI  candidates
//	DI  text
//	BX  padding
//	R8  slots, R9 bytes apart
//	R10 marker
//	R11 time of publication
//
// The places of the next batch are asked for meanwhile, ahead bytes from those of this one: see ring.Draft.FetchAhead. Behind the end
// of the ring that asks for nothing that is there, which a processor does not mind.
//
//	CX  how many are left
//	DX  size of the SPDU, R15 length of the body
TEXT ·layDownAMD64(SB), NOSPLIT, $8-48
	MOVQ span+0(FP), AX
	MOVQ candidates+8(FP), SI
	MOVQ text+16(FP), DI
	MOVQ padding+24(FP), BX
	MOVQ const_spanFirst(AX), R8
	MOVQ const_spanStride(AX), R9
	MOVQ const_spanN(AX), CX
	MOVQ const_spanMarker(AX), R10
	MOVQ const_spanPublishTime(AX), R11
	MOVQ ahead+32(FP), AX
	MOVQ AX, ahead-8(SP)

next:
	// What the pad says is padding is zero. The table has two words for each pad; the header has it in its bits 4 to 7, so that
	// they are the distance in the table as they stand.
	MOVQ candidate_header(SI), AX
	MOVL candidate_size(SI), DX
	MOVL AX, R12
	ANDL $0xf0, R12
	MOVQ (BX)(R12*1), R13
	MOVQ 8(BX)(R12*1), R14
	ANDQ (const_textFront-16-24)(DI)(DX*1), R13
	ANDQ (const_textFront-8-24)(DI)(DX*1), R14
	ORQ  R13, R14
	JNE  done
	SHRL $4, R12
	LEAQ -28(DX), R15
	SUBQ R12, R15

	MOVQ R10, const_slotMarker(R8)
	INCQ R10
	MOVQ candidate_index(SI), R13
	MOVQ R13, const_slotStream(R8)
	SHRQ $16, AX
	MOVQ AX, const_slotCounter(R8)
	MOVL const_textFront(DI), R13
	MOVQ R15, R12
	SHLQ $48, R12
	ORQ  R12, R13
	MOVQ R13, const_slotSourceTime(R8)
	MOVQ candidate_time(SI), R13
	MOVQ R13, const_slotReceiveTime(R8)
	MOVQ R11, const_slotPublishTime(R8)

	// The body, in whole words.
	CMPQ R15, $8
	JNE  body
	MOVQ (const_textFront+4)(DI), R13
	MOVQ R13, const_sizeofSlot(R8)

placed:
	MOVQ ahead-8(SP), R13
	BYTE $0x43; BYTE $0x0f; BYTE $0x0d; BYTE $0x0c; BYTE $0x28 // PREFETCHW (R8)(R13*1)
	ADDQ R9, R8
	ADDQ $candidate__size, SI
	ADDQ $const_sizeofText, DI
	DECQ CX
	JNE  next

done:
	MOVQ span+0(FP), AX
	MOVQ const_spanN(AX), AX
	SUBQ CX, AX
	MOVQ AX, done+40(FP)
	RET

body:
	LEAQ (const_textFront+4)(DI), R13
	LEAQ const_sizeofSlot(R8), R14

word:
	SUBQ $8, R15
	JLT  rest
	MOVQ (R13), AX
	MOVQ AX, (R14)
	ADDQ $8, R13
	ADDQ $8, R14
	JMP  word

rest:
	// R15 is 8 less than the bytes that are left. Behind them comes zero or, where four are left or less, may come what is not of
	// this text: the table's second word for a pad of so many bytes as are missing has the bits to take out.
	ADDQ $8, R15
	JEQ  placed
	MOVL $8, AX
	SUBQ R15, AX
	SHLQ $4, AX
	MOVQ 8(BX)(AX*1), AX
	NOTQ AX
	ANDQ (R13), AX
	MOVQ AX, (R14)
	JMP  placed

// func settleAMD64(c *core) (far int)
//
//	R11 the core, R8 lanes
//	CX  the run, DI how many are far
//	AX  its lane, BX its stream, SI the place of its newest sample, R12 its shared window
//	DX  the next counter, R10 the last one, R9 how many frames
//
// Counted before it is committed, committed before it is hinted at: stores stay in order. The words of a window are those in shared
// memory, see openWindow. Slots in runs have been held against the number of lanes by look up.
TEXT ·settleAMD64(SB), NOSPLIT, $0-16
	MOVQ c+0(FP), R11
	MOVQ core_lanes(R11), R8
	XORL CX, CX
	XORL DI, DI

run:
	MOVL core_runs(R11)(CX*4), AX
	MOVL AX, core_touchedRoom(R11)(CX*4)
	SHLQ $7, AX
	ADDQ R8, AX
	MOVQ lane_stream(AX), BX
	MOVL lane_newest(AX), SI
	MOVL SI, core_newestRoom(R11)(CX*4)
	MOVQ lane_ahead(AX), DX
	SHRQ $16, DX
	LEAQ -1(DX), R10
	MOVQ DX, R9
	SUBQ lane_next(AX), R9
	MOVQ DX, lane_next(AX)
	MOVL $0, lane_seen(AX)
	MOVL R9, lane_samples(AX)
	MOVQ lane_live(AX), R13
	ADDQ R9, liveEpoch_frames(R13)
	MOVQ stream_shared(BX), R12
	ADDQ R9, const_sharedCommitted(R12)

	// CommitRun within one word: sets the bits from behind the highest counter up to the last one.
	MOVQ stream_window(BX), R13
	MOVQ const_windowHighest(R13), R14
	MOVQ R14, R15
	XORQ R10, R15
	SHRQ $5, R15
	JNE  distant
	BTSL R10, R15
	XORL R9, R9
	BTSL R14, R9
	SUBQ R9, R15
	MOVQ const_windowTop(R13), R9
	LEAQ (R9)(R15*2), R9
	MOVQ R9, const_windowTop(R13)
	MOVQ R10, const_windowHighest(R13)
	MOVQ R10, R14
	SHRQ $2, R14
	ANDL $0x1f8, R14
	MOVQ R9, const_sharedWords(R12)(R14*1)
	MOVQ R10, const_sharedHint(R12)

gaps:
	MOVQ    stream_gaps(BX), R13
	MOVQ    DX, const_gapsNext(R13)
	MOVQ    R10, const_gapsHighest(R13)
	SHLQ    $5, SI
	MOVQ    (core_candidates+candidate_time)(R11)(SI*1), R14
	MOVQ    const_gapsNow(R13), R15
	CMPQ    R14, R15
	CMOVQLT R15, R14
	MOVQ    R14, const_gapsNow(R13)

	MOVQ stream_node(BX), R13
	CMPQ node_verified(R13), R10
	JCC  verified
	MOVQ R10, node_verified(R13)
	MOVQ node_known(R13), R13
	MOVQ R10, const_knownHighest(R13)

verified:
	INCQ CX
	CMPQ CX, core_nRuns(R11)
	JNE  run
	MOVQ DI, far+8(FP)
	RET

distant:
	MOVL core_runs(R11)(CX*4), R14
	MOVL R14, core_far(R11)(DI*4)
	INCQ DI
	JMP  gaps
