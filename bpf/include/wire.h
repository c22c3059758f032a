/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the filter and the agent share in memory: constants of the sealed PDU, map keys and values, records.
 * The Go side is in loader/ and is compared with the BTF of these structs in its tests.
 *
 * Byte order: everything on the wire is little-endian, and so is every target, hence plain loads.
 * Sharing: plain naturally aligned u32 and u64 only, each written by one side, so that every load and
 * store is single-copy atomic on amd64 and arm64. No spin lock: a map with one cannot be mapped.
 */
#ifndef CELLWARD_WIRE_H
#define CELLWARD_WIRE_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the sealed PDU is little-endian and is read with plain loads"
#endif

/* Capacities. They size the pinned maps, so a change is a new layout. */
#define CW_MAX_STREAMS 4096
#define CW_MAX_NODES 4096
#define CW_MAX_IFACES 64 /* slots 1 to 63; slot 0 names no interface */
#define CW_NODE_EPOCHS 4
#define CW_KNOWN_STARTS 2

/* The sealed PDU: 8 bytes of header, ciphertext, 16 bytes of tag. */
#define CW_HEADER_LEN 8
#define CW_TAG_LEN 16

#define CW_VERSION 1
#define CW_START_PAD 8 /* of a start record on CAN FD */

enum cw_kind {
	CW_KIND_SAMPLE = 0,
	CW_KIND_HEARTBEAT = 1,
	CW_KIND_RESERVED = 2,
	CW_KIND_START = 3,
};

enum cw_carrier {
	CW_CARRIER_CANFD = 1,
};

enum cw_role {
	CW_ROLE_SAMPLE = 0,    /* carries kind 0 only */
	CW_ROLE_HEARTBEAT = 1, /* carries kinds 1 and 3 */
};

/* streams: a receiver finds the stream by where the frame really came from. */
struct cw_stream_key {
	__u32 iface;  /* stable slot of the interface, from 1; never an ifindex, which a re-created link changes */
	__u32 can_id; /* 11 bits, or 29 bits with CAN_EFF_FLAG; no other flag */
};

struct cw_stream {
	__u32 slot;	   /* dense index into the maps by stream slot */
	__u32 stream_id;   /* of the binding; goes into the associated data */
	__u32 node;	   /* dense index into epochs and starts */
	__u8 carrier;	   /* enum cw_carrier */
	__u8 role;	   /* enum cw_role */
	__u16 window_size; /* 64 to 1024 counters */
	__u32 reserved[4]; /* 0; for what other carriers are found by */
};

/*
 * epochs: what epochs of a node are acceptable. A slot is live while CW_EPOCH_LIVE is set in its word.
 * base is written before word and word by one store, so a live word stands for a complete slot.
 */
#define CW_EPOCH_LIVE 1ULL

struct cw_epoch {
	__u64 word; /* epoch << 32 | CW_EPOCH_LIVE, or 0 */
	__u64 base; /* least acceptable counter */
};

struct cw_epochs {
	struct cw_epoch slot[CW_NODE_EPOCHS];
};

/* starts: the agent's own notes beside epochs. The filter never reads them. */
struct cw_start {
	__u64 first; /* F, the first counter of this run; 0: empty */
	__u8 start[16];
};

struct cw_epoch_starts {
	__u64 epoch; /* the epoch these belong to; 0: empty */
	struct cw_start known[CW_KNOWN_STARTS];
	__u64 reserved;
};

struct cw_starts {
	struct cw_epoch_starts epoch[CW_NODE_EPOCHS]; /* by the index of epochs */
	__u64 highest_verified;			      /* highest counter verified from the node, any stream */
	__u64 reserved[7];
};

/*
 * windows: 64 self-naming words per stream. The word of counter c is words[(c >> 5) & 63]; its upper half
 * is the low 32 bits of c >> 11 and its lower half has a bit per counter. An older name means that nothing
 * of this name was seen, a newer one that the counter is too old. Nothing is ever cleared and a commit is
 * one store, so whatever moment the filter looks, each word by itself tells the truth of some moment; and
 * the filter's copy decides nothing for good: the agent checks again before it commits.
 */
#define CW_WINDOW_WORDS 64
#define CW_WORD_SHIFT 5	 /* counters per word: 32 */
#define CW_NAME_SHIFT 11 /* counters per turn of the ring: 2048 */

struct cw_window {
	__u64 words[CW_WINDOW_WORDS];
	__u64 highest_hint; /* may lag behind the highest counter, must never be ahead of it */
	__u64 committed;    /* counters committed to the window, by the agent */
	__u64 published;    /* samples published, by the agent */
	__u64 reserved[5];
};

/* meta: one entry that says whose pinned maps these are. */
#define CW_LAYOUT_VERSION 1

struct cw_meta {
	__u8 magic[8]; /* "cellward" */
	__u32 layout_version;
	__u32 ready; /* 1: the agent has filled in what an earlier boot has left; before that nothing may be accepted */
	__u8 boot_id[16];
	__u8 layout_hash[32];
	__u8 binding_hash[32];
	__u64 created_ns; /* CLOCK_BOOTTIME */
	__u64 reserved[3];
};

/*
 * Records. AAD || ciphertext || tag lie in one piece from stream_id on (offset 24), so that the agent opens
 * a record where it lies. Of the room behind the SPDU nothing is said.
 */
struct cw_record_head {
	__u64 time_ns; /* CLOCK_BOOTTIME at the hook */
	__u32 slot;
	__u32 can_id; /* as received, with flags */
	__u16 spdu_len;
	__u8 carrier;
	__u8 flags; /* the carrier's: on CAN FD those of struct canfd_frame (BRS, ESI) */
	__u32 iface;
};

#define CW_SPDU_ROOM_64 64

struct cw_record_64 {
	struct cw_record_head head;
	__u32 stream_id;
	__u32 epoch; /* all 32 bits, from epochs */
	__u64 spdu[CW_SPDU_ROOM_64 / 8];
};

/*
 * A frame that was refused, as it was on the bus, for whoever looks into what was done there. It is only shown:
 * nothing is opened from here. head.spdu_len is how many bytes of frame there are.
 */
#define CW_FRAME_ROOM 72 /* struct canfd_frame */

struct cw_refused_frame {
	struct cw_record_head head;
	__u32 stream_id;
	__u32 epoch; /* all 32 bits; 0 where the verdict came before the epoch was found */
	__u8 frame[CW_FRAME_ROOM];
	__u32 verdict;
	__u32 reserved;
};

_Static_assert(sizeof(struct cw_stream_key) == 8, "layout");
_Static_assert(sizeof(struct cw_stream) == 32, "layout");
_Static_assert(sizeof(struct cw_epochs) == 64, "one cache line");
_Static_assert(sizeof(struct cw_epoch_starts) == 64, "one cache line");
_Static_assert(sizeof(struct cw_starts) == 320, "whole cache lines");
_Static_assert(sizeof(struct cw_window) == 576, "whole cache lines");
_Static_assert(sizeof(struct cw_meta) == 128, "layout");
_Static_assert(sizeof(struct cw_record_head) == 24, "layout");
_Static_assert(sizeof(struct cw_record_64) == 96, "layout");
_Static_assert(sizeof(struct cw_refused_frame) == 112, "layout");

#endif /* CELLWARD_WIRE_H */
