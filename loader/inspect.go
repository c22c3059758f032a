// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// ErrNoPins says that nothing is pinned where Inspect looked.
var ErrNoPins = errors.New("nothing is pinned there")

// Inspection is what lies pinned under a root and what the kernel says about it, copied out. The parts were read one
// after another, not at one instant.
type Inspection struct {
	Root string
	Meta Meta

	// MapIDs are the kernel's ids of the shared maps, by name.
	MapIDs map[string]uint32

	// Streams and Nodes are empty where Meta.Layout differs from this build's: their bytes mean something else then.
	Streams []PinnedStream // ascending by slot
	Nodes   []PinnedNode   // those that a stream names, ascending by index

	Buses []PinnedBus // ascending by slot

	// Migration is MigrationPrepared or MigrationCommitted where a process is migrating the set to another layout, or was killed in it;
	// what is told here is of the set in effect.
	Migration string
	// Former are rings of sets that are not in effect any more, the oldest first.
	Former []PinnedFormer
	// AsideIDs are the kernel's ids of all maps that are pinned by a migration and are not of the set in effect.
	AsideIDs []uint32

	// Foreign are the names under the root that this package has not given, as paths from the root.
	Foreign []string
}

// What Inspection.Migration says.
const (
	MigrationPrepared  = "prepared"  // a new set is being made beside the one in effect; the next start removes it
	MigrationCommitted = "committed" // the new set is in effect; the next start puts its pins in their places
)

// PinnedFormer is what an interface has handed over in a layout that is not in effect any more; an agent reads it at its start.
type PinnedFormer struct {
	Folder              string // under the root
	Slot                uint32
	Candidates, Control RingFill
}

// Meta says whose pins these are.
type Meta struct {
	LayoutVersion uint32
	Layout        [32]byte // hash of the layout of all maps
	SameLayout    bool     // it is this build's
	BootID        [16]byte
	SameBoot      bool
	Binding       [32]byte // what [Set.SetBinding] has noted
	CreatedNS     uint64   // CLOCK_BOOTTIME
	Ready         bool     // see [Set.MarkReady]
}

// PinnedStream is a stream of the table with what filter and agent have noted of it.
type PinnedStream struct {
	Key       StreamKey
	Stream    Stream
	Highest   uint64 // the filter's hint of the highest committed counter
	Committed uint64
	Published uint64
	Shed      uint64
	Refused   StreamCounts // without what was shed
}

// PinnedNode is a node's acceptable epochs.
type PinnedNode struct {
	Index           uint32
	HighestVerified uint64
	Epochs          []PinnedEpoch // in the order of the table's slots
}

// PinnedEpoch is one acceptable epoch with the first counters of its known starts, newest first.
type PinnedEpoch struct {
	Epoch  uint32
	Base   uint64
	Starts []uint64
}

// PinnedBus is the filter of one interface.
type PinnedBus struct {
	Slot   uint32
	MapIDs map[string]uint32

	Candidates, Control RingFill

	// Filter and Agent hold the verdicts; both are zero where the layout is another build's.
	Filter, Agent Counts

	// Hook is HookTCX where a link is pinned and HookClsact where a note of a filter is; empty: neither.
	Hook string
	// LinkErr says why the pinned link, or the filter that the note leads to, could not be looked at. Opening a link asks for
	// write permission on its pin, whatever is done with it, so a reader who may only read sees the maps and not the link.
	LinkErr error
	LinkID  uint32 // 0 at clsact, which has no links
	// Ifindex is the interface that the program is attached to, in the namespace that it lives in; 0: the interface is gone.
	Ifindex int
	Program Program // what runs there
}

// RingFill is how full a ring buffer is, in bytes, records that wait to be released included. Known is false where only
// the size could be found out: the positions lie in pages that the kernel maps for nobody who may not write.
type RingFill struct {
	Used, Size uint64
	Known      bool
}

// Inspect reads what is pinned under root (empty: DefaultRoot), attaching and changing nothing: maps are opened to be read
// only. It works beside a running agent, after a dead one, and on the pins of another build, of which it
// then knows only the outlines. ErrNoPins means that there is nothing.
func Inspect(root string) (*Inspection, error) {
	if root == "" {
		root = DefaultRoot
	}
	on, err := onBPFFS(root)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if !on || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("inspect %s: %w", root, ErrNoPins)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect pins: %w", err)
	}
	i := &inspector{
		Inspection: &Inspection{Root: root, MapIDs: make(map[string]uint32)},
		maps:       make(map[string]*ebpf.Map),
	}
	defer i.close()
	if i.spec, err = loadFilter(); err != nil {
		return nil, fmt.Errorf("read filter: %w", err)
	}
	if err := i.read(entries); err != nil {
		return nil, err
	}
	return i.Inspection, nil
}

// inspector is an Inspection on its way.
type inspector struct {
	*Inspection
	spec *ebpf.CollectionSpec
	maps map[string]*ebpf.Map // the shared ones
}

func (i *inspector) close() {
	for _, m := range i.maps {
		_ = m.Close() // nothing was written
	}
}

func (i *inspector) read(entries []os.DirEntry) error {
	found := false
	var slots []uint32
	var aside []string
	for _, e := range entries {
		switch slot, isBus := busSlot(e.Name()); {
		case e.Name() == mapsFolder:
			found = true
		case isBus:
			slots = append(slots, slot)
		case isMigration(e.Name()):
			aside = append(aside, e.Name())
		case strings.HasPrefix(e.Name(), tmpPrefix): // half made, or left by a process that was killed
		case e.Name() == "maps.debug", e.Name() == "progs.debug": // which some kernels put into every bpffs
		default:
			i.Foreign = append(i.Foreign, e.Name())
		}
	}
	slices.Sort(slots)
	if !found && len(slots)+len(aside) == 0 {
		if len(i.Foreign) > 0 {
			return nil
		}
		return fmt.Errorf("inspect %s: %w", i.Root, ErrNoPins)
	}
	if err := i.readShared(); err != nil {
		return err
	}
	for _, slot := range slots {
		if err := i.readBus(slot); err != nil {
			return err
		}
	}
	if err := i.readAside(aside); err != nil {
		return err
	}
	if !i.Meta.SameLayout {
		return nil
	}
	if err := i.readStreams(); err != nil {
		return err
	}
	return i.readNodes()
}

// busSlot reads the name of a bus's folder.
func busSlot(name string) (slot uint32, ok bool) {
	text, ok := strings.CutPrefix(name, busPrefix)
	n, err := strconv.ParseUint(text, 10, 32)
	if !ok || err != nil || strconv.FormatUint(n, 10) != text || n == 0 || n >= MaxIfaces {
		return 0, false
	}
	return uint32(n), true
}

// readShared opens the shared maps and reads whose they are.
func (i *inspector) readShared() error {
	if _, err := i.openAll(mapsFolder, sharedMaps(), i.maps, i.MapIDs); err != nil {
		return err
	}
	m, ok := i.maps[can.FilterMapMeta]
	if !ok || i.spec.Maps[can.FilterMapMeta].Compatible(m) != nil {
		return nil // of a build that kept other notes: SameLayout stays false
	}
	var e metaEntry
	if err := lookup(m, 0, &e); err != nil {
		return err
	}
	hash, err := layoutHash(i.spec)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	i.Meta = Meta{
		LayoutVersion: e.LayoutVersion, Layout: e.LayoutHash, BootID: e.BootID, Binding: e.BindingHash, CreatedNS: e.CreatedNS,
		SameLayout: e.Magic == metaMagic() && e.LayoutVersion == layoutVersion && e.LayoutHash == hash,
		SameBoot:   e.BootID == boot,
		Ready:      e.Ready != 0,
	}
	// Hash and maps must agree, else somebody has exchanged a pin.
	for _, name := range sharedMaps() {
		m, ok := i.maps[name]
		i.Meta.SameLayout = i.Meta.SameLayout && ok && i.spec.Maps[name].Compatible(m) == nil
	}
	return nil
}

// openAll opens the maps pinned in a folder and returns where they lie. A name that is missing is left out; one that is neither wanted nor
// known is foreign. What a migration has put into effect comes before what has its name.
func (i *inspector) openAll(folder string, names []string, maps map[string]*ebpf.Map, ids map[string]uint32, known ...string) (map[string]string, error) {
	paths := make(map[string]string)
	for _, dir := range []string{filepath.Join(i.Root, nextFolder, folder), filepath.Join(i.Root, folder)} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("inspect pins: %w", err)
		}
		for _, e := range entries {
			name, path := e.Name(), filepath.Join(dir, e.Name())
			if slices.Contains(known, name) || paths[name] != "" {
				continue
			}
			if !slices.Contains(names, name) {
				rel, err := filepath.Rel(i.Root, path)
				if err != nil {
					return nil, fmt.Errorf("inspect pins: %w", err)
				}
				i.Foreign = append(i.Foreign, rel)
				continue
			}
			m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has just been given its place, where it is looked for next
			}
			if err != nil {
				return nil, fmt.Errorf("inspect pinned map %s: %w", path, err)
			}
			maps[name], paths[name] = m, path
			if ids[name], err = mapID(m); err != nil {
				return nil, err
			}
		}
	}
	return paths, nil
}

func mapID(m *ebpf.Map) (uint32, error) {
	info, err := m.Info()
	if err != nil {
		return 0, fmt.Errorf("ask for map %s: %w", m, err)
	}
	id, _ := info.ID()
	return uint32(id), nil
}

func (i *inspector) readBus(slot uint32) error {
	dir := filepath.Join(i.Root, fmt.Sprint(busPrefix, slot))
	b := PinnedBus{Slot: slot, MapIDs: make(map[string]uint32)}
	maps := make(map[string]*ebpf.Map)
	paths, err := i.openAll(fmt.Sprint(busPrefix, slot), busMaps(), maps, b.MapIDs, linkPin, notePin)
	defer func() {
		for _, m := range maps {
			_ = m.Close() // nothing was written
		}
	}()
	if err != nil {
		return err
	}
	for name, fill := range map[string]*RingFill{can.FilterMapCandidates: &b.Candidates, can.FilterMapControl: &b.Control} {
		if m, ok := maps[name]; ok {
			if *fill, err = fillOf(m, paths[name]); err != nil {
				return err
			}
		}
	}
	if m, ok := maps[can.FilterMapFilterCounters]; ok && i.Meta.SameLayout {
		var c Counters
		for cpu := range m.MaxEntries() {
			if err := lookup(m, cpu, &c); err != nil {
				return err
			}
			c.AddTo(&b.Filter)
		}
		if err := lookup(i.maps[can.FilterMapAgentCounters], slot, &c); err != nil {
			return err
		}
		c.AddTo(&b.Agent)
	}
	b.LinkErr = b.readHook(dir)
	i.Buses = append(i.Buses, b)
	return nil
}

func (b *PinnedBus) readHook(dir string) error {
	err := b.readNote(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := link.LoadPinnedLink(filepath.Join(dir, linkPin), nil)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			b.Hook = HookTCX
		}
		return fmt.Errorf("open pinned link: %w", err)
	}
	defer l.Close()
	b.Hook = HookTCX
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("ask for link: %w", err)
	}
	b.LinkID = uint32(info.ID)
	if tcx := info.TCX(); tcx != nil {
		b.Ifindex = int(tcx.Ifindex)
	}
	b.Program = programByID(info.Program)
	b.Program.Link, b.Program.Hook = b.LinkID, HookTCX
	return nil
}

// readNote follows the pinned note of a filter at clsact.
func (b *PinnedBus) readNote(dir string) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, notePin), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open pinned note of the hook: %w", err)
	}
	defer m.Close()
	b.Hook = HookClsact
	n, err := readNote(m)
	if err != nil || n.Ifindex == 0 {
		return err
	}
	ns, closeNS, err := n.netns()
	if errors.Is(err, ErrElsewhere) {
		b.Ifindex = int(n.Ifindex) // as far as is known
		return nil
	}
	if err != nil {
		return err
	}
	defer closeNS()
	rings, err := formerRings(filepath.Dir(dir), b.Slot)
	if err != nil {
		return err
	}
	a := &clsactAnchor{slot: b.Slot, rings: rings}
	if id, err := pinnedMapID(filepath.Join(dir, can.FilterMapCandidates)); err == nil {
		a.rings = append(a.rings, id)
	}
	id, found, err := a.holds(place{ns, int(n.Ifindex)})
	if errors.Is(err, os.ErrPermission) { // it takes more to ask whose program it is; the name is readable by all
		a.rings = nil
		id, found, err = a.holds(place{ns, int(n.Ifindex)})
	}
	if err != nil || !found {
		return err
	}
	b.Ifindex = int(n.Ifindex)
	b.Program = programByID(id)
	b.Program.Hook = HookClsact
	return nil
}

// lookup reads one value of an array whose values are a T. It asks the kernel for a copy: a map that was opened to be read
// only cannot be mapped.
func lookup[T any](m *ebpf.Map, index uint32, value *T) error {
	b, err := m.LookupBytes(index)
	if err != nil {
		return fmt.Errorf("read entry %d of map %s: %w", index, m, err)
	}
	if len(b) != int(unsafe.Sizeof(*value)) {
		return fmt.Errorf("read entry %d of map %s: %d bytes, want %d", index, m, len(b), unsafe.Sizeof(*value))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(value)), len(b)), b)
	return nil
}

// fillOf reads the positions of a ring buffer, which lie at the beginning of its first two pages (kernel/bpf/ringbuf.c).
// They can only be mapped through a descriptor that may also write; the mapping itself may not.
func fillOf(m *ebpf.Map, pin string) (RingFill, error) {
	if m.Type() != ebpf.RingBuf {
		return RingFill{}, fmt.Errorf("inspect ring %s: it is no ring buffer but %s", pin, m.Type())
	}
	fill := RingFill{Size: uint64(m.MaxEntries())}
	writable, err := ebpf.LoadPinnedMap(pin, nil)
	if errors.Is(err, os.ErrPermission) {
		return fill, nil
	}
	if err != nil {
		return fill, fmt.Errorf("inspect ring %s: %w", pin, err)
	}
	defer writable.Close()
	page := os.Getpagesize()
	mem, err := unix.Mmap(writable.FD(), 0, 2*page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fill, fmt.Errorf("map positions of ring %s: %w", pin, err)
	}
	// What has been released is read first: the producer is never behind it. Between the two reads both may move on.
	cons := (*atomic.Uint64)(unsafe.Pointer(&mem[0])).Load()
	prod := (*atomic.Uint64)(unsafe.Pointer(&mem[page])).Load()
	if err := unix.Munmap(mem); err != nil {
		return fill, fmt.Errorf("unmap positions of ring %s: %w", pin, err)
	}
	fill.Used, fill.Known = min(prod-cons, fill.Size), true
	return fill, nil
}

func (i *inspector) readStreams() error {
	all, err := StreamTable{m: i.maps[can.FilterMapStreams]}.All()
	if err != nil {
		return err
	}
	for key, s := range all {
		p := PinnedStream{Key: key, Stream: s}
		if s.Slot < MaxStreams {
			var w Window
			if err := lookup(i.maps[can.FilterMapWindows], s.Slot, &w); err != nil {
				return err
			}
			p.Published, p.Committed, p.Highest = w.Published.Load(), w.Committed.Load(), w.HighestHint.Load()
			if err := lookup(i.maps[can.FilterMapStreamShed], s.Slot, &p.Shed); err != nil {
				return err
			}
			var r StreamRefused
			if err := lookup(i.maps[can.FilterMapStreamRefused], s.Slot, &r); err != nil {
				return err
			}
			r.addTo(&p.Refused)
		}
		i.Streams = append(i.Streams, p)
	}
	slices.SortFunc(i.Streams, func(x, y PinnedStream) int { return cmp.Compare(x.Stream.Slot, y.Stream.Slot) })
	return nil
}

func (i *inspector) readNodes() error {
	var indexes []uint32
	for _, s := range i.Streams {
		if s.Stream.Node < MaxNodes {
			indexes = append(indexes, s.Stream.Node)
		}
	}
	slices.Sort(indexes)
	for _, index := range slices.Compact(indexes) {
		var epochs EpochTable
		var starts StartTable
		if err := lookup(i.maps[can.FilterMapEpochs], index, &epochs); err != nil {
			return err
		}
		if err := lookup(i.maps[can.FilterMapStarts], index, &starts); err != nil {
			return err
		}
		n := PinnedNode{Index: index, HighestVerified: starts.HighestVerified.Load()}
		for slot := range NodeEpochs {
			number, base, live := epochs.Load(slot)
			if !live {
				continue
			}
			e := PinnedEpoch{Epoch: number, Base: base}
			if known := starts.Epoch(slot); known.Owner() == number {
				for _, s := range known.Known() {
					if s.First != 0 {
						e.Starts = append(e.Starts, s.First)
					}
				}
			}
			n.Epochs = append(n.Epochs, e)
		}
		i.Nodes = append(i.Nodes, n)
	}
	return nil
}

// StandardBPFFS is where a bpffs is mounted by convention.
const StandardBPFFS = bpffsStandard

// OnBPFFS reports whether path, or the nearest folder above it that exists, lies in a bpffs.
func OnBPFFS(path string) (bool, error) { return onBPFFS(path) }
