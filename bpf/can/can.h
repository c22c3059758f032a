/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The CAN carrier at tc ingress. The frame is linear and without a link header: 16 bytes of classic CAN,
 * 72 of CAN FD whatever its len says, 12 + len of CAN XL. Other lengths are no CAN frames (the CAN stack
 * refuses them), but a TUN device or a broken driver can bring them up to here.
 */
#ifndef CELLWARD_CAN_H
#define CELLWARD_CAN_H

/*
 * Makes the identifier readable at offset off and returns where the frame begins, or NULL.
 *
 * Real CAN frames are linear. One that is not can still carry a protected identifier, so it is looked into
 * rather than passed unread.
 */
static __always_inline void *cw_can_frame(struct __sk_buff *skb, const __u32 off)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (data + off + sizeof(canid_t) <= end)
		return data + off;
	if (bpf_skb_pull_data(skb, off + sizeof(canid_t)))
		return NULL;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + off + sizeof(canid_t) <= end)
		return data + off;
	return NULL;
}

/*
 * Judges one frame, whose first byte lies at offset off, and hands it over. protocol is the frame's, in
 * network byte order; own says that we sent it ourselves. Never writes to the frame.
 */
static __always_inline enum cw_verdict cw_can_judge(struct __sk_buff *skb, const __u32 off, const __u32 protocol,
						    bool own)
{
	struct cw_stream_key key = {.iface = cw_iface};
	struct cw_origin origin = {.carrier = CW_CARRIER_CANFD};
	const struct cw_stream *stream;
	const struct canfd_frame *frame;
	enum cw_verdict verdict;
	canid_t id;

	/* No other EtherType reaches the CAN stack. */
	if (protocol != bpf_htons(ETH_P_CAN) && protocol != bpf_htons(ETH_P_CANFD) &&
	    protocol != bpf_htons(ETH_P_CANXL))
		return CW_PASSED;

	/* Too short to name an identifier, so no stream's, and too short to be taken by the CAN stack. */
	if (skb->len < off + sizeof(canid_t))
		return CW_PASSED;
	frame = cw_can_frame(skb, off);
	if (!frame)
		return CW_MALFORMED; /* no memory to look into it: it may be protected */
	id = frame->can_id;

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

	/* From here on the identifier is protected, and the frame ends in this program. */
	if (protocol != bpf_htons(ETH_P_CANFD) || (id & (CAN_RTR_FLAG | CAN_ERR_FLAG)) ||
	    stream->carrier != CW_CARRIER_CANFD || skb->len != off + CANFD_MTU ||
	    (void *)(frame + 1) > (void *)(long)skb->data_end)
		return CW_PLAINTEXT_ON_PROTECTED;
	if (frame->len != 32 && frame->len != 48 && frame->len != 64)
		return CW_PLAINTEXT_ON_PROTECTED;

	origin.can_id = id;
	origin.len = frame->len;
	origin.flags = frame->flags;
	verdict = cw_classify(stream, frame->data, frame->len, &origin.epoch);
	return cw_submit_64(verdict, stream, &origin, frame->data);
}

#endif /* CELLWARD_CAN_H */
