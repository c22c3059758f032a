// SPDX-License-Identifier: Apache-2.0

package testrun

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -output-stem testrun -no-global-types Testrun testrun.bpf.c -- -mcpu=v3 -Wall -Werror
