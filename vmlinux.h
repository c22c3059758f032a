/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* clang-format off */
/*
 * The kernel's types that the programs under bpf/ use, and no others.
 *
 * How it was made. The BPF types are taken, trimmed to what is used, from the output of
 *
 *	bpftool btf dump file /sys/kernel/btf/vmlinux format c		(Linux 6.18, amd64)
 *
 * and the CAN frames from include/uapi/linux/can.h, the Ethernet protocol numbers from
 * include/uapi/linux/if_ether.h and TCX_* from include/uapi/linux/bpf.h of Linux 6.12 (a kernel built
 * without CAN has none of the former in its BTF, and BTF holds no macros).
 * The tests of loader/ compare struct __sk_buff and struct bpf_sock with the BTF of the running kernel.
 *
 * Why no preserve_access_index. Every type here is UAPI: its layout is fixed for ever, on every
 * architecture. A CO-RE relocation against it could only add a way to fail: at load time on a kernel
 * without BTF (5.15 gateway kernels are often built without it), and for the CAN frames on a kernel whose
 * CAN is a module. Whoever adds a kernel-internal structure to this file must put it between
 * "#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)" and pop.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short int __s16;
typedef short unsigned int __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long int __s64;
typedef long long unsigned int __u64;

typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

typedef _Bool bool;

enum {
	false = 0,
	true = 1,
};

/* include/uapi/linux/bpf.h */

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_F_RDONLY_PROG = 128,
	BPF_F_MMAPABLE = 1024,
};

enum {
	BPF_RB_NO_WAKEUP = 1,
};

enum {
	BPF_RB_AVAIL_DATA = 0,
	BPF_RB_RING_SIZE = 1,
	BPF_RB_CONS_POS = 2,
	BPF_RB_PROD_POS = 3,
};

enum tcx_action_base {
	TCX_NEXT = -1,
	TCX_PASS = 0,
	TCX_DROP = 2,
	TCX_REDIRECT = 7,
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__be16 dst_port;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
	__s32 rx_queue_mapping;
};

struct bpf_flow_keys;

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	union {
		struct bpf_flow_keys *flow_keys;
	};
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	union {
		struct bpf_sock *sk;
	};
	__u32 gso_size;
	__u8 tstamp_type;
	__u64 hwtstamp;
};

/* include/uapi/linux/if_ether.h */

#define ETH_HLEN 14
#define ETH_P_CAN 0x000C
#define ETH_P_CANFD 0x000D
#define ETH_P_CANXL 0x000E

/* include/linux/socket.h */

#define AF_UNSPEC 0

/* include/uapi/linux/can.h */

typedef __u32 canid_t;

#define CAN_EFF_FLAG 0x80000000U
#define CAN_RTR_FLAG 0x40000000U
#define CAN_ERR_FLAG 0x20000000U

#define CAN_SFF_MASK 0x000007FFU
#define CAN_EFF_MASK 0x1FFFFFFFU

#define CANXL_PRIO_MASK CAN_SFF_MASK

#define CAN_MAX_DLEN 8
#define CANFD_MAX_DLEN 64

struct can_frame {
	canid_t can_id;
	__u8 len;
	__u8 __pad;
	__u8 __res0;
	__u8 len8_dlc;
	__u8 data[CAN_MAX_DLEN] __attribute__((aligned(8)));
};

struct canfd_frame {
	canid_t can_id;
	__u8 len;
	__u8 flags;
	__u8 __res0;
	__u8 __res1;
	__u8 data[CANFD_MAX_DLEN] __attribute__((aligned(8)));
};

#define CAN_MTU (sizeof(struct can_frame))
#define CANFD_MTU (sizeof(struct canfd_frame))

#endif /* __VMLINUX_H__ */
