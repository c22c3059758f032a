/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/*
 * The CAN filter under BPF_PROG_TEST_RUN, for tests and benchmarks only. A test run puts an Ethernet header
 * in front, makes IEEE 802.2 of every protocol number below 1536, and gives the frame a socket. So this entry
 * skips the header, takes the protocol from it, and takes "our own frame" from bit 0 of skb->mark.
 * Everything else is the very code of can_ingress.
 */
#include "../../../vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "../../include/wire.h"
#include "../../include/verdict.h"
#include "../../include/maps.h"
#include "../../include/classify.h"
#include "../can.h"

SEC("tc")
int can_testrun(struct __sk_buff *skb)
{
	const __be16 *header = (const __be16 *)(long)skb->data;
	enum cw_verdict verdict;

	if ((const void *)header + ETH_HLEN > (const void *)(long)skb->data_end)
		return TCX_DROP; /* without a verdict, which the tests notice */
	verdict = cw_can_judge(skb, ETH_HLEN, header[6], skb->mark & 1);
	cw_count(verdict);
	return cw_passes(verdict) ? TCX_NEXT : TCX_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
