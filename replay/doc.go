// SPDX-License-Identifier: Apache-2.0

// Package replay decides about counters: Window says which were seen before,
// Gaps says which are missing, CheckRange says which an epoch can have at all.
//
// A Window works in shared memory that a kernel filter reads while the agent
// writes it; the words alone carry its state across a crash of the agent. Gaps
// is ordinary memory of the agent.
//
// Only authenticated frames may move either of them: a caller asks Check before
// it opens a frame and calls Commit, Frame or Heartbeat after the tag has
// verified.
//
// The package may import nothing else of this module.
package replay
