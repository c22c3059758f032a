// SPDX-License-Identifier: Apache-2.0

// Package testrun holds the CAN filter compiled for BPF_PROG_TEST_RUN: the code of package can behind an
// entry that skips the Ethernet header which a test run puts in front. It is for tests and benchmarks only
// and imports nothing of this project.
package testrun
