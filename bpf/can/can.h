/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The CAN carrier at tc ingress. The frame is linear and without a link header: 16 bytes of classic CAN,
 * 72 of CAN FD whatever its len says, 12 + len of CAN XL. Other lengths are no CAN frames (the CAN stack
 * refuses them), but a TUN device or a broken driver can bring them up to here.
 *
 * In front of the frame a program may find bytes all the same. What the kernel shows at ingress begins at the
 * MAC header, and drivers of controllers set that before they reserve room for struct can_skb_priv, where
 * vcan and vxcan set it behind (init_can_skb_reserve() in drivers/net/can/dev/skb.c, can_send() in
 * net/can/af_can.c). The network header is set by the network core, to where the CAN stack will read.
 */
#ifndef CELLWARD_CAN_H
#define CELLWARD_CAN_H

#define CW_HDR_START_NET 1 /* BPF_HDR_START_NET of include/uapi/linux/bpf.h */

#define CW_FRONT_MAX 64 /* more than any kernel has had in front of a frame */

/*
 * Reads the identifier. CW_CANDIDATE means that it was read.
 *
 * Real CAN frames are linear. One that is not can still carry a protected identifier, so it is looked into
 * rather than passed unread.
 */
static __always_inline enum cw_verdict cw_can_id(struct __sk_buff *skb, canid_t *id)
{
	if (!bpf_skb_load_bytes_relative(skb, 0, id, sizeof(*id), CW_HDR_START_NET))
		return CW_CANDIDATE;
	if (bpf_skb_pull_data(skb, skb->len))
		return CW_MALFORMED; /* no memory to look into it: it may be protected */
	if (!bpf_skb_load_bytes_relative(skb, 0, id, sizeof(*id), CW_HDR_START_NET))
		return CW_CANDIDATE;
	/* Too short to name an identifier, so no stream's, and too short to be taken by the CAN stack. */
	return CW_PASSED;
}

/*
 * Returns the CAN FD frame that begins at offset off and has the identifier id, or NULL if what is there is
 * none of its length. Where the frame begins must not be mistaken, so the identifier tells.
 */
static __always_inline const struct canfd_frame *cw_canfd_frame(struct __sk_buff *skb, const __u32 off, canid_t id)
{
	const struct canfd_frame *frame;

	if (off > CW_FRONT_MAX || skb->len != off + CANFD_MTU)
		return NULL;
	frame = (void *)(long)skb->data + off;
	if ((void *)(frame + 1) > (void *)(long)skb->data_end || frame->can_id != id)
		return NULL;
	return frame;
}

/*
 * Judges a frame on a protected identifier, which ends in this program, and hands it over.
 */
static __always_inline enum cw_verdict cw_can_sealed(struct __sk_buff *skb, const __u32 off, const __u32 protocol,
						     canid_t id, const struct cw_stream *stream, __u32 *epoch)
{
	struct cw_origin origin = {.carrier = CW_CARRIER_CANFD};
	const struct canfd_frame *frame;
	enum cw_verdict verdict;

	if (protocol != bpf_htons(ETH_P_CANFD) || (id & (CAN_RTR_FLAG | CAN_ERR_FLAG)) ||
	    stream->carrier != CW_CARRIER_CANFD)
		return CW_PLAINTEXT_ON_PROTECTED;
	frame = cw_canfd_frame(skb, off, id);
	if (!frame)
		return CW_PLAINTEXT_ON_PROTECTED;
	if (frame->len != 32 && frame->len != 48 && frame->len != 64)
		return CW_PLAINTEXT_ON_PROTECTED;

	origin.can_id = id;
	origin.len = frame->len;
	origin.flags = frame->flags;
	verdict = cw_classify(stream, frame->data, frame->len, epoch);
	origin.epoch = *epoch;
	return cw_submit_64(verdict, stream, &origin, frame->data);
}

/*
 * Hands over a refused frame, as the CAN stack would have seen it. There is none of CAN XL, which is longer
 * than its room. The agent looks at these when it counts, so nobody is woken.
 */
static __always_inline void cw_can_show(struct __sk_buff *skb, const __u32 protocol, canid_t id, __u32 epoch,
					const struct cw_stream *stream, enum cw_verdict verdict)
{
	struct cw_origin origin = {.can_id = id};
	struct cw_refused_frame *record;
	long failed;

	if (protocol == bpf_htons(ETH_P_CANXL))
		return;
	record = bpf_ringbuf_reserve(&refused_frames, sizeof(*record), 0);
	if (!record)
		return;
	/* The verifier wants lengths that are known. */
	if (protocol == bpf_htons(ETH_P_CANFD)) {
		origin.len = CANFD_MTU;
		origin.carrier = CW_CARRIER_CANFD;
		failed = bpf_skb_load_bytes_relative(skb, 0, record->frame, CANFD_MTU, CW_HDR_START_NET);
	} else {
		origin.len = CAN_MTU;
		failed = bpf_skb_load_bytes_relative(skb, 0, record->frame, CAN_MTU, CW_HDR_START_NET);
	}
	if (failed) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	cw_fill_head(&record->head, stream, &origin);
	record->stream_id = stream->stream_id;
	record->epoch = epoch;
	record->verdict = verdict;
	record->reserved = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/*
 * Judges one frame, whose first byte lies at offset off, and hands it over. protocol is the frame's, in
 * network byte order; own says that we sent it ourselves. Never writes to the frame.
 */
static __always_inline enum cw_verdict cw_can_judge(struct __sk_buff *skb, const __u32 off, const __u32 protocol,
						    bool own)
{
	struct cw_stream_key key = {.iface = cw_iface};
	const struct cw_stream *stream;
	enum cw_verdict verdict;
	__u32 epoch = 0;
	canid_t id;

	/* No other EtherType reaches the CAN stack. */
	if (protocol != bpf_htons(ETH_P_CAN) && protocol != bpf_htons(ETH_P_CANFD) &&
	    protocol != bpf_htons(ETH_P_CANXL))
		return CW_PASSED;

	verdict = cw_can_id(skb, &id);
	if (verdict != CW_CANDIDATE)
		return verdict;

	/*
	 * Error frames exist as classic frames only. The flag on another type would be a lie, under which
	 * the identifier could hide, so there the identifier counts. In an 11-bit identifier the bits above
	 * are ignored, as the CAN stack ignores them. CAN XL has an 11-bit priority in that place, which
	 * would be taken for the same number by a reader of CAN_RAW.
	 */
	if (protocol == bpf_htons(ETH_P_CAN) && (id & CAN_ERR_FLAG))
		return CW_ERROR_FRAME;
	if (protocol != bpf_htons(ETH_P_CANXL) && (id & CAN_EFF_FLAG))
		key.can_id = id & (CAN_EFF_FLAG | CAN_EFF_MASK);
	else
		key.can_id = id & CAN_SFF_MASK;

	stream = bpf_map_lookup_elem(&streams, &key);
	if (!stream)
		return CW_PASSED;
	if (own)
		return CW_OWN_ECHO;

	/* From here on the identifier is protected. */
	verdict = cw_can_sealed(skb, off, protocol, id, stream, &epoch);
	if (cw_is_wanted(stream, verdict))
		cw_can_show(skb, protocol, id, epoch, stream, verdict);
	cw_count_refused(stream, verdict);
	return verdict;
}

#endif /* CELLWARD_CAN_H */
