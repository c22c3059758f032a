// SPDX-License-Identifier: Apache-2.0

// Package sink takes event records to where they are wanted: standard output, a file, syslog, the journal, a CAN bus. A
// [Queue] stands between the collector and each destination, so that one that is down, slow or full holds nobody up; what
// does not fit into it is summed up and delivered later, with exact counts.
//
// It may import agent/event and the packages under it, agent/policy and loader.
package sink
