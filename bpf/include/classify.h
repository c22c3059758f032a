/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What all hooks share: judge a sealed PDU, hand it over, count the verdict. A hook parses its carrier down
 * to a stream entry and the PDU's first byte, and asks cw_classify().
 *
 * The filter is a sieve in front of the cryptography, not a part of it: everything it reads from a frame is
 * unauthenticated. It may only refuse, on grounds that the agent would refuse too, and it writes nothing
 * that it decides by.
 */
#ifndef CELLWARD_CLASSIFY_H
#define CELLWARD_CLASSIFY_H

#define CW_COUNTER_REACH (1ULL << 32) /* how far above its base an epoch's counters may go */

/* One load, never torn, repeated or left out, of memory that the agent writes at the same time. */
#define CW_READ_ONCE(x) (*(const volatile typeof(x) *)&(x))

/* Byte 0: version, kind, pad; byte 1: low 8 bits of the epoch; bytes 2 to 7: counter. */
static __always_inline __u32 cw_header_version(__u64 header)
{
	return header & 3;
}

static __always_inline enum cw_kind cw_header_kind(__u64 header)
{
	return header >> 2 & 3;
}

static __always_inline __u32 cw_header_pad(__u64 header)
{
	return header >> 4 & 15;
}

static __always_inline __u8 cw_header_epoch(__u64 header)
{
	return header >> 8;
}

static __always_inline __u64 cw_header_counter(__u64 header)
{
	return header >> 16; /* 48 bits: 2^48-1 can not be exceeded */
}

/* Is this a form that the carrier allows? A carrier without a rule here allows none. */
static __always_inline bool cw_form(__u8 carrier, __u64 header, __u32 len)
{
	__u32 pad = cw_header_pad(header);

	if (cw_header_version(header) != CW_VERSION || cw_header_kind(header) == CW_KIND_RESERVED)
		return false;

	switch (carrier) {
	case CW_CARRIER_CANFD:
		if (cw_header_kind(header) == CW_KIND_START)
			return len == 48 && pad == CW_START_PAD;
		/* 4 bytes of source time always remain, and a shorter frame must not have done. */
		return len == 32 ? pad <= 4 : (len == 48 || len == 64);
	default:
		return false;
	}
}

/*
 * Finds the acceptable epoch by its low 8 bits. Two live epochs never share them.
 *
 * A weakly ordered CPU may load base before word, and see a word just written beside the base of the slot's
 * previous life. That can only let a frame through to the agent, which knows the base, or refuse one in the
 * instant in which an epoch becomes live, before its node was told that it is.
 */
static __always_inline bool cw_find_epoch(__u32 node, __u8 low, __u32 *epoch, __u64 *base)
{
	const struct cw_epochs *e = bpf_map_lookup_elem(&epochs, &node);

	if (!e)
		return false;
#pragma unroll
	for (int i = 0; i < CW_NODE_EPOCHS; i++) {
		__u64 word = CW_READ_ONCE(e->slot[i].word);

		if ((word & CW_EPOCH_LIVE) && (__u8)(word >> 32) == low) {
			*epoch = word >> 32;
			*base = CW_READ_ONCE(e->slot[i].base);
			return true;
		}
	}
	return false;
}

static __always_inline enum cw_verdict cw_check_counter(const struct cw_stream *stream, __u64 base, __u64 counter)
{
	__u32 slot = stream->slot;
	const struct cw_window *window;
	__u64 word;
	__s32 ahead;

	if (counter == 0 || counter < base || counter - base > CW_COUNTER_REACH)
		return CW_COUNTER_RANGE;

	window = bpf_map_lookup_elem(&windows, &slot);
	if (!window)
		return CW_COUNTER_RANGE; /* a stream without a window: nothing is in range */

	/* The hint lags at worst, and then refuses less than it could. */
	if (counter + stream->window_size <= CW_READ_ONCE(window->highest_hint))
		return CW_TOO_OLD;

	word = CW_READ_ONCE(window->words[(counter >> CW_WORD_SHIFT) & (CW_WINDOW_WORDS - 1)]);
	ahead = (__u32)(word >> 32) - (__u32)(counter >> CW_NAME_SHIFT);
	if (ahead > 0)
		return CW_TOO_OLD;
	if (ahead == 0 && (word >> (counter & 31) & 1))
		return CW_REPLAY;
	return CW_CANDIDATE;
}

/*
 * Judges a sealed PDU of len bytes, of which the first CW_HEADER_LEN are readable at first, on the stream
 * that it came in on. Returns CW_CANDIDATE, CW_CONTROL for a start record, or the first verdict that
 * refuses it. *epoch is the full epoch where the return value is one of the former two.
 */
static __always_inline enum cw_verdict cw_classify(const struct cw_stream *stream, const void *first, __u32 len,
						   __u32 *epoch)
{
	__u64 header = *(const __u64 *)first;
	enum cw_kind kind = cw_header_kind(header);
	__u64 base = 0;

	if (!cw_form(stream->carrier, header, len))
		return CW_MALFORMED;
	if (!cw_find_epoch(stream->node, cw_header_epoch(header), epoch, &base))
		return CW_UNKNOWN_EPOCH;
	/* A stream is keyed for its kinds; kind is not in the nonce, so it must never carry another. */
	if ((kind == CW_KIND_SAMPLE) != (stream->role == CW_ROLE_SAMPLE))
		return CW_WRONG_KIND;
	/* A start record's counter field names the start of a run, of which the window knows nothing. */
	if (kind == CW_KIND_START)
		return CW_CONTROL;
	return cw_check_counter(stream, base, cw_header_counter(header));
}

/*
 * Above three quarters the ring drops at random, with a probability that rises linearly from 0 to 1 at
 * full. Counters are in clear, so any choice by content, stream or rate is a choice that a forger can make
 * for us; at random, each valid frame survives with probability capacity/offered.
 */
static __always_inline bool cw_shed(void)
{
	__u32 quarter = cw_ring_quarter;
	__u64 used = bpf_ringbuf_query(&candidates, BPF_RB_AVAIL_DATA);
	__u64 limit = 3ULL * quarter;

	return used > limit && (bpf_get_prandom_u32() & (quarter - 1)) < used - limit;
}

/* Where a PDU came from, as the hook saw it. */
struct cw_origin {
	__u32 can_id;
	__u16 len;
	__u8 carrier;
	__u8 flags;
	__u32 epoch;
};

static __always_inline void cw_fill_head(struct cw_record_head *head, const struct cw_stream *stream,
					 const struct cw_origin *origin)
{
	head->time_ns = bpf_ktime_get_boot_ns();
	head->slot = stream->slot;
	head->can_id = origin->can_id;
	head->spdu_len = origin->len;
	head->carrier = origin->carrier;
	head->flags = origin->flags;
	head->iface = cw_iface;
}

static __always_inline void cw_fill_64(struct cw_record_64 *record, const struct cw_stream *stream,
				       const struct cw_origin *origin, const __u64 *spdu)
{
	cw_fill_head(&record->head, stream, origin);
	record->stream_id = stream->stream_id;
	record->epoch = origin->epoch;
	/* Always the whole room: older verifiers refuse a length that varies. */
#pragma unroll
	for (int i = 0; i < CW_SPDU_ROOM_64 / 8; i++)
		record->spdu[i] = spdu[i];
}

/*
 * Hands a PDU over; all CW_SPDU_ROOM_64 bytes at spdu must be readable. verdict is what cw_classify()
 * said; what became of it is returned. Wakeups are adaptive (flags 0): the kernel wakes the reader only
 * when the reader had taken everything, so a busy ring costs none and the tail of a burst never sleeps.
 */
static __always_inline enum cw_verdict cw_submit_64(enum cw_verdict verdict, const struct cw_stream *stream,
						    const struct cw_origin *origin, const void *spdu)
{
	struct cw_record_64 *record;

	if (verdict == CW_CONTROL) {
		record = bpf_ringbuf_reserve(&control, sizeof(*record), 0);
		if (!record)
			return CW_CONTROL_FULL;
		cw_fill_64(record, stream, origin, spdu);
		bpf_ringbuf_submit(record, 0);
		return CW_CONTROL;
	}
	if (verdict != CW_CANDIDATE)
		return verdict;
	if (cw_shed()) {
		__u32 slot = stream->slot;
		__u64 *shed = bpf_map_lookup_elem(&stream_shed, &slot);

		if (shed)
			__sync_fetch_and_add(shed, 1);
		return CW_SHED;
	}
	record = bpf_ringbuf_reserve(&candidates, sizeof(*record), 0);
	if (!record)
		return CW_RING_FULL;
	cw_fill_64(record, stream, origin, spdu);
	bpf_ringbuf_submit(record, 0);
	return CW_CANDIDATE;
}

/*
 * Does the agent want to see a frame of the stream that has this verdict? It is asked before the frame is
 * counted. CPUs that ask at once may get the same answer: some frames more, no harm.
 */
static __always_inline bool cw_is_wanted(const struct cw_stream *stream, enum cw_verdict verdict)
{
	__u32 slot = stream->slot, index = cw_refused_index(verdict);
	const struct cw_frames_wanted *wanted;
	const __u64 *refused;

	if (index >= CW_WANTED)
		return false;
	wanted = bpf_map_lookup_elem(&frames_wanted, &slot);
	refused = bpf_map_lookup_elem(&stream_refused, &slot);
	if (!wanted || !refused)
		return false;
	return (__s32)(CW_READ_ONCE(wanted->until[index]) - (__u32)CW_READ_ONCE(refused[index])) > 0;
}

/*
 * Counts the verdict for the stream that the frame came in on, if it is one that refuses; cw_submit_64() has
 * counted what was shed. It comes before cw_count(). CPUs share the counter, so the add is atomic; it is no
 * barrier, as one with a result would be, which arm64 compiles from 5.18 on only: the agent allows for that.
 */
static __always_inline void cw_count_refused(const struct cw_stream *stream, enum cw_verdict verdict)
{
	__u32 slot = stream->slot, index = cw_refused_index(verdict);
	__u64 *refused;

	if (index >= CW_REFUSED)
		return;
	refused = bpf_map_lookup_elem(&stream_refused, &slot);
	if (refused)
		__sync_fetch_and_add(&refused[index], 1);
}

/*
 * Counts the verdict. The line belongs to this CPU, but the add is atomic all the same, for about 1 ns: with
 * PREEMPT_RT a softirq can be preempted by another on its CPU, and a lost count would be a frame without a
 * verdict.
 */
static __always_inline void cw_count(enum cw_verdict verdict)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u64 *counters = bpf_map_lookup_elem(&filter_counters, &cpu);

	if (counters && verdict < CW_VERDICT_COUNT)
		__sync_fetch_and_add(&counters[verdict], 1);
}

/* Let through or drop? Everything that is not known to pass is dropped. */
static __always_inline bool cw_passes(enum cw_verdict verdict)
{
	return verdict == CW_PASSED || verdict == CW_ERROR_FRAME;
}

#endif /* CELLWARD_CLASSIFY_H */
