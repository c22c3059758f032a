// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// formerPrefix begins the name of a folder with maps of a set that is not in effect any more. It has a number behind it, in the order in
// which the sets were in effect.
const formerPrefix = "former_"

// formerMaps are kept there: the rings, which may hold frames that nobody has read; what the filter has counted, which goes on until
// the programs are exchanged; and what says whose they are.
func formerMaps() []string {
	return []string{can.FilterMapCandidates, can.FilterMapControl, can.FilterMapFilterCounters, can.FilterMapStreamShed,
		can.FilterMapStreamRefused, can.FilterMapMeta}
}

// formerFolders lists the folders of former sets, the oldest first.
func formerFolders(root string) (names []string, err error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list bpffs folder: %w", err)
	}
	for _, e := range entries {
		if _, err := formerNumber(e.Name()); err == nil {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		x, _ := formerNumber(a) // known to be numbers
		y, _ := formerNumber(b)
		return cmp.Compare(x, y)
	})
	return names, nil
}

func formerNumber(name string) (uint64, error) {
	text, ok := strings.CutPrefix(name, formerPrefix)
	if !ok {
		return 0, fmt.Errorf("%q is not the name of a former set", name)
	}
	return strconv.ParseUint(text, 10, 32)
}

// newFormer returns the name of a folder behind all that there are.
func newFormer(root string) (string, error) {
	names, err := formerFolders(root)
	if err != nil || len(names) == 0 {
		return formerPrefix + "1", err
	}
	last, err := formerNumber(names[len(names)-1])
	if err != nil {
		return "", err
	}
	return formerPrefix + strconv.FormatUint(last+1, 10), nil
}

// formerRings returns the ids of the candidate rings that a bus has had. A program that uses one is the bus's.
func formerRings(root string, slot uint32) (ids []uint32, err error) {
	names, err := formerFolders(root)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		id, err := pinnedMapID(filepath.Join(root, name, busPrefix+strconv.Itoa(int(slot)), can.FilterMapCandidates))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func pinnedMapID(path string) (uint32, error) {
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return 0, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	id, err := mapID(m)
	return id, errors.Join(err, m.Close())
}

// FormerBus are the rings that an interface had in a layout before this build's. No program hands anything over in them any more, and what
// lies in them is older than all that lies in the rings of the [Bus]. For one goroutine.
type FormerBus struct {
	// Slot is the interface's.
	Slot uint32
	// Layout is the one that was in effect.
	Layout LayoutName
	// Candidates and Control are nil where there is none.
	Candidates, Control *Ring
	// Readable says that the records are as this build's are. Without it they can only be discarded.
	Readable bool

	maps []*ebpf.Map
}

// Discard releases all records without looking into them, and returns how many there were in each ring.
func (f *FormerBus) Discard() (candidates, control uint64, err error) {
	if candidates, err = f.Candidates.discard(); err != nil {
		return candidates, 0, err
	}
	control, err = f.Control.discard()
	return candidates, control, err
}

// Close gives memory and descriptors back. The pins stay: see [Set.DropFormer].
func (f *FormerBus) Close() error {
	errs := []error{f.Candidates.close(), f.Control.close()}
	for _, m := range f.maps {
		errs = append(errs, m.Close())
	}
	f.Candidates, f.Control, f.maps = nil, nil, nil
	return errors.Join(errs...)
}

// Former returns what lies pinned of the sets that this one has come from, the oldest first. It is called when all buses are attached: then
// no program uses the former maps, and what the filter has counted in them is added to the counters of this set. Needs CAP_SYS_ADMIN if
// there is anything.
func (s *Set) Former() (all []*FormerBus, err error) {
	names, err := formerFolders(s.root)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	if err := waitForPrograms(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, f := range all {
				err = errors.Join(err, f.Close())
			}
			all = nil
		}
	}()
	for _, name := range names {
		if all, err = s.openFormer(name, all); err != nil {
			return all, fmt.Errorf("open former maps in %s: %w", name, err)
		}
	}
	return all, nil
}

// waitForPrograms returns when no program that was exchanged before is still at work on a frame: with an expedited call or not, membarrier(2)
// waits for an RCU grace period, and programs at the hook run as RCU readers (tcx_run in net/core/dev.c).
func waitForPrograms() error {
	const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL of include/uapi/linux/membarrier.h
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.EINVAL, unix.ENOSYS:
		// A kernel without it, or with tickless CPUs (nohz_full). A map of maps waits for the same when it is changed
		// (maybe_wait_bpf_programs in kernel/bpf/syscall.c).
		return waitByMap()
	default:
		return fmt.Errorf("wait for the end of former programs: %w", errno)
	}
}

func waitByMap() error {
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
	if err != nil {
		return fmt.Errorf("wait for the end of former programs: %w", err)
	}
	m, err := ebpf.NewMap(inner)
	if err != nil {
		return errors.Join(fmt.Errorf("wait for the end of former programs: %w", err), outer.Close())
	}
	if err = outer.Put(uint32(0), m); err != nil {
		err = fmt.Errorf("wait for the end of former programs: %w", err)
	}
	return errors.Join(err, m.Close(), outer.Close())
}

func (s *Set) openFormer(name string, all []*FormerBus) ([]*FormerBus, error) {
	root := filepath.Join(s.root, name)
	layout, err := s.formerLayout(filepath.Join(root, mapsFolder, can.FilterMapMeta))
	if err != nil {
		return all, err
	}
	if err := s.addShed(filepath.Join(root, mapsFolder, can.FilterMapStreamShed)); err != nil {
		return all, err
	}
	if err := s.addRefused(filepath.Join(root, mapsFolder, can.FilterMapStreamRefused)); err != nil {
		return all, err
	}
	slots, err := pinnedSlots(root)
	if err != nil {
		return all, err
	}
	slices.Sort(slots)
	for _, slot := range slots {
		f := &FormerBus{Slot: slot, Layout: layout, Readable: layout.Version == s.own.version}
		all = append(all, f)
		folder := filepath.Join(root, busPrefix+strconv.Itoa(int(slot)))
		if f.Candidates, err = f.openRing(filepath.Join(folder, can.FilterMapCandidates)); err != nil {
			return all, err
		}
		if f.Control, err = f.openRing(filepath.Join(folder, can.FilterMapControl)); err != nil {
			return all, err
		}
		if err := s.addCounters(slot, filepath.Join(folder, can.FilterMapFilterCounters)); err != nil {
			return all, err
		}
	}
	return all, nil
}

// openRing opens a former ring; nil: there is none.
func (f *FormerBus) openRing(path string) (*Ring, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	f.maps = append(f.maps, m)
	return NewRing(m)
}

// formerLayout tells whose former maps are; the zero value: nobody can tell.
func (s *Set) formerLayout(path string) (LayoutName, error) {
	var e metaEntry
	err := s.readFormer(can.FilterMapMeta, path, func(_ *ebpf.Map, plan *mapPlan, _ uint32, value []byte) error {
		plan.apply(bytesOf(&e), value)
		return nil
	})
	if err != nil || e.Magic != metaMagic() {
		return LayoutName{}, err
	}
	return LayoutName{e.LayoutVersion, e.LayoutHash}, nil
}

// addShed adds what former programs have shed.
func (s *Set) addShed(path string) error {
	return s.readFormer(can.FilterMapStreamShed, path, func(m *ebpf.Map, plan *mapPlan, slot uint32, value []byte) error {
		var n uint64
		plan.apply(bytesOf(&n), value)
		if n == 0 || int(slot) >= len(s.shed.entries) {
			return nil
		}
		return takeCount(m, slot, value, func() { s.shed.entries[slot].Add(n) })
	})
}

// addRefused adds what former programs have refused, by stream.
func (s *Set) addRefused(path string) error {
	return s.readFormer(can.FilterMapStreamRefused, path, func(m *ebpf.Map, plan *mapPlan, slot uint32, value []byte) error {
		var r StreamRefused
		plan.apply(bytesOf(&r), value)
		if r.Total() == 0 || int(slot) >= len(s.refused.entries) {
			return nil
		}
		return takeCount(m, slot, value, func() {
			for _, v := range StreamVerdicts() {
				s.refused.entries[slot].Add(v, r.Load(v))
			}
		})
	})
}

// addCounters adds the verdicts of a bus's former programs.
func (s *Set) addCounters(slot uint32, path string) error {
	i := slices.IndexFunc(s.buses, func(b *Bus) bool { return b.slot == slot })
	if i < 0 {
		return nil
	}
	return s.readFormer(can.FilterMapFilterCounters, path, func(m *ebpf.Map, plan *mapPlan, cpu uint32, value []byte) error {
		var c Counters
		var counts Counts
		plan.apply(bytesOf(&c), value)
		c.AddTo(&counts)
		if counts.Total() == 0 {
			return nil
		}
		entries := s.buses[i].counters.entries
		to := &entries[int(cpu)%len(entries)] // only their sum is told
		return takeCount(m, cpu, value, func() {
			for v, n := range counts {
				to.Add(Verdict(v), n)
			}
		})
	})
}

// takeCount takes a former count away and then adds it. Nobody else writes there any more, so that a process killed between the two
// costs some counts and counts nothing twice.
func takeCount(m *ebpf.Map, index uint32, value []byte, add func()) error {
	if err := m.Update(index, make([]byte, len(value)), ebpf.UpdateAny); err != nil {
		return fmt.Errorf("take counts from map %s: %w", m, err)
	}
	add()
	return nil
}

// readFormer calls use with each entry of a former array; without the map there is none.
func (s *Set) readFormer(name, path string, use func(m *ebpf.Map, plan *mapPlan, index uint32, value []byte) error) (err error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned map %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	plan, err := planMap(name, m, s.spec.Maps[name], s.own.asBefore)
	if errors.Is(err, os.ErrPermission) {
		return err
	}
	if err != nil {
		// Of a layout from which this build has not migrated itself. Nobody is kept from starting by counts, and records of a layout
		// without a name are discarded.
		return nil
	}
	b, stride, done, err := arrayBytes(m, false)
	if err != nil {
		return err
	}
	defer done()
	size := int(m.ValueSize())
	for i := 0; i*stride < len(b); i++ {
		if err := use(m, plan, uint32(i), b[i*stride:i*stride+size]); err != nil {
			return err
		}
	}
	return nil
}

// DropFormer removes the pins of former sets: what was to be read is read. It is called when every [FormerBus] is closed.
func (s *Set) DropFormer() error {
	unlock, err := lockFolder(s.root)
	if err != nil {
		return err
	}
	defer unlock()
	names, err := formerFolders(s.root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(s.root, name)); err != nil {
			return fmt.Errorf("remove former pins: %w", err)
		}
	}
	return nil
}

// discard releases all records of a ring and counts them.
func (r *Ring) discard() (n uint64, err error) {
	if r == nil {
		return 0, nil
	}
	for next, prod := r.next, r.prod.Load(); next != prod; n++ {
		header := atomic.LoadUint32((*uint32)(unsafe.Add(r.data, next&r.mask)))
		size := (ringHeader + uint64(header&ringLength) + 7) &^ 7
		if size > prod-next {
			return n, fmt.Errorf("read ring at %d: %w: record of %d bytes, %d in the ring", next, ErrRingCorrupt, size, prod-next)
		}
		if header&ringDiscard != 0 {
			n--
		}
		next += size
		r.next = next
	}
	r.Release()
	return n, nil
}

// bytesOf returns the memory of a value.
func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }
