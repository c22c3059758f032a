/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps. Shared by all program instances of a gateway: streams, epochs, windows, starts, agent_counters,
 * stream_shed, stream_refused, frames_wanted, meta. One set per interface: candidates, control,
 * refused_frames, filter_counters.
 *
 * Who writes: the filter writes filter_counters, stream_shed, stream_refused and the rings, none of which it
 * decides by (the fill level of candidates apart, which shedding needs). Everything that it decides by is written by
 * the agent, so no frame can move the state that judges later frames. streams says so to the verifier by
 * BPF_F_RDONLY_PROG; the mapped arrays cannot, because the kernel refuses a writable mapping of such a map.
 */
#ifndef CELLWARD_MAPS_H
#define CELLWARD_MAPS_H

/* Defaults; the loader sets the real sizes, and cw_ring_quarter with them. */
#define CW_CANDIDATES_SIZE (4 << 20)
#define CW_CONTROL_SIZE (256 << 10)
#define CW_REFUSED_SIZE (64 << 10)
#define CW_CPUS 1

/* Constants of one program instance, set before it is loaded. */
volatile const __u32 cw_iface = 0;			       /* slot of the interface; 0 names none */
volatile const __u32 cw_ring_quarter = CW_CANDIDATES_SIZE / 4; /* bytes; a power of two */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CW_MAX_STREAMS);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__type(key, struct cw_stream_key);
	__type(value, struct cw_stream);
} streams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_MAX_NODES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_epochs);
} epochs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_MAX_STREAMS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_window);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_MAX_NODES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_starts);
} starts SEC(".maps");

/* By interface slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_MAX_IFACES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_counters);
} agent_counters SEC(".maps");

/* By stream slot: frames shed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_MAX_STREAMS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} stream_shed SEC(".maps");

/* By stream slot: frames refused otherwise. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_MAX_STREAMS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_stream_refused);
} stream_refused SEC(".maps");

/* By stream slot: which of them the agent wants to see. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_MAX_STREAMS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_frames_wanted);
} frames_wanted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_meta);
} meta SEC(".maps");

/* By CPU. A per-CPU array would do the indexing by itself but cannot be mapped. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CW_CPUS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct cw_counters);
} filter_counters SEC(".maps");

/* Samples and heartbeats. One ring for all CPUs keeps the order in which frames came in. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, CW_CANDIDATES_SIZE);
} candidates SEC(".maps");

/* Start records. A ring of their own: a flood of samples must not keep a restarted node out. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, CW_CONTROL_SIZE);
} control SEC(".maps");

/* Refused frames, as far as they are wanted. A ring of their own: no forged frame takes room from another. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, CW_REFUSED_SIZE);
} refused_frames SEC(".maps");

#endif /* CELLWARD_MAPS_H */
