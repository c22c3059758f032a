/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The verdicts: what became of a frame. Each frame gets exactly one in the filter; a candidate or a
 * start record gets exactly one more in the agent. The order is part of the layout (struct cw_counters):
 * new verdicts go to the end.
 *
 * Where a verdict stands in time: the filter checks form, stream, epoch, kind, counter, in that order, and
 * the first refusal counts.
 */
#ifndef CELLWARD_VERDICT_H
#define CELLWARD_VERDICT_H

enum cw_verdict {
	/* The filter. The first two let the frame through, all others drop it. */
	CW_PASSED = 0,		   /* no stream claims the frame */
	CW_ERROR_FRAME,		   /* CAN error frame: it carries error bits, not an identifier */
	CW_OWN_ECHO,		   /* our own transmission, looped back, on a protected identifier */
	CW_PLAINTEXT_ON_PROTECTED, /* protected identifier in any other frame type or length */
	CW_MALFORMED,		   /* a right length with a wrong version, kind or pad */
	CW_WRONG_KIND,		   /* a kind that this stream never carries */
	CW_UNKNOWN_EPOCH,	   /* no acceptable epoch of the node has these low 8 bits */
	CW_COUNTER_RANGE,	   /* 0, below the epoch's base, or more than 2^32 above it */
	CW_TOO_OLD,		   /* behind the window */
	CW_REPLAY,		   /* the window has seen it */
	CW_SHED,		   /* dropped at random because the ring is above three quarters */
	CW_RING_FULL,		   /* no room left in the candidate ring */
	CW_CANDIDATE,		   /* handed to the agent */
	CW_CONTROL,		   /* start record, handed to the agent on the control ring */
	CW_CONTROL_FULL,	   /* no room left in the control ring */

	/* The agent. */
	CW_ACCEPTED,		 /* tag verified, counter fresh, published */
	CW_BAD_TAG,		 /* the tag does not verify */
	CW_BAD_PLAINTEXT,	 /* good tag, but padding or body against the rules */
	CW_BAD_START,		 /* start record whose MAC does not verify */
	CW_START_KNOWN,		 /* start record of a start already taken */
	CW_START_SHED,		 /* start record above the rate at which unknown ones are verified */
	CW_START_ACCEPTED,	 /* start record that brought a new start */
	CW_NODE_ROLLBACK,	 /* good MAC, but F not above everything known of the node */
	CW_KEY_EXPIRED,		 /* the key is beyond its hard limit */
	CW_NO_START,		 /* no known start lies at or below the counter */
	CW_REREAD,		 /* read again after a restart and already committed */
	CW_AGENT_REPLAY,	 /* seen, by the agent's own window */
	CW_AGENT_TOO_OLD,	 /* behind the agent's own window */
	CW_AGENT_UNKNOWN_EPOCH,	 /* the epoch ended between filter and agent */
	CW_AGENT_COUNTER_RANGE,	 /* out of range by the agent's own base */
	CW_AGENT_UNKNOWN_STREAM, /* the stream ended between filter and agent */
	CW_DOWNGRADE,		 /* old epoch at a counter that the new epoch has already passed */
	CW_NOT_DURABLE,		 /* no ceiling above the counter could be made durable */

	CW_VERDICT_COUNT,
};

/*
 * One u64 per verdict, named and ordered as the enum, so that `bpftool map dump` shows names and code may
 * index it as an array. 384 bytes: whole cache lines, and room for 15 more verdicts.
 */
#define CW_COUNTERS 48

struct cw_counters {
	__u64 passed;
	__u64 error_frame;
	__u64 own_echo;
	__u64 plaintext_on_protected;
	__u64 malformed;
	__u64 wrong_kind;
	__u64 unknown_epoch;
	__u64 counter_range;
	__u64 too_old;
	__u64 replay;
	__u64 shed;
	__u64 ring_full;
	__u64 candidate;
	__u64 control;
	__u64 control_full;
	__u64 accepted;
	__u64 bad_tag;
	__u64 bad_plaintext;
	__u64 bad_start;
	__u64 start_known;
	__u64 start_shed;
	__u64 start_accepted;
	__u64 node_rollback;
	__u64 key_expired;
	__u64 no_start;
	__u64 reread;
	__u64 agent_replay;
	__u64 agent_too_old;
	__u64 agent_unknown_epoch;
	__u64 agent_counter_range;
	__u64 agent_unknown_stream;
	__u64 downgrade;
	__u64 not_durable;
	__u64 reserved[CW_COUNTERS - CW_VERDICT_COUNT];
};

_Static_assert(sizeof(struct cw_counters) == CW_COUNTERS * sizeof(__u64), "one u64 per verdict");
_Static_assert(__builtin_offsetof(struct cw_counters, candidate) == CW_CANDIDATE * sizeof(__u64), "enum order");
_Static_assert(__builtin_offsetof(struct cw_counters, not_durable) == CW_NOT_DURABLE * sizeof(__u64), "enum order");

/*
 * Of one stream: one u64 per verdict by which the filter refuses a frame of it, named as the enum. CW_SHED is
 * not among them: stream_shed has it. Verdicts from CW_PLAINTEXT_ON_PROTECTED to CW_REPLAY are in the enum's
 * order; see cw_refused_index(). 128 bytes: whole cache lines, and room for 7 more.
 */
#define CW_REFUSED 16

struct cw_stream_refused {
	__u64 plaintext_on_protected;
	__u64 malformed;
	__u64 wrong_kind;
	__u64 unknown_epoch;
	__u64 counter_range;
	__u64 too_old;
	__u64 replay;
	__u64 ring_full;
	__u64 control_full;
	__u64 reserved[CW_REFUSED - 9];
};

/*
 * Of one stream: which frames the agent wants to see of those that are refused, by the places of struct
 * cw_stream_refused: those that are refused while the low 32 bits of the counter are below until, so that a
 * flood costs a few frames at each look of the agent and then a comparison. The agent writes it.
 */
#define CW_WANTED (CW_REPLAY - CW_PLAINTEXT_ON_PROTECTED + 1) /* not those that had no room */

struct cw_frames_wanted {
	__u32 until[CW_REFUSED];
};

#define CW_REFUSED_PLACE(name) (__builtin_offsetof(struct cw_stream_refused, name) / sizeof(__u64))

_Static_assert(sizeof(struct cw_frames_wanted) == 64, "one cache line");
_Static_assert(sizeof(struct cw_stream_refused) == CW_REFUSED * sizeof(__u64), "whole cache lines");
_Static_assert(CW_REFUSED_PLACE(plaintext_on_protected) == 0, "the first");
_Static_assert(CW_REFUSED_PLACE(unknown_epoch) == CW_UNKNOWN_EPOCH - CW_PLAINTEXT_ON_PROTECTED, "enum order");
_Static_assert(CW_REFUSED_PLACE(replay) == CW_REPLAY - CW_PLAINTEXT_ON_PROTECTED, "enum order");

/* Where a verdict is in struct cw_stream_refused; CW_REFUSED: it is not. */
static __always_inline __u32 cw_refused_index(enum cw_verdict verdict)
{
	if (verdict >= CW_PLAINTEXT_ON_PROTECTED && verdict <= CW_REPLAY)
		return verdict - CW_PLAINTEXT_ON_PROTECTED;
	if (verdict == CW_RING_FULL)
		return CW_REFUSED_PLACE(ring_full);
	if (verdict == CW_CONTROL_FULL)
		return CW_REFUSED_PLACE(control_full);
	return CW_REFUSED;
}

#endif /* CELLWARD_VERDICT_H */
