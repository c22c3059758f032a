// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/cellward/cellward/bpf/can"
)

// Folders of a migration under the root. The set in effect lies in mapsFolder and in the folders of the buses, whatever else there is,
// until one rename makes besideFolder nextFolder: from then on what lies in nextFolder takes the place of what has its name.
const (
	besideFolder = "beside" // a set that no program uses: its process is filling it, or was killed
	nextFolder   = "next"   // a complete one in effect; whoever opens the pins next puts it in its place
)

// ErrMigrate says why pinned maps of another layout cannot become those of this build. Nothing was changed.
var ErrMigrate = errors.New("pinned maps cannot be migrated")

// migration is a set of this build's layout on its way beside one of another.
type migration struct {
	root  string
	own   *layout
	meta  metaEntry            // of the new set, but for what is taken over
	old   map[string]*ebpf.Map // by the path from the root
	made  map[string]*ebpf.Map // likewise
	plans map[string]*mapPlan  // by the name of the map
	slots []uint32             // of buses
	from  LayoutName           // that is left
	ring  map[uint32][2]uint32 // sizes of candidates and control, by slot
	spec  map[string]*ebpf.MapSpec
	// dropped are the counts that were not zero and have no name any more.
	dropped []string
}

// LayoutName tells layouts of pinned maps from one another.
type LayoutName struct {
	Version uint32
	Hash    [32]byte
}

// String returns version and the front of the hash, as the documents show them.
func (l LayoutName) String() string { return fmt.Sprintf("%d (%x)", l.Version, l.Hash[:4]) }

// migrated wraps what is wrong.
func migrated(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrMigrate, err)
}

// planMigration compares the pinned set under root with the layout of this build: types alone, and the boot that it is of.
func planMigration(root string, own *layout, want metaEntry) (_ *migration, err error) {
	m := &migration{
		root: root, own: own, meta: want, old: make(map[string]*ebpf.Map), made: make(map[string]*ebpf.Map), plans: make(map[string]*mapPlan),
		ring: make(map[uint32][2]uint32), spec: own.spec.Maps,
	}
	defer func() {
		if err != nil {
			err = errors.Join(migrated(err), m.close())
		}
	}()
	if err := m.open(mapsFolder, sharedMaps()); err != nil {
		return nil, err
	}
	for _, name := range sharedMaps() {
		old, ok := m.old[filepath.Join(mapsFolder, name)]
		if !ok {
			if own.asBefore[name] == "" && !slices.Contains(countMaps(), name) {
				return nil, fmt.Errorf("map %s is missing, and nothing says that an empty one means what was before", name)
			}
			continue
		}
		if m.plans[name], err = planMap(name, old, m.spec[name], own.asBefore); err != nil {
			return nil, err
		}
	}
	if err := m.readMeta(); err != nil {
		return nil, err
	}
	if m.slots, err = pinnedSlots(root); err != nil {
		return nil, err
	}
	slices.Sort(m.slots)
	for _, slot := range m.slots {
		if err := m.planBus(slot); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// open opens the maps of a folder. A name that is neither known nor of something else is of a map that only the other build knows: what
// it is for nobody can say here.
func (m *migration) open(folder string, names []string, known ...string) error {
	entries, err := os.ReadDir(filepath.Join(m.root, folder))
	if err != nil {
		return fmt.Errorf("list pinned maps: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if slices.Contains(known, e.Name()) {
			continue
		}
		if !slices.Contains(names, e.Name()) {
			return fmt.Errorf("map %s is gone", path)
		}
		if m.old[path], err = ebpf.LoadPinnedMap(filepath.Join(m.root, path), nil); err != nil {
			delete(m.old, path)
			return fmt.Errorf("open pinned map %s: %w", path, err)
		}
	}
	return nil
}

// readMeta looks whose set it is.
func (m *migration) readMeta() error {
	var e metaEntry
	old, ok := m.old[filepath.Join(mapsFolder, can.FilterMapMeta)]
	if !ok {
		return fmt.Errorf("map %s is missing", can.FilterMapMeta)
	}
	b, err := old.LookupBytes(uint32(0))
	if err != nil {
		return fmt.Errorf("read map %s: %w", can.FilterMapMeta, err)
	}
	plan := m.plans[can.FilterMapMeta]
	plan.apply(bytesOf(&e), b)
	if l := plan.judge(b); l != nil {
		return fmt.Errorf("%s %s, and is in use", l.name, l.why)
	}
	switch {
	case e.Magic != metaMagic():
		return fmt.Errorf("they are no agent's: magic %q", e.Magic)
	case e.BootID != m.meta.BootID:
		return fmt.Errorf("%w: %x, this is %x", ErrBootID, e.BootID, m.meta.BootID)
	}
	m.from = LayoutName{e.LayoutVersion, e.LayoutHash}
	e.LayoutVersion, e.LayoutHash = m.meta.LayoutVersion, m.meta.LayoutHash
	m.meta = e
	return nil
}

// planBus looks at the maps of a bus. Its rings are not copied: what lies in them is read where it is.
func (m *migration) planBus(slot uint32) error {
	folder := fmt.Sprint(busPrefix, slot)
	if err := m.open(folder, busMaps(), linkPin, notePin); err != nil {
		return err
	}
	var sizes [2]uint32
	for i, name := range []string{can.FilterMapCandidates, can.FilterMapControl} {
		old, ok := m.old[filepath.Join(folder, name)]
		if !ok {
			return fmt.Errorf("map %s/%s is missing", folder, name)
		}
		if old.Type() != ebpf.RingBuf {
			return fmt.Errorf("map %s/%s is of another kind: %s, was %s", folder, name, ebpf.RingBuf, old.Type())
		}
		sizes[i] = old.MaxEntries()
	}
	m.ring[slot] = sizes
	old, ok := m.old[filepath.Join(folder, can.FilterMapFilterCounters)]
	if !ok {
		return fmt.Errorf("map %s/%s is missing", folder, can.FilterMapFilterCounters)
	}
	plan, err := planMap(can.FilterMapFilterCounters, old, m.spec[can.FilterMapFilterCounters], m.own.asBefore)
	m.plans[can.FilterMapFilterCounters] = plan
	return err
}

// make creates the new set and pins it beside the old one. The caller holds the lock on the pins.
func (m *migration) make() (err error) {
	beside := filepath.Join(m.root, besideFolder)
	defer func() {
		if err != nil {
			err = errors.Join(migrated(err), os.RemoveAll(beside))
		}
	}()
	// Whoever puts the set in its place, and if it is the third who goes on where two were killed, is to keep the rings of the former set
	// together with what says whose they are.
	former, err := newFormer(m.root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(beside, former), 0o700); err != nil {
		return fmt.Errorf("make folder for pins: %w", err)
	}
	for _, name := range sharedMaps() {
		if err := m.create(mapsFolder, name, m.spec[name]); err != nil {
			return err
		}
	}
	for _, slot := range m.slots {
		specs, err := busSpecs(m.own.spec, BusOptions{Candidates: int(m.ring[slot][0]), Control: int(m.ring[slot][1])})
		if err != nil {
			return err
		}
		for _, name := range busMaps() {
			if err := m.create(fmt.Sprint(busPrefix, slot), name, specs[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *migration) create(folder, name string, spec *ebpf.MapSpec) error {
	path := filepath.Join(folder, name)
	made, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("create map %s: %w", path, err)
	}
	m.made[path] = made
	if err := os.MkdirAll(filepath.Join(m.root, besideFolder, folder), 0o700); err != nil {
		return fmt.Errorf("make folder for pins: %w", err)
	}
	m.own.reach("pin " + path)
	if err := made.Pin(filepath.Join(m.root, besideFolder, path)); err != nil {
		return fmt.Errorf("pin map %s: %w", path, err)
	}
	return nil
}

// copy makes the new set say what the old one says. It may be called again: the last time nobody writes to the old one.
func (m *migration) copy() error {
	for _, name := range copiedArrays() {
		if err := m.copyArray(name); err != nil {
			return migrated(err)
		}
	}
	if err := m.copyStreams(); err != nil {
		return migrated(err)
	}
	b, _, done, err := arrayBytes(m.made[filepath.Join(mapsFolder, can.FilterMapMeta)], true)
	if err != nil {
		return migrated(err)
	}
	defer done()
	// An agent may have filled the tables since.
	if err := m.readMeta(); err != nil {
		return migrated(err)
	}
	copy(b, bytesOf(&m.meta))
	return nil
}

// copiedArrays are written by the agent alone, so that nothing is missing in a copy that is made while it stands still. What the filter
// counts is added when it has gone over to the new maps ([Set.Former]).
func copiedArrays() []string {
	return []string{can.FilterMapEpochs, can.FilterMapStarts, can.FilterMapWindows, can.FilterMapAgentCounters}
}

func (m *migration) copyArray(name string) error {
	path, plan := filepath.Join(mapsFolder, name), m.plans[name]
	if plan == nil {
		return nil // the former layout has no such map
	}
	from, stride, done, err := arrayBytes(m.old[path], false)
	if err != nil {
		return err
	}
	defer done()
	to, step, written, err := arrayBytes(m.made[path], true)
	if err != nil {
		return err
	}
	defer written()
	size, room := int(m.old[path].ValueSize()), int(m.made[path].MaxEntries())
	if err := m.checkArray(name, from, stride, size); err != nil {
		return err
	}
	for i := range min(room, int(m.old[path].MaxEntries())) {
		plan.apply(to[i*step:(i+1)*step], from[i*stride:i*stride+size])
	}
	return nil
}

func (m *migration) copyStreams() error {
	to := m.made[filepath.Join(mapsFolder, can.FilterMapStreams)]
	return m.eachStream(func(k *StreamKey, s *Stream) error {
		if err := to.Put(k, s); err != nil {
			return fmt.Errorf("copy stream %#x on interface slot %d: %w", k.CANID, k.Iface, err)
		}
		return nil
	})
}

// eachStream reads the stream table as this build would have written it.
func (m *migration) eachStream(use func(*StreamKey, *Stream) error) error {
	plan := m.plans[can.FilterMapStreams]
	if plan == nil {
		return nil
	}
	var key, value []byte
	n, each := uint32(0), m.old[filepath.Join(mapsFolder, can.FilterMapStreams)].Iterate()
	for each.Next(&key, &value) {
		if l := plan.key.judge(key); l != nil {
			return fmt.Errorf("%s %s, and is in use", l.name, l.why)
		}
		if l := plan.judge(value); l != nil {
			return fmt.Errorf("%s %s, and is in use", l.name, l.why)
		}
		var k StreamKey
		var s Stream
		plan.key.apply(bytesOf(&k), key)
		plan.apply(bytesOf(&s), value)
		if err := errors.Join(k.validate(), s.validate()); err != nil {
			return err
		}
		if n++; n > m.spec[can.FilterMapStreams].MaxEntries {
			return fmt.Errorf("map %s has %d entries, and more are in use", can.FilterMapStreams, m.spec[can.FilterMapStreams].MaxEntries)
		}
		if err := use(&k, &s); err != nil {
			return err
		}
	}
	if err := each.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	return nil
}

// commit makes the new set the one in effect. The caller holds the lock on the pins, and sees to it that nobody goes by the old set's
// windows any more.
func (m *migration) commit() error {
	// Somebody may have detached, or migrated, since.
	path := filepath.Join(mapsFolder, can.FilterMapMeta)
	pinned, err := ebpf.LoadPinnedMap(filepath.Join(m.root, path), nil)
	if err != nil {
		return migrated(fmt.Errorf("look at pinned maps again: %w", err))
	}
	now, err := mapID(pinned)
	if err = errors.Join(err, pinned.Close()); err != nil {
		return migrated(err)
	}
	then, err := mapID(m.old[path])
	if err != nil {
		return migrated(err)
	}
	if now != then {
		return migrated(errors.New("they are other ones by now"))
	}
	m.own.reach("commit")
	if err := os.Rename(filepath.Join(m.root, besideFolder), filepath.Join(m.root, nextFolder)); err != nil {
		return migrated(fmt.Errorf("put maps into effect: %w", err))
	}
	return settle(m.root, m.own.reach)
}

// close lets go of file descriptors.
func (m *migration) close() error {
	var errs []error
	for _, x := range []map[string]*ebpf.Map{m.old, m.made} {
		for _, o := range x {
			errs = append(errs, o.Close())
		}
	}
	return errors.Join(errs...)
}

// settle puts a set that is in effect in its place, from wherever a process was killed that did so. What it replaces and what may still
// be read goes to a former folder. The caller holds the lock on the pins.
//
// Every step is one rename. A name that is in nextFolder has not taken its place yet, one that is not has: so the next process goes on
// where this one ends. Programs are not touched: those at the hooks use the former maps until the next Attach, and what they hand over lies
// in the former rings.
func settle(root string, reach func(string)) error {
	next := filepath.Join(root, nextFolder)
	entries, err := os.ReadDir(next)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list maps in effect: %w", err)
	}
	former := ""
	var folders []string
	for _, e := range entries {
		if _, err := formerNumber(e.Name()); err == nil {
			former = e.Name()
		} else {
			folders = append(folders, e.Name())
		}
	}
	if former == "" && len(folders) > 0 {
		return fmt.Errorf("put maps in their places: %w: %s does not say what becomes of the former ones", ErrMigrate, next)
	}
	slices.SortFunc(folders, func(a, b string) int { return metaFirst(a, b, mapsFolder) })
	for _, folder := range folders {
		if err := settleFolder(root, folder, former, reach); err != nil {
			return err
		}
	}
	reach("end")
	// It has the note of the former folder's name and nothing else any more.
	if err := os.RemoveAll(next); err != nil {
		return fmt.Errorf("remove folder of pins: %w", err)
	}
	return nil
}

// metaFirst sorts one name before all others. What says whose a set is changes first, so that a build that knows nothing of migrations
// refuses what it finds from then on.
func metaFirst(a, b, first string) int {
	switch {
	case a == b:
		return 0
	case a == first:
		return -1
	case b == first:
		return 1
	}
	return strings.Compare(a, b)
}

func settleFolder(root, folder, former string, reach func(string)) error {
	from, to := filepath.Join(root, nextFolder, folder), filepath.Join(root, folder)
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("list maps in effect: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("make folder for pins: %w", err)
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return metaFirst(a.Name(), b.Name(), can.FilterMapMeta) })
	for _, e := range entries {
		path := filepath.Join(to, e.Name())
		if slices.Contains(formerMaps(), e.Name()) {
			if _, err := os.Stat(path); err == nil {
				keep := filepath.Join(root, former, folder)
				if err := os.MkdirAll(keep, 0o700); err != nil {
					return fmt.Errorf("make folder for former pins: %w", err)
				}
				reach("keep " + folder + "/" + e.Name())
				if err := os.Rename(path, filepath.Join(keep, e.Name())); err != nil {
					return fmt.Errorf("keep former map: %w", err)
				}
			}
		}
		reach("place " + folder + "/" + e.Name())
		if err := os.Rename(filepath.Join(from, e.Name()), path); err != nil {
			return fmt.Errorf("put map in its place: %w", err)
		}
	}
	if err := os.Remove(from); err != nil {
		return fmt.Errorf("remove folder of pins: %w", err)
	}
	return nil
}

// isMigration says that a folder under the root is of a migration.
func isMigration(name string) bool {
	return name == besideFolder || name == nextFolder || strings.HasPrefix(name, formerPrefix)
}

// CheckMigration says whether pins of another layout under root (empty: DefaultRoot) could be migrated to that of this build: nil, or
// ErrMigrate with the member that stands against it. It changes nothing. Needs what [Open] needs.
func CheckMigration(root string) error {
	if root == "" {
		root = DefaultRoot
	}
	own, err := ownLayout()
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	m, err := planMigration(root, own, metaEntry{BootID: boot})
	if err != nil {
		return err
	}
	err = m.check()
	return errors.Join(err, m.close())
}

// check is copy into nothing.
func (m *migration) check() error {
	for _, name := range copiedArrays() {
		path := filepath.Join(mapsFolder, name)
		if m.plans[name] == nil {
			continue
		}
		b, stride, done, err := arrayBytes(m.old[path], false)
		if err != nil {
			return migrated(err)
		}
		err = m.checkArray(name, b, stride, int(m.old[path].ValueSize()))
		done()
		if err != nil {
			return migrated(err)
		}
	}
	return migrated(m.eachStream(func(*StreamKey, *Stream) error { return nil }))
}

// checkArray refuses what would be lost, and notes the counts that are.
func (m *migration) checkArray(name string, b []byte, stride, size int) error {
	room := int(m.spec[name].MaxEntries)
	for i := 0; i*stride < len(b); i++ {
		value := b[i*stride : i*stride+size]
		if i >= room && !isZero(value) {
			return fmt.Errorf("map %s has %d entries and had %d, and entry %d is in use", name, room, len(b)/stride, i)
		}
		if l := m.plans[name].judge(value); l != nil {
			return fmt.Errorf("%s %s, and is in use in entry %d", l.name, l.why, i)
		}
		for _, c := range m.plans[name].counts {
			if !isZero(value[c.at:c.at+c.n]) && !slices.Contains(m.dropped, c.name) {
				m.dropped = append(m.dropped, c.name)
			}
		}
	}
	return nil
}

// removeBeside removes a set that was not in effect when its process was killed. The caller holds the lock on the pins, and nobody else is
// migrating.
func removeBeside(root string) error {
	if err := os.RemoveAll(filepath.Join(root, besideFolder)); err != nil {
		return fmt.Errorf("remove maps that were not in effect: %w", err)
	}
	return nil
}

// removeMigration removes all that migrations have left.
func removeMigration(root string) error {
	names, err := formerFolders(root)
	if err != nil {
		return err
	}
	for _, name := range append(names, besideFolder, nextFolder) {
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			return fmt.Errorf("remove pins of a migration: %w", err)
		}
	}
	return nil
}

// removeFormerBus removes the former rings of a bus.
func removeFormerBus(root, bus string) error {
	names, err := formerFolders(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(root, name, bus)); err != nil {
			return fmt.Errorf("remove former pins: %w", err)
		}
	}
	return nil
}
