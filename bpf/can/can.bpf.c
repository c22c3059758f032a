/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* The filter at tc ingress of a CAN interface. */
#include "../../vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "../include/wire.h"
#include "../include/verdict.h"
#include "../include/maps.h"
#include "../include/classify.h"
#include "can.h"

/* Types that no map names, for the Go side. */
const enum cw_verdict *cw_type_verdict __attribute__((unused));
const enum cw_carrier *cw_type_carrier __attribute__((unused));
const enum cw_role *cw_type_role __attribute__((unused));
const struct cw_record_64 *cw_type_record_64 __attribute__((unused));
const struct cw_refused_frame *cw_type_refused_frame __attribute__((unused));

/*
 * A frame that we sent comes back with the socket that sent it. The frames of a TUN device come with the
 * device's own socket, which has no address family and says nothing about who sent.
 */
static __always_inline bool cw_own_echo(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk && sk->family != AF_UNSPEC;
}

SEC("tc")
int can_ingress(struct __sk_buff *skb)
{
	/* The network core notes the frame's length before the MAC header is put in front. */
	__u32 front = skb->len - skb->wire_len;
	enum cw_verdict verdict = cw_can_judge(skb, front, skb->protocol, cw_own_echo(skb));

	cw_count(verdict);
	/* Only these two: tcx takes any other code, TC_ACT_STOLEN too, for "next". */
	return cw_passes(verdict) ? TCX_NEXT : TCX_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
