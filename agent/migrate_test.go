// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/cellward/cellward/loader"
)

// formerRig is a gateway with two interfaces whose filter is real.
type formerRig struct {
	*rig
	ns      *loader.Netns
	root    string
	devices map[string]*loader.TUN
}

func newFormerRig(t *testing.T) *formerRig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: attaches the filter in a network namespace of its own")
	}
	f := &formerRig{rig: newRig(t), devices: make(map[string]*loader.TUN)}
	var err error
	f.ns, err = loader.NewNetns()
	f.must(err)
	t.Cleanup(func() { f.ns.Close() })
	f.root = f.newRoot()
	for _, i := range f.set.Interfaces {
		f.devices[i.Name], err = loader.NewTUN(f.ns, i.Name)
		f.must(err)
		t.Cleanup(func() { f.devices[i.Name].Close() })
	}
	return f
}

func (f *formerRig) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *formerRig) newRoot() string {
	f.t.Helper()
	fs, err := loader.NewBPFFS()
	f.must(err)
	f.t.Cleanup(func() { fs.Close() })
	return fmt.Sprintf("/proc/self/fd/%d/cellward", fs.Fd())
}

// open opens the pins with the streams and epochs of the rig, and attaches the filter to the first interfaces.
func (f *formerRig) open(interfaces int) (*loader.Set, []*loader.Bus) {
	f.t.Helper()
	maps, err := loader.Open(loader.Options{Root: f.root})
	f.must(err)
	at := dense(f.t, f.set)
	for i := range f.set.Streams {
		f.must(maps.Streams().Set(streamKey(&f.set.Streams[i]), at.entry(&f.set.Streams[i])))
	}
	for i := range loader.NodeEpochs {
		if number, base, live := f.tables.Epochs[0].Load(i); live {
			f.must(maps.Epochs()[at.nodes[0]].Publish(i, number, base))
		}
	}
	var options []loader.BusOptions
	for _, i := range f.set.Interfaces[:interfaces] {
		options = append(options, loader.BusOptions{Interface: i.Name, Netns: f.ns, Slot: uint32(i.Index)})
	}
	buses, err := maps.Attach(options...)
	f.must(err)
	return maps, buses
}

// former has the filter hand over n samples on each interface, and then makes the rings former ones, of a set with a version of its layout.
// It returns how many records wait for each interface.
func (f *formerRig) former(n int, version uint32) map[string]uint64 {
	f.t.Helper()
	maps, buses := f.open(len(f.set.Interfaces))
	s := f.node(f.vault)
	f.must(s.AnnounceStart())
	f.mustFeed(f.wire.frames...) // so that the start is known, and nothing has to be saved, when it comes out of the ring
	f.core.dirty, f.core.ceilings.soon = false, false
	for i := range n {
		f.seal(s, "can0", 0x100, byte(i))
		f.seal(s, "can1", 0x100, byte(i))
	}
	s.Close()
	for _, x := range f.wire.take() {
		f.must(f.devices[x.iface].WriteCAN(&x.frame, loader.CANFDMTU))
	}
	waiting := make(map[string]uint64)
	for _, b := range buses {
		c := b.FilterCounts()
		waiting[b.Name()] = c[loader.Candidate] + c[loader.Control]
		if waiting[b.Name()] < uint64(n) || waiting[b.Name()] != c.Total() {
			f.t.Fatalf("%s: the filter has handed over %d of %d frames", b.Name(), waiting[b.Name()], c.Total())
		}
	}
	f.must(maps.Close())
	// What says whose they are is that of a set of its own.
	elsewhere := f.newRoot()
	other, err := loader.Open(loader.Options{Root: elsewhere})
	f.must(err)
	defer other.Close()
	i, err := loader.Inspect(elsewhere)
	f.must(err)
	meta, err := ebpf.NewMapFromID(ebpf.MapID(i.MapIDs["meta"]))
	f.must(err)
	defer meta.Close()
	b, err := meta.LookupBytes(uint32(0))
	f.must(err)
	b[8] = byte(version) // cw_meta.layout_version
	f.must(meta.Put(uint32(0), b))
	folder := filepath.Join(f.root, "former_1")
	f.must(os.MkdirAll(filepath.Join(folder, "maps"), 0o700))
	f.must(meta.Pin(filepath.Join(folder, "maps", "meta")))
	for _, i := range f.set.Interfaces {
		bus := fmt.Sprint("bus_", i.Index)
		f.must(os.Rename(filepath.Join(f.root, bus), filepath.Join(folder, bus)))
	}
	return waiting
}

// TestReadFormer has an agent start over rings of another layout. What it can read it publishes, and the rest is counted and named.
func TestReadFormer(t *testing.T) {
	const samples = 70 // more than a batch
	facts, err := loader.Facts()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		version uint32
		read    bool
	}{
		{"same records", facts.LayoutVersion, true},
		{"other records", facts.LayoutVersion + 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFormerRig(t)
			waiting := f.former(samples, tt.version)
			maps, buses := f.open(1) // the second interface is in no document any more
			defer maps.Close()
			told := &events{}
			a := &Agent{log: slog.New(slog.NewJSONHandler(told, nil)), maps: maps, buses: buses, core: f.core}
			f.must(a.takeFormer())
			before := f.verdicts()
			f.must(a.readFormer(nil))
			want := map[loader.Verdict]uint64{loader.AgentUnknownStream: waiting["can1"], loader.Accepted: samples, loader.StartKnown: waiting["can0"] - samples}
			published, lines := samples, 1
			if !tt.read {
				want = map[loader.Verdict]uint64{loader.AgentUnknownStream: waiting["can0"] + waiting["can1"]}
				published, lines = 0, 2
			}
			f.expect(before, want)
			if len(f.sink.samples) != published {
				t.Errorf("%d samples are published, want %d", len(f.sink.samples), published)
			}
			n := 0
			for _, l := range told.all {
				if l["event"] == "former_frames_lost" {
					n++
				}
			}
			if n != lines || len(told.all) != lines {
				t.Errorf("told of losses %d times, want %d: %v", n, lines, told.all)
			}
			if _, err := os.Stat(filepath.Join(f.root, "former_1")); !os.IsNotExist(err) {
				t.Errorf("former rings are still pinned: %v", err)
			}
			// Nothing is left, and nothing is read again.
			f.must(a.takeFormer())
			f.must(a.readFormer(nil))
			f.expect(before, want)
		})
	}
}
