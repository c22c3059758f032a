// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/cellward/cellward/agent/demo"
)

// kernelCounters are the kernel's own numbers, as bpftool prints them from the maps' type information: no code of cellward's reads them.
type kernelCounters struct {
	verdicts map[string]uint64          // of filter and agent, by name
	windows  map[uint32]kernelWindow    // by stream id
	epochs   map[uint32]map[uint32]bool // live ones, by node index
}

type kernelWindow struct{ highest, committed, published uint64 }

func dump(t *testing.T, path string, out any) {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), "bpftool", "-j", "map", "dump", "pinned", path).Output()
	if err != nil {
		t.Fatalf("bpftool map dump %s: %v", path, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("bpftool map dump %s: %v: %.200s", path, err, b)
	}
}

// readKernel reads the counters of a laboratory with one bus.
func readKernel(t *testing.T, l *demo.Lab) kernelCounters {
	t.Helper()
	root := l.Binding().Gateway.BPFFS
	slot := l.Binding().Interfaces[0].Index
	k := kernelCounters{verdicts: make(map[string]uint64), windows: make(map[uint32]kernelWindow), epochs: make(map[uint32]map[uint32]bool)}
	type counters struct {
		Formatted struct {
			Key   uint32                     `json:"key"`
			Value map[string]json.RawMessage `json:"value"`
		} `json:"formatted"`
	}
	add := func(c counters) {
		for name, raw := range c.Formatted.Value {
			if name == "reserved" {
				continue
			}
			n, err := strconv.ParseUint(string(raw), 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			k.verdicts[name] += n
		}
	}
	var filter, agents []counters
	dump(t, filepath.Join(root, "bus_"+strconv.Itoa(int(slot)), "filter_counters"), &filter) // by CPU
	for _, c := range filter {
		add(c)
	}
	dump(t, filepath.Join(root, "maps", "agent_counters"), &agents) // by slot
	for _, c := range agents {
		if c.Formatted.Key == uint32(slot) {
			add(c)
		}
	}
	var streams []struct {
		Formatted struct {
			Value struct {
				Slot     uint32 `json:"slot"`
				StreamID uint32 `json:"stream_id"`
			} `json:"value"`
		} `json:"formatted"`
	}
	var windows []struct {
		Formatted struct {
			Key   uint32 `json:"key"`
			Value struct {
				Highest   uint64 `json:"highest_hint"`
				Committed uint64 `json:"committed"`
				Published uint64 `json:"published"`
			} `json:"value"`
		} `json:"formatted"`
	}
	dump(t, filepath.Join(root, "maps", "streams"), &streams)
	dump(t, filepath.Join(root, "maps", "windows"), &windows)
	ids := make(map[uint32]uint32)
	for _, s := range streams {
		ids[s.Formatted.Value.Slot] = s.Formatted.Value.StreamID
	}
	for _, w := range windows {
		if id, ok := ids[w.Formatted.Key]; ok {
			v := w.Formatted.Value
			k.windows[id] = kernelWindow{highest: v.Highest, committed: v.Committed, published: v.Published}
		}
	}
	var epochs []struct {
		Formatted struct {
			Key   uint32 `json:"key"`
			Value struct {
				Slot []struct {
					Word uint64 `json:"word"`
				} `json:"slot"`
			} `json:"value"`
		} `json:"formatted"`
	}
	dump(t, filepath.Join(root, "maps", "epochs"), &epochs)
	for _, n := range epochs {
		for _, s := range n.Formatted.Value.Slot {
			if s.Word&1 == 0 {
				continue
			}
			if k.epochs[n.Formatted.Key] == nil {
				k.epochs[n.Formatted.Key] = make(map[uint32]bool)
			}
			k.epochs[n.Formatted.Key][uint32(s.Word>>32)] = true
		}
	}
	if len(k.verdicts) == 0 || len(k.windows) == 0 || len(k.epochs) == 0 {
		t.Fatalf("bpftool shows too little: %+v", k)
	}
	return k
}
