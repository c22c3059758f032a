// SPDX-License-Identifier: Apache-2.0

package can

// The compiler is named with its version because the objects are committed and compared: another clang
// makes other bytes. bpf_helpers.h and bpf_endian.h come from libbpf's headers. All paths are relative, so the
// output is the same wherever the tree lies.
//
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -output-stem can -type cw_verdict -type cw_carrier -type cw_role -type cw_record_64 -type cw_refused_frame -type cw_stream_key -type cw_stream -type cw_epochs -type cw_starts -type cw_window -type cw_meta -type cw_counters -type cw_stream_refused -type cw_frames_wanted Filter can.bpf.c -- -mcpu=v3 -Wall -Werror
