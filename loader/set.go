// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// DefaultRoot is where pins lie if Options.Root is empty.
const DefaultRoot = bpffsStandard + "/cellward"

// mapsFolder is the folder of the shared maps under the root.
const mapsFolder = "maps"

// Errors of [Open]: pins of an earlier run exist and cannot be taken over. Nothing was changed; what is
// attached goes on filtering.
var (
	ErrLayout = errors.New("pinned maps have another layout")
	ErrBootID = errors.New("pinned maps are of another boot")
)

// Options says where the pins lie. The zero value is usable.
type Options struct {
	// Root is the folder for all pins, on a bpffs. It is made if missing, and so is the bpffs: at
	// /sys/fs/bpf if Root lies under it, else at Root. Empty means DefaultRoot.
	Root string

	// Migrate has a set of another layout become one of this build's, if nothing is lost by it: see [OpenBeside] for how. The caller sees
	// to it that nobody goes by the tables meanwhile. Without it such a set is refused.
	Migrate bool
}

// sharedMaps names the maps that all program instances share.
func sharedMaps() []string {
	return []string{
		can.FilterMapStreams, can.FilterMapEpochs, can.FilterMapWindows, can.FilterMapStarts,
		can.FilterMapAgentCounters, can.FilterMapStreamShed, can.FilterMapStreamRefused,
		can.FilterMapFramesWanted, can.FilterMapMeta,
	}
}

// busMaps names the maps that each program instance has for itself.
func busMaps() []string {
	return []string{can.FilterMapCandidates, can.FilterMapControl, can.FilterMapRefusedFrames, can.FilterMapFilterCounters}
}

// Set is the pinned set of shared maps, open in this process, and the buses attached through it. The tables
// that its methods return lie in shared memory: they must not be used after Close, and their types say who
// may write. The methods themselves are for one goroutine.
type Set struct {
	root    string
	folder  *os.File // see Give
	own     *layout
	spec    *ebpf.CollectionSpec
	moving  *migration // nil: the set is in effect
	gone    *Migrated  // nil: it was of this layout
	maps    map[string]*ebpf.Map
	created bool
	buses   []*Bus

	epochs  *table[EpochTable]
	windows *table[Window]
	starts  *table[StartTable]
	agent   *table[Counters]
	shed    *table[atomic.Uint64]
	refused *table[StreamRefused]
	wanted  *table[FramesWanted]
	meta    *table[metaEntry]

	closeOnce sync.Once
	closeErr  error
}

// Open opens the pinned set under opts.Root, or creates it if there is none. A set of another layout or boot
// is refused with ErrLayout or ErrBootID and left as it is: what is attached with it protects its identifiers
// until [Detach]. What its slots and indexes mean is the caller's affair: see [Set.Binding].
func Open(opts Options) (*Set, error) {
	own, err := ownLayout()
	if err != nil {
		return nil, err
	}
	return open(opts, own, false)
}

// open is Open for a layout. With beside a migration is only prepared.
func open(opts Options, own *layout, beside bool) (*Set, error) {
	root := opts.Root
	if root == "" {
		root = DefaultRoot
	}
	if err := ensureRoot(root); err != nil {
		return nil, err
	}
	unlock, err := lockFolder(root)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(root); err != nil {
		return nil, err
	}
	if err := settle(root, own.reach); err != nil {
		return nil, err
	}
	if opts.Migrate || beside {
		// Else it may be that of a successor at work: who only opens may do so beside an agent.
		if err := removeBeside(root); err != nil {
			return nil, err
		}
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	s := newSet(root, own)
	want := metaEntry{
		Magic: metaMagic(), LayoutVersion: own.version,
		BootID: boot, LayoutHash: own.hash,
	}
	_, err = os.Stat(s.path(mapsFolder))
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = s.create(want)
	case err == nil:
		err = s.reopen(want)
		if errors.Is(err, ErrLayout) && (opts.Migrate || beside) {
			refused := errors.Join(err, s.Close())
			s = newSet(root, own)
			if err = s.migrate(want, beside); err != nil {
				err = fmt.Errorf("%w; %w", refused, err)
			}
		}
	default:
		err = fmt.Errorf("look for pinned maps: %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newSet(root string, own *layout) *Set {
	return &Set{root: root, own: own, spec: own.spec, maps: make(map[string]*ebpf.Map)}
}

func (s *Set) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// create makes all maps and pins them into a folder that gets its name last: there are all or none.
func (s *Set) create(meta metaEntry) error {
	for _, name := range sharedMaps() {
		m, err := ebpf.NewMap(s.spec.Maps[name])
		if err != nil {
			return fmt.Errorf("create map %s: %w", name, err)
		}
		s.maps[name] = m
	}
	if err := s.mapTables(); err != nil {
		return err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	meta.CreatedNS = uint64(now.Nano())
	s.meta.entries[0] = meta

	tmp, err := os.MkdirTemp(s.root, tmpPrefix)
	if err != nil {
		return fmt.Errorf("make folder for pins: %w", err)
	}
	if err := s.pinShared(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	s.created = true
	return nil
}

func (s *Set) pinShared(tmp string) error {
	for name, m := range s.maps {
		if err := m.Pin(filepath.Join(tmp, name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	if err := os.Rename(tmp, s.path(mapsFolder)); err != nil {
		return fmt.Errorf("name pinned maps: %w", err)
	}
	return nil
}

// reopen opens what create has pinned, after having checked that it is what this build would have created.
func (s *Set) reopen(want metaEntry) error {
	for _, name := range sharedMaps() {
		m, err := openPinned(s.path(mapsFolder, name), s.spec.Maps[name])
		if err != nil {
			return err
		}
		s.maps[name] = m
	}
	if err := s.mapTables(); err != nil {
		return err
	}
	have := s.meta.entries[0]
	switch {
	case have.Magic != want.Magic || have.LayoutVersion != want.LayoutVersion || have.LayoutHash != want.LayoutHash:
		return fmt.Errorf("open pinned maps in %s: %w (version %d, hash %x; want version %d, hash %x)", s.root, ErrLayout,
			have.LayoutVersion, have.LayoutHash[:4], want.LayoutVersion, want.LayoutHash[:4])
	case have.BootID != want.BootID:
		return fmt.Errorf("open pinned maps in %s: %w (%x, this is %x)", s.root, ErrBootID, have.BootID, want.BootID)
	}
	return nil
}

// openPinned opens a pinned map if it is of the kind that spec describes; with MaxEntries 0 any size will do.
func openPinned(path string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open pinned map %s: %w: it is missing", path, ErrLayout)
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	if spec.MaxEntries == 0 {
		spec = spec.Copy()
		spec.MaxEntries = m.MaxEntries()
	}
	if err := spec.Compatible(m); err != nil {
		return nil, errors.Join(fmt.Errorf("open pinned map %s: %w: %w", path, ErrLayout, err), m.Close())
	}
	return m, nil
}

func (s *Set) mapTables() error {
	return errors.Join(
		into(&s.epochs, s.maps[can.FilterMapEpochs]),
		into(&s.windows, s.maps[can.FilterMapWindows]),
		into(&s.starts, s.maps[can.FilterMapStarts]),
		into(&s.agent, s.maps[can.FilterMapAgentCounters]),
		into(&s.shed, s.maps[can.FilterMapStreamShed]),
		into(&s.refused, s.maps[can.FilterMapStreamRefused]),
		into(&s.wanted, s.maps[can.FilterMapFramesWanted]),
		into(&s.meta, s.maps[can.FilterMapMeta]),
	)
}

func into[T any](dst **table[T], m *ebpf.Map) error {
	t, err := mapTable[T](m)
	*dst = t
	return err
}

// Created reports whether Open made the maps.
func (s *Set) Created() bool { return s.created }

// Fresh reports whether nobody has called MarkReady since the maps were made. If so, no window, epoch or counter of an earlier
// run is left that may be relied on: for the agent this is a reboot of the gateway.
func (s *Set) Fresh() bool { return atomic.LoadUint32(&s.meta.entries[0].Ready) == 0 }

// MarkReady says that the maps hold all that is known of earlier runs, so that the next Open may rely on them. A process that
// made the maps and ended before has left them empty, and an empty window would let everything in again.
func (s *Set) MarkReady() { atomic.StoreUint32(&s.meta.entries[0].Ready, 1) }

// Windows returns the replay windows by stream slot.
func (s *Set) Windows() []Window { return s.windows.entries }

// Epochs returns the acceptable epochs by node index.
func (s *Set) Epochs() []EpochTable { return s.epochs.entries }

// Starts returns the known starts by node index.
func (s *Set) Starts() []StartTable { return s.starts.entries }

// AgentCounters returns the agent's verdict counters by interface slot.
func (s *Set) AgentCounters() []Counters { return s.agent.entries }

// StreamShed returns by stream slot how many frames the filters have shed. Only they write.
func (s *Set) StreamShed() []atomic.Uint64 { return s.shed.entries }

// StreamRefused returns by stream slot how many frames the filters have refused otherwise. Only they write.
func (s *Set) StreamRefused() []StreamRefused { return s.refused.entries }

// WantFrames has the filters show the next frames of the stream in a slot that they refuse by v: see [FramesWanted.Want].
func (s *Set) WantFrames(slot int, v Verdict, until uint64) { s.wanted.entries[slot].Want(v, until) }

// Streams returns the stream table.
func (s *Set) Streams() StreamTable { return StreamTable{m: s.maps[can.FilterMapStreams]} }

// Close gives back memory and file descriptors, those of the buses and their rings included. Pins and
// attachments stay. Nobody may use a table, ring or bus of this set any more.
func (s *Set) Close() error {
	s.closeOnce.Do(func() {
		var errs []error
		for _, b := range s.buses {
			errs = append(errs, b.close())
		}
		errs = append(errs, s.epochs.close(), s.windows.close(), s.starts.close(), s.agent.close(),
			s.shed.close(), s.refused.close(), s.wanted.close(), s.meta.close())
		for _, m := range s.maps {
			errs = append(errs, m.Close())
		}
		if s.moving != nil {
			errs = append(errs, s.moving.close(), os.RemoveAll(s.path(besideFolder)))
		}
		errs = append(errs, s.closeFolder())
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// bootID reads the id that the kernel gives to each boot.
func bootID() (id [16]byte, err error) {
	const path = "/proc/sys/kernel/random/boot_id"
	text, err := os.ReadFile(path)
	if err != nil {
		return id, fmt.Errorf("read boot id: %w", err)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("read boot id: %s holds %q", path, text)
	}
	return [16]byte(b), nil
}
