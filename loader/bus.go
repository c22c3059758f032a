// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// Sizes of a bus's rings if its options name none.
const (
	DefaultCandidates = 4 << 20
	DefaultControl    = 256 << 10
)

// refusedSize is that of the ring of refused frames in bytes, about 500 of them: a page is no larger anywhere.
const refusedSize = 64 << 10

const (
	busPrefix = "bus_"
	linkPin   = "link"
)

// Errors of [Set.Attach].
var (
	ErrNotCAN   = errors.New("interface is not a CAN interface")
	ErrRingSize = errors.New("pinned ring has another size")
	ErrBusSlot  = errors.New("interface slot is out of range or taken twice")
	ErrHookKind = errors.New("wrong kind of hook")
)

// BusOptions says which interface to attach to. Interface and Slot are required.
type BusOptions struct {
	// Interface is the link's name, in Netns if that is not nil, else in the caller's network namespace.
	Interface string
	Netns     *Netns

	// Slot is the interface's stable number, 1 to MaxIfaces-1. It must be the same in every run: stream
	// keys and pins go by it.
	Slot uint32

	// Candidates and Control are the ring sizes in bytes, powers of two and multiples of the page size. 0
	// takes the default, or the size of a pinned ring as it is.
	Candidates, Control int

	// Hook is HookTCX or HookClsact; empty takes what an earlier run has taken, else tcx, and clsact where the kernel has no
	// tcx. A bus that is attached by the other kind gives ErrHookKind.
	Hook string

	// MayBeAbsent makes an interface that does not exist, or is no CAN interface, no error: maps and program are made ready,
	// and [Set.Reattach] attaches it.
	MayBeAbsent bool
}

// Bus is an interface with the filter attached. Its methods are safe for concurrent use, also with [Set.Reattach]; its rings
// are for one reader each.
type Bus struct {
	name string
	slot uint32
	opts BusOptions
	at   atomic.Pointer[attached]

	maps   map[string]*ebpf.Map
	prog   *ebpf.Program
	anchor anchor // nil: never attached
	// absent says that there was no interface when the programs were exchanged after a migration: what is at its hook when it is back
	// may hand over in former rings.
	absent   bool
	counters *table[Counters]

	candidates, control, refused *Ring
}

// Name returns the interface's name.
func (b *Bus) Name() string { return b.name }

// Slot returns the interface's slot.
func (b *Bus) Slot() uint32 { return b.slot }

// Index returns the index of the interface to which the bus was attached last, or 0 if it never was.
func (b *Bus) Index() int { return b.at.Load().index }

// Hook returns the kind of hook by which the bus was attached last, HookTCX or HookClsact, or "" if it never was.
func (b *Bus) Hook() string { return b.at.Load().hook }

// Candidates returns the ring of samples and heartbeats.
func (b *Bus) Candidates() *Ring { return b.candidates }

// Control returns the ring of start records.
func (b *Bus) Control() *Ring { return b.control }

// RefusedFrames returns the ring of refused frames, as far as they were wanted ([Set.WantFrames]). Nobody is woken for them. A frame is
// there before it is counted.
func (b *Bus) RefusedFrames() *Ring { return b.refused }

// TakeRefused appends the frames that wait in the ring of refused ones, and gives their room back. It makes no system call. With an
// error the rest of what waits is gone.
func (b *Bus) TakeRefused(to []RefusedFrame) ([]RefusedFrame, error) {
	var batch [16]Record
	for {
		n, err := b.refused.Peek(batch[:])
		if err != nil {
			b.refused.skip()
			return to, fmt.Errorf("read refused frames of %s: %w", b.name, err)
		}
		if n == 0 {
			return to, nil
		}
		for _, r := range batch[:n] {
			if frame, ok := r.RefusedFrame(); ok {
				to = append(to, frame)
			}
		}
		b.refused.Release()
	}
}

// FilterCounts returns the filter's verdict counts, summed over all CPUs. It makes no system call.
func (b *Bus) FilterCounts() (sum Counts) {
	for i := range b.counters.entries {
		b.counters.entries[i].AddTo(&sum)
	}
	return sum
}

// attached is where a bus is attached.
type attached struct {
	index int
	hook  string
}

func newBus(o BusOptions) *Bus {
	b := &Bus{name: o.Interface, slot: o.Slot, opts: o, maps: make(map[string]*ebpf.Map)}
	b.at.Store(&attached{})
	return b
}

func (s *Set) busPins(slot uint32) string { return s.path(busPrefix + strconv.Itoa(int(slot))) }

func (b *Bus) close() error {
	errs := []error{b.candidates.close(), b.control.close(), b.refused.close(), b.counters.close()}
	if b.anchor != nil {
		errs = append(errs, b.anchor.Close())
	}
	if b.prog != nil {
		errs = append(errs, b.prog.Close())
	}
	for _, m := range b.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Attach loads a program instance per bus and attaches it, or, where an earlier run has, takes over its link
// and rings and replaces the program in one step: no frame goes unjudged and none is lost. Either all buses
// are attached or, with an error, what was there before is left as it was; a process killed in Attach can
// leave some attached, which the next Attach takes over. ebpf.ErrNotSupported means a kernel that has neither tcx
// (from 6.6) nor clsact with cls_bpf, or not the one that the options ask for.
//
// Streams must be in the table before: until then their identifiers pass.
func (s *Set) Attach(options ...BusOptions) ([]*Bus, error) {
	p, err := s.Prepare(options...)
	if err != nil {
		return nil, err
	}
	buses, err := p.Attach()
	if err != nil {
		return nil, err
	}
	return buses, p.Keep()
}

// prepare opens or makes the bus's maps and loads the program.
func (s *Set) prepare(a *attachment) error {
	if err := a.lookFor(); err != nil {
		return err
	}
	maps := s.mapPins(a.opts.Slot)
	_, err := os.Stat(maps)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = s.makeBusMaps(a)
	case err == nil:
		err = s.openBus(a, maps)
	}
	if err != nil {
		return err
	}
	b := a.bus
	b.counters, err = mapTable[Counters](b.maps[can.FilterMapFilterCounters])
	if err != nil {
		return err
	}
	if b.candidates, err = NewRing(b.maps[can.FilterMapCandidates]); err != nil {
		return err
	}
	if b.control, err = NewRing(b.maps[can.FilterMapControl]); err != nil {
		return err
	}
	if b.refused, err = NewRing(b.maps[can.FilterMapRefusedFrames]); err != nil {
		return err
	}
	return s.load(b)
}

// busSpecs returns the specs of a bus's own maps with the sizes filled in; a ring size of 0 means default.
func busSpecs(spec *ebpf.CollectionSpec, opts BusOptions) (map[string]*ebpf.MapSpec, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	specs := make(map[string]*ebpf.MapSpec)
	for name, size := range map[string]int{
		can.FilterMapCandidates:     orDefault(opts.Candidates, DefaultCandidates),
		can.FilterMapControl:        orDefault(opts.Control, DefaultControl),
		can.FilterMapRefusedFrames:  refusedSize,
		can.FilterMapFilterCounters: cpus,
	} {
		specs[name] = spec.Maps[name].Copy()
		specs[name].MaxEntries = uint32(size)
		if specs[name].Type == ebpf.RingBuf && (bits.OnesCount(uint(size)) != 1 || size < os.Getpagesize() || size > 1<<30) {
			return nil, fmt.Errorf("%w: %d bytes for %s is not a power of two between a page and 1 GiB", ErrRingSize, size, name)
		}
	}
	return specs, nil
}

func orDefault(size, def int) int {
	if size == 0 {
		return def
	}
	return size
}

func (s *Set) makeBusMaps(a *attachment) error {
	specs, err := busSpecs(s.spec, a.opts)
	if err != nil {
		return err
	}
	for name, spec := range specs {
		if a.bus.maps[name], err = ebpf.NewMap(spec); err != nil {
			delete(a.bus.maps, name)
			return fmt.Errorf("create map %s: %w", name, err)
		}
	}
	// Folder and pins come now and the name at the end, so what can fail of them fails before the hook is
	// set. A process killed before the end leaves a stale folder, and the next one removes it.
	if a.tmp, err = os.MkdirTemp(s.root, tmpPrefix); err != nil {
		return fmt.Errorf("make folder for pins: %w", err)
	}
	for name, m := range a.bus.maps {
		if err := m.Pin(filepath.Join(a.tmp, name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return nil
}

// openBus opens what an earlier run has pinned in a folder.
func (s *Set) openBus(a *attachment, folder string) error {
	specs, err := busSpecs(s.spec, a.opts)
	if err != nil {
		return err
	}
	wanted := map[string]int{can.FilterMapCandidates: a.opts.Candidates, can.FilterMapControl: a.opts.Control}
	for name, spec := range specs {
		if spec.Type == ebpf.RingBuf {
			spec.MaxEntries = 0 // any; looked at below
		}
		m, err := openPinned(filepath.Join(folder, name), spec)
		if err != nil {
			return err
		}
		a.bus.maps[name] = m
		// A ring cannot grow, and a new one would lose what lies unread in the old.
		if size := wanted[name]; size != 0 && uint32(size) != m.MaxEntries() {
			return fmt.Errorf("%w: %s has %d bytes, want %d", ErrRingSize, name, m.MaxEntries(), size)
		}
	}
	return nil
}

// load loads the bus's program instance.
func (s *Set) load(b *Bus) error {
	spec := s.spec.Copy()
	if err := configure(spec, b.slot, b.maps[can.FilterMapCandidates].MaxEntries()); err != nil {
		return err
	}
	replacements := make(map[string]*ebpf.Map)
	for _, name := range sharedMaps() {
		replacements[name] = s.maps[name]
	}
	for _, name := range busMaps() {
		m := b.maps[name]
		replacements[name] = m
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	var objects struct {
		CanIngress *ebpf.Program `ebpf:"can_ingress"`
	}
	if err := spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{MapReplacements: replacements}); err != nil {
		return fmt.Errorf("load filter: %w", err)
	}
	b.prog = objects.CanIngress
	return nil
}

// configure sets the constants of a program instance.
func configure(spec *ebpf.CollectionSpec, slot, candidates uint32) error {
	return errors.Join(
		spec.Variables[can.FilterVarCwIface].Set(slot),
		spec.Variables[can.FilterVarCwRingQuarter].Set(candidates/4),
	)
}

// Detach takes the filter off the given slots' interfaces, or off all if none is given, and removes their
// pins, rings and what lies unread in them; and the shared maps when no bus is left. It opens the bus, and
// nothing else does. It needs no Set and minds no layout, so it also ends what another build has left.
// Detaching what is not attached is no error.
func Detach(root string, slots ...uint32) error {
	if root == "" {
		root = DefaultRoot
	}
	// What is not in a bpffs cannot be our pins, and what is found there must not be removed.
	if on, err := onBPFFS(root); err != nil || !on {
		return err
	}
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lockFolder(root)
	if err != nil {
		return err
	}
	defer unlock()
	if err := removeStale(root); err != nil {
		return err
	}
	if len(slots) > 0 {
		// What stays is to be one set.
		if err := settle(root, func(string) {}); err != nil {
			return err
		}
	}
	all, err := pinnedSlots(root)
	if err != nil {
		return err
	}
	if len(slots) == 0 {
		slots = all
	}
	var errs []error
	for _, slot := range slots {
		if err := detachBus(filepath.Join(root, busPrefix+strconv.Itoa(int(slot))), slot); err != nil {
			errs = append(errs, fmt.Errorf("detach interface slot %d: %w", slot, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if left, err := pinnedSlots(root); err != nil || len(left) > 0 {
		return err
	}
	if err := removeMigration(root); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(root, mapsFolder)); err != nil {
		return fmt.Errorf("remove pinned maps: %w", err)
	}
	// A root that is a mount point stays: who mounted it is not known.
	if err := os.Remove(root); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("remove bpffs folder: %w", err)
	}
	return nil
}

func detachBus(pins string, slot uint32) error {
	if err := errors.Join(detachTCX(pins), detachClsact(pins, slot)); err != nil {
		return err
	}
	if err := os.RemoveAll(pins); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return removeFormerBus(filepath.Dir(pins), filepath.Base(pins))
}

// pinnedSlots lists the interface slots that have pins.
func pinnedSlots(root string) (slots []uint32, err error) {
	names, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list bpffs folder: %w", err)
	}
	for _, n := range names {
		if text, ok := strings.CutPrefix(n.Name(), busPrefix); ok {
			slot, err := strconv.ParseUint(text, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("list bpffs folder: %q is not the name of a bus", n.Name())
			}
			slots = append(slots, uint32(slot))
		}
	}
	return slots, nil
}
