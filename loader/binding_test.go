// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cellward/cellward/bpf/can"
)

// TestSetRenew empties tables in use: no epoch, start, window or count is left, streams and verdict counters are, and the set is
// fresh also for whoever opens it next.
func TestSetRenew(t *testing.T) {
	needRoot(t)
	root, _ := newRoot(t)
	s := openSet(t, Options{Root: root})
	fillTables(t, s.Streams(), s.Epochs(), s.Windows())
	streams := must[map[StreamKey]Stream](t)(s.Streams().All())
	s.SetBinding([32]byte{7})
	s.MarkReady()
	w := &s.Windows()[MaxStreams-1]
	w.Words[5], w.HighestHint, w.Committed, w.Published = 1<<32|1, Word{9}, Word{8}, Word{7}
	s.StreamShed()[3].Store(4)
	s.StreamRefused()[3].Add(Replay, 5)
	ok(t, s.Epochs()[MaxNodes-1].Publish(3, 5, 50))
	s.Starts()[MaxNodes-1].Epoch(3).Reset(5)
	s.Starts()[MaxNodes-1].Epoch(3).Put(Start{First: 60})
	s.Starts()[MaxNodes-1].HighestVerified.Store(61)
	s.AgentCounters()[2].Add(BadTag, 3)

	s.Renew()
	again := openSet(t, Options{Root: root})
	if !again.Fresh() || again.Binding() != [32]byte{} {
		t.Error("the next one relies on the tables")
	}
	for i := range again.Epochs() {
		for j := range NodeEpochs {
			if _, _, live := again.Epochs()[i].Load(j); live || again.Starts()[i].Epoch(j).Owner() != 0 || again.Starts()[i].Epoch(j).Known() != [2]Start{} {
				t.Fatalf("node %d, epoch slot %d is not empty", i, j)
			}
		}
		if again.Starts()[i].HighestVerified.Load() != 0 {
			t.Fatalf("node %d has a highest counter", i)
		}
	}
	for i := range again.Windows() {
		if again.Windows()[i] != (Window{}) || again.StreamShed()[i].Load() != 0 || again.StreamRefused()[i].Total() != 0 {
			t.Fatalf("stream slot %d is not empty", i)
		}
	}
	if left := must[map[StreamKey]Stream](t)(again.Streams().All()); len(left) != len(streams) || len(left) == 0 {
		t.Errorf("%d streams of %d are left", len(left), len(streams))
	}
	if again.AgentCounters()[2].Load(BadTag) != 3 {
		t.Error("a verdict was lost")
	}
	again.AgentCounters()[2].Reset()
	if again.AgentCounters()[2].Load(BadTag) != 0 {
		t.Error("a verdict is left")
	}
}

// TestSetDetachOne takes the filter off one of two buses of a running set: what its rings hold can still be taken, the other bus
// filters on, and the slot can be used again.
func TestSetDetachOne(t *testing.T) { eachHook(t, testSetDetachOne) }

func testSetDetachOne(t *testing.T, kind string) {
	l := newLab(t, kind)
	other := newBusDevice(t, l.ns, "bus1")
	options := BusOptions{Interface: "bus1", Netns: l.ns, Slot: testIface + 1, Hook: kind}
	bus := must[[]*Bus](t)(l.set.Attach(options))[0]
	if got := must[[]uint32](t)(l.set.Pinned()); !slices.Equal(got, []uint32{testIface, testIface + 1}) {
		t.Fatalf("pinned %v", got)
	}
	ok(t, l.set.Detach(bus.Slot()))
	if ids := hook(t, l.ns, "bus1"); len(ids) != 0 {
		t.Errorf("links %v at the hook", ids)
	}
	if ids := hook(t, l.ns, labDevice); len(ids) != 1 {
		t.Errorf("links %v at the other hook", ids)
	}
	if got := must[[]uint32](t)(l.set.Pinned()); !slices.Equal(got, []uint32{testIface}) {
		t.Errorf("pinned %v", got)
	}
	var batch [1]Record
	if n, err := bus.Candidates().Peek(batch[:]); n != 0 || err != nil {
		t.Errorf("ring of the detached bus: %d, %v", n, err)
	}
	bus.Candidates().Release()
	ok(t, l.set.Release(bus))
	if err := l.set.Release(bus); !errors.Is(err, ErrNotOurs) {
		t.Errorf("release twice: %v", err)
	}
	ok(t, l.set.Detach(bus.Slot()))
	again := must[[]*Bus](t)(l.set.Attach(options))[0]
	if ids := hook(t, l.ns, "bus1"); len(ids) != 1 {
		t.Errorf("links %v at the hook", ids)
	}
	if _, err := os.Stat(filepath.Join(l.root, mapsFolder, can.FilterMapStreams)); err != nil {
		t.Errorf("shared maps: %v", err)
	}
	_, _ = again, other
}
