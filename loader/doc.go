// SPDX-License-Identifier: Apache-2.0

// Package loader brings the filter into the kernel and keeps it there: it creates and pins the maps, loads
// one program instance per interface, attaches it, and gives typed access to what filter and agent share.
//
// Everything that must outlive the process is pinned under one folder of a bpffs:
//
//	ROOT/maps/                 streams epochs windows starts agent_counters stream_shed stream_refused frames_wanted meta
//	ROOT/bus_SLOT/             candidates control refused_frames filter_counters, and link (tcx) or hook (clsact)
//
// [Open] creates the shared maps, all or none, or opens those of an earlier run; those of another layout it migrates if it is asked
// to ([Options]), and [OpenBeside] does so beside an agent that runs. Until the former rings are read there is also
//
//	ROOT/former_N/maps/        stream_shed stream_refused meta
//	ROOT/former_N/bus_SLOT/    candidates control filter_counters
//
// and in the middle of it ROOT/beside, which is not in effect, or ROOT/next, which is. [Set.Attach] loads and
// attaches the filter, all interfaces or none, or takes over what an earlier run attached. Closing a [Set]
// or losing the process changes nothing in the kernel: protected identifiers stay protected. Only [Detach]
// opens a bus again.
//
// The filter sits at tc ingress, held by a tcx link or, where the kernel has no tcx, by a cls_bpf filter at clsact.
// [LinkWatcher] and [CANErrors] tell what happens to interfaces, and [Set.Reattach] attaches to one that was made anew.
//
// The order for a caller is: Open, fill the stream table, Attach, then read rings with a [Poller]. Streams
// go in first because an identifier is protected from the moment at which its stream is in the table.
//
// [Inspect] and [Hooks] tell what is pinned and attached without changing anything, and the Probe functions what the
// kernel can do.
//
// The package also holds what it takes to get at a CAN bus: links over rtnetlink ([Links]), TUN devices that
// look like CAN interfaces ([TUN]), CAN sockets ([CANConn]) and network namespaces ([Netns]).
//
// It imports only the generated package under bpf. Everything needs Linux, most of it CAP_BPF, CAP_NET_ADMIN
// and, for a bpffs of its own, CAP_SYS_ADMIN.
package loader
