// SPDX-License-Identifier: Apache-2.0

//go:build cellward_shifted

package loader

import (
	"cmp"
	"fmt"
	"slices"
	"structs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/cellward/cellward/bpf/can"
)

// This is the layout of no release. The tests build a program with it, by the tag cellward_shifted, that upgrades and is upgraded from.
// Every map is larger, windows are longer and have a member that the real ones lack, and members that the filter does not read have
// changed places; so the compiled filter runs with it as it is.

// loadFilter reads the compiled filter and tells of other tables than it was compiled with.
func loadFilter() (*ebpf.CollectionSpec, error) {
	spec, err := can.LoadFilter()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{
		can.FilterMapStreams, can.FilterMapWindows, can.FilterMapStreamShed, can.FilterMapStreamRefused, can.FilterMapFramesWanted,
		can.FilterMapEpochs, can.FilterMapStarts,
	} {
		spec.Maps[name].MaxEntries = MaxStreams
	}
	u64 := &btf.Int{Name: "__u64", Size: 8}
	window, ok := btf.Copy(spec.Maps[can.FilterMapWindows].Value).(*btf.Struct)
	if !ok {
		return nil, fmt.Errorf("shift layout: values of windows are no structs")
	}
	for i := range window.Members {
		switch m := &window.Members[i]; m.Name {
		case "published":
			m.Offset -= 64
		case "committed":
			m.Offset += 64
		}
	}
	sortMembers(window)
	window.Members = append(window.Members, btf.Member{Name: "shifted", Type: &btf.Array{Index: u64, Type: u64, Nelems: 8}, Offset: btf.Bits(window.Size * 8)})
	window.Size += 64
	spec.Maps[can.FilterMapWindows].Value, spec.Maps[can.FilterMapWindows].ValueSize = window, window.Size

	starts, ok := btf.Copy(spec.Maps[can.FilterMapStarts].Value).(*btf.Struct)
	if !ok {
		return nil, fmt.Errorf("shift layout: values of starts are no structs")
	}
	for i := range starts.Members {
		if m := &starts.Members[i]; m.Name == "epoch" {
			m.Offset = 64 * 8
		} else {
			m.Offset -= NodeEpochs * 64 * 8
		}
	}
	sortMembers(starts)
	spec.Maps[can.FilterMapStarts].Value = starts
	return spec, nil
}

// sortMembers puts members into the order that the kernel wants them in.
func sortMembers(s *btf.Struct) {
	slices.SortFunc(s.Members, func(a, b btf.Member) int { return cmp.Compare(a.Offset, b.Offset) })
}

// newMembers is as in every build.
func newMembers() map[string]string {
	return map[string]string{can.FilterMapFramesWanted: "no frame is handed over", "windows.shifted": "nobody reads it"}
}

// Capacities of the shared maps.
const (
	MaxStreams = 8192
	MaxNodes   = 8192
)

// Window is the replay window of one stream in shared memory.
type Window struct {
	_           structs.HostLayout
	Words       [WindowWords]uint64
	HighestHint Word
	Published   Word
	Committed   Word
	_           [5]uint64
	_           [8]uint64
}

// StartTable is what is known of one node's starts, in shared memory.
type StartTable struct {
	_               structs.HostLayout
	HighestVerified Word
	_               [7]uint64
	epoch           [NodeEpochs]EpochStarts
}
