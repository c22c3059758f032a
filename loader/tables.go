// SPDX-License-Identifier: Apache-2.0

//go:build !cellward_shifted

package loader

import (
	"structs"

	"github.com/cilium/ebpf"

	"github.com/cellward/cellward/bpf/can"
)

// loadFilter reads the compiled filter of this build.
func loadFilter() (*ebpf.CollectionSpec, error) { return can.LoadFilter() }

// newMembers names members of tables that layouts of other builds lack, as map.member, or whole maps, and says why zero means what
// those builds have meant. What is neither there nor here is not filled in by a migration, which is refused then: nobody has argued
// for it.
func newMembers() map[string]string {
	return map[string]string{can.FilterMapFramesWanted: "no frame is handed over"}
}

// Capacities of the shared maps; see bpf/include/wire.h.
const (
	MaxStreams = 4096 // stream slots 0 to 4095
	MaxNodes   = 4096 // node indexes 0 to 4095
)

// Window is the replay window of one stream in shared memory (struct cw_window). The agent is its only
// writer; the filter reads words and HighestHint at any moment.
type Window struct {
	_ structs.HostLayout

	// Words are the self-naming words, to be read and written with sync/atomic only. The filter judges by
	// single words, so any order of stores is safe as long as each is one store.
	Words [WindowWords]uint64

	// HighestHint may lag behind the highest committed counter and must never be ahead of it: the filter
	// refuses what is a window's size behind it. So it is stored after the commit that it speaks of.
	HighestHint Word

	// Committed counts commits, Published counts samples published. Commit comes first, so after a crash
	// their difference is the number of samples that were lost in it.
	Committed Word
	Published Word

	_ [5]uint64
}

// StartTable is what is known of one node's starts, in shared memory (struct cw_starts), so that a restarted
// agent finds it. The filter never reads it. One goroutine may write.
type StartTable struct {
	_     structs.HostLayout
	epoch [NodeEpochs]EpochStarts

	// HighestVerified is the highest counter that verified from this node, on any stream. It only rises.
	HighestVerified Word

	_ [7]uint64
}
