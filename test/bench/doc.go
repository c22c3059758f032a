// SPDX-License-Identifier: Apache-2.0

// Package bench measures the kernel's half of the data path: the filter, and the hand-off from its ring buffer to user space.
// It has only tests and benchmarks, which share their frames. They need root, because they load the filter; it is run by
// BPF_PROG_TEST_RUN, attached to nothing.
//
// The half in user space is BenchmarkPipeline of package agent, which needs that package's internals. Both together are the
// table of docs/performance.md:
//
//	go test -run '^$' -bench '^BenchmarkPipeline$' ./test/bench ./agent
//
// The package may import everything of this module.
package bench
