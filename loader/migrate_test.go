// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// shiftedLayout is one with which the compiled filter runs as well: all maps that slots and indexes count are twice as large, windows
// have a member more where the real ones are reserved, and members that only the agent reads have changed places. The Go types are
// as large as its values but do not name its members.
func shiftedLayout(t testing.TB) *layout {
	t.Helper()
	spec := must[*ebpf.CollectionSpec](t)(loadFilter())
	for _, name := range []string{
		can.FilterMapStreams, can.FilterMapWindows, can.FilterMapStreamShed, can.FilterMapStreamRefused, can.FilterMapFramesWanted,
		can.FilterMapEpochs, can.FilterMapStarts,
	} {
		spec.Maps[name].MaxEntries *= 2
	}
	change(t, spec, can.FilterMapWindows, func(s *btf.Struct) {
		swap(s, "committed", "published")
		i := slices.IndexFunc(s.Members, func(m btf.Member) bool { return m.Name == "reserved" })
		spare := s.Members[i]
		spare.Name, spare.Type = "spare", s.Members[i].Type.(*btf.Array).Type
		s.Members[i].Offset += 64
		s.Members[i].Type.(*btf.Array).Nelems--
		s.Members = append(s.Members, spare)
	})
	change(t, spec, can.FilterMapStarts, func(s *btf.Struct) {
		for i := range s.Members {
			if s.Members[i].Name == "epoch" {
				s.Members[i].Offset = 64 * 8
			} else {
				s.Members[i].Offset -= 256 * 8
			}
		}
	})
	change(t, spec, can.FilterMapFilterCounters, func(s *btf.Struct) { swap(s, "bad_tag", "passed") }) // of which the filter writes one
	return &layout{spec: spec, hash: must[[32]byte](t)(layoutHash(spec)), version: layoutVersion, asBefore: map[string]string{can.FilterMapFramesWanted: "no frame is handed over", "windows.spare": "nobody reads it"}}
}

// change changes the struct in a map's values.
func change(t testing.TB, spec *ebpf.CollectionSpec, name string, do func(*btf.Struct)) {
	t.Helper()
	s := btf.Copy(spec.Maps[name].Value).(*btf.Struct)
	do(s)
	slices.SortFunc(s.Members, func(a, b btf.Member) int { return cmp.Compare(a.Offset, b.Offset) }) // as the kernel wants them
	spec.Maps[name].Value = s
}

func swap(s *btf.Struct, a, b string) {
	x, y := member(s, a), member(s, b)
	x.Offset, y.Offset = y.Offset, x.Offset
}

// product is the layout of this build.
func product(t testing.TB) *layout {
	t.Helper()
	return must[*layout](t)(ownLayout())
}

// openAs opens the lab's pins as a build with a layout does, and takes over what is attached.
func (l *lab) openAs(t testing.TB, own *layout) {
	t.Helper()
	l.set = must[*Set](t)(open(Options{Root: l.root, Migrate: true}, own, false))
	l.bus = must[[]*Bus](t)(l.set.Attach(l.options()))[0]
}

// TestMigrateWithoutRefused goes on from pins of a layout that has not counted what it refused by stream, and has shown none of it: it
// is counted and shown from here on, and the bus's counts are all there.
func TestMigrateWithoutRefused(t *testing.T) { eachHook(t, tMigrateWithoutRefused) }

func tMigrateWithoutRefused(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.set.MarkReady()
	l.judged(t)
	counted := l.bus.FilterCounts()
	ok(t, l.set.Close())
	ok(t, os.Remove(filepath.Join(l.root, mapsFolder, can.FilterMapStreamRefused)))
	ok(t, os.Remove(filepath.Join(l.root, mapsFolder, can.FilterMapFramesWanted)))
	ok(t, os.Remove(filepath.Join(l.root, fmt.Sprint(busPrefix, testIface), can.FilterMapRefusedFrames)))
	if _, err := open(Options{Root: l.root}, product(t), false); !errors.Is(err, ErrLayout) {
		t.Fatalf("open without Migrate: %v", err)
	}
	l.openAs(t, product(t))
	if l.set.Migrated() == nil || l.set.Fresh() {
		t.Error("the set says of itself that it was not migrated")
	}
	if got := l.takeAll(t); len(got) != 0 {
		t.Errorf("samples %v", got)
	}
	if got := l.bus.FilterCounts(); got != counted {
		t.Errorf("counts %v, want %v", got, counted)
	}
	if got := l.set.StreamCounts(7); got != (StreamCounts{}) {
		t.Errorf("the stream's counts are %v", got)
	}
	l.set.WantFrames(7, Replay, 1)
	l.judged(t)
	if got := l.set.StreamCounts(7); got.Total() != 4 || got[Replay] != 1 {
		t.Errorf("the stream's counts are %v", got)
	}
	if shown := takeRefused(t, l.bus.RefusedFrames()); len(shown) != 1 || shown[0].Verdict != Replay || shown[0].Slot != 7 {
		t.Errorf("shown were %v", shown)
	}
}

// samples sends n sealed samples with the next counters.
func (l *lab) samples(t testing.TB, counter *uint64, n int) {
	t.Helper()
	for range n {
		l.write(t, EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: *counter}).view(CANFDMTU))
		*counter++
	}
}

// takeAll returns the counters of all samples that nobody has taken, as an agent takes them at its start.
func (l *lab) takeAll(t testing.TB) (counters []uint64) {
	t.Helper()
	former := must[[]*FormerBus](t)(l.set.Former())
	for _, f := range former {
		if f.Slot != testIface || !f.Readable {
			t.Errorf("former rings of slot %d, readable %v", f.Slot, f.Readable)
		}
		if f.Candidates != nil {
			counters = append(counters, countersOf(t, f.Candidates)...)
		}
		ok(t, f.Close())
	}
	ok(t, l.set.DropFormer())
	return append(counters, countersOf(t, l.bus.Candidates())...)
}

func countersOf(t testing.TB, r *Ring) (counters []uint64) {
	t.Helper()
	for _, rec := range take(t, r) {
		counters = append(counters, binary.LittleEndian.Uint64(rec.SPDU())>>16)
	}
	return counters
}

// wantCounters wants all of first to last, each once, in order.
func wantCounters(t testing.TB, got []uint64, first, last uint64) {
	t.Helper()
	if uint64(len(got)) != last-first {
		t.Fatalf("%d samples, want %d", len(got), last-first)
	}
	for i, c := range got {
		if c != first+uint64(i) {
			t.Fatalf("sample %d has counter %d, want %d", i, c, first+uint64(i))
		}
	}
}

// judged sends frames that windows and epochs decide about, and names those that are judged otherwise than by the tables of the lab.
func (l *lab) judged(t testing.TB) {
	t.Helper()
	for _, tt := range []struct {
		name string
		h    header
		want Verdict
	}{
		{"seen", header{version: 1, epoch: liveEpoch, counter: 9999}, Replay},
		{"behind the window", header{version: 1, epoch: liveEpoch, counter: 8900}, TooOld},
		{"below the base", header{version: 1, epoch: liveEpoch, counter: baseCount - 1}, CounterRange},
		{"retired epoch", header{version: 1, epoch: 0x77, counter: 20000}, UnknownEpoch},
	} {
		before := l.bus.FilterCounts()
		l.write(t, EthPCANFD, fdFrame(idSample, 48, tt.h).view(CANFDMTU))
		after := l.bus.FilterCounts()
		if after[tt.want] != before[tt.want]+1 || after.Total() != before.Total()+1 {
			t.Errorf("%s: counts %v, before %v", tt.name, after, before)
		}
	}
}

// TestMigrate takes the lab from the layout of this build to another one, and back, with frames that wait in the rings each time. Nothing
// that was known is forgotten, nothing is lost and nothing comes through.
func TestMigrate(t *testing.T) { eachHook(t, tMigrate) }

func tMigrate(t *testing.T, kind string) {
	l := newLab(t, kind)
	tap := newTap(t, l.ns, labDevice, EthPCANFD)
	before := hook(t, l.ns, labDevice)
	l.set.SetBinding([32]byte{1, 2, 3})
	l.set.MarkReady()
	l.set.Starts()[5].Epoch(0).Reset(liveEpoch)
	l.set.Starts()[5].Epoch(0).Put(Start{First: 70, Random: [16]byte{1, 2}})
	l.set.Starts()[5].HighestVerified.Store(10000)
	l.set.Windows()[7].Committed.Store(12)
	l.set.Windows()[7].Published.Store(11)
	l.set.AgentCounters()[testIface].Add(BadTag, 4)
	l.set.StreamShed()[7].Store(3)
	l.set.StreamRefused()[7].Add(ControlFull, 5)
	created := l.set.meta.entries[0].CreatedNS
	counter := uint64(10001)
	l.samples(t, &counter, 40)
	l.judged(t) // counted for the stream in maps that will be the former ones
	refused := l.set.StreamCounts(7)
	if refused.Total() != 3+5+4 || refused[Replay] != 1 {
		t.Errorf("the stream's counts are %v", refused)
	}
	counted := l.bus.FilterCounts()
	ok(t, l.set.Close())
	if _, err := open(Options{Root: l.root}, shiftedLayout(t), false); !errors.Is(err, ErrLayout) {
		t.Fatalf("open without Migrate: %v", err)
	}

	for round, own := range []*layout{shiftedLayout(t), product(t), shiftedLayout(t), product(t)} {
		l.openAs(t, own)
		if l.set.Migrated() == nil || l.set.Moving() || l.set.Created() || l.set.Fresh() {
			t.Fatalf("round %d: the set says of itself that it was not migrated", round)
		}
		meta := l.set.meta.entries[0]
		if meta.LayoutHash != own.hash || meta.BindingHash != [32]byte{1, 2, 3} || meta.CreatedNS != created {
			t.Errorf("round %d: meta %+v", round, meta)
		}
		if got := hook(t, l.ns, labDevice); !slices.Equal(got, before) {
			t.Errorf("round %d: at the hook %v, before %v", round, got, before)
		}
		l.samples(t, &counter, 20)
		wantCounters(t, l.takeAll(t), counter-60, counter)
		counted[Candidate] += 20
		if got := l.bus.FilterCounts(); got != counted {
			t.Errorf("round %d: counts %v, want %v", round, got, counted)
		}
		l.judged(t)
		counted = l.bus.FilterCounts()
		for _, v := range []Verdict{Replay, TooOld, CounterRange, UnknownEpoch} { // see judged
			refused[v]++
		}
		if l.set.StreamCounts(7) != refused || l.set.AgentCounters()[testIface].Load(BadTag) != 4 {
			t.Errorf("round %d: counts are lost", round)
		}
		w := &l.set.Windows()[7]
		committed, published := w.Committed.Load(), w.Published.Load()
		if round%2 == 0 {
			committed, published = published, committed
		}
		if committed != 12 || published != 11 {
			t.Errorf("round %d: committed %d, published %d", round, committed, published)
		}
		l.samples(t, &counter, 40) // for the next round
		counted[Candidate] += 40
		ok(t, l.set.Close())
	}
	l.openAs(t, product(t))
	starts := &l.set.Starts()[5]
	if s := starts.Epoch(0); s.Owner() != liveEpoch || s.Known()[0] != (Start{First: 70, Random: [16]byte{1, 2}}) || starts.HighestVerified.Load() != 10000 {
		t.Errorf("starts %+v, verified %d", s.Known(), starts.HighestVerified.Load())
	}
	if l.set.Migrated() != nil {
		t.Error("a set of this layout was migrated")
	}
	if got := drainTap(t, tap); len(got) != 0 {
		t.Errorf("%d protected frames came through", len(got))
	}
	names := pinNames(t, l.root)
	for _, name := range names {
		if isMigration(strings.Split(name, "/")[0]) {
			t.Errorf("left behind: %s", name)
		}
	}
}

// TestMigrateBeside does it as the successor of an agent that goes on until the commit, and one that gives up.
func TestMigrateBeside(t *testing.T) { eachHook(t, tMigrateBeside) }

func tMigrateBeside(t *testing.T, kind string) {
	l := newLab(t, kind)
	tap := newTap(t, l.ns, labDevice, EthPCANFD)
	pins, own := pinNames(t, l.root), l.bus.program(t)
	counter := uint64(10001)
	given := must[*Set](t)(open(Options{Root: l.root}, shiftedLayout(t), true))
	p := must[*Prepared](t)(given.Prepare(l.options()))
	if _, err := p.Attach(); !errors.Is(err, ErrMoving) {
		t.Errorf("attach of a set that is not in effect: %v", err)
	}
	i := l.inspected(t)
	if i.Migration != MigrationPrepared || !i.Meta.SameLayout || len(i.AsideIDs) != len(sharedMaps())+len(busMaps()) {
		t.Errorf("migration %q, same layout %v, %d maps aside", i.Migration, i.Meta.SameLayout, len(i.AsideIDs))
	}
	ok(t, openSet(t, Options{Root: l.root}).Close())
	if i := l.inspected(t); i.Migration != MigrationPrepared {
		t.Errorf("who only opens has taken the new set away: %q", i.Migration)
	}
	ok(t, given.Close())
	if got := pinNames(t, l.root); !slices.Equal(got, pins) || l.bus.program(t) != own {
		t.Errorf("after one has given up: pins %v, want %v", got, pins)
	}

	next := must[*Set](t)(open(Options{Root: l.root}, shiftedLayout(t), true))
	p = must[*Prepared](t)(next.Prepare(l.options()))
	// The agent goes on meanwhile.
	l.samples(t, &counter, 30)
	wantCounters(t, countersOf(t, l.bus.Candidates()), 10001, counter)
	for c := uint64(10001); c < counter; c++ {
		commit(&l.set.Windows()[7], c)
	}
	l.set.Windows()[7].HighestHint.Store(counter - 1)
	l.samples(t, &counter, 10)
	ok(t, next.Recopy())
	l.samples(t, &counter, 10)
	ok(t, next.Commit())
	if i := l.inspected(t); i.Migration != "" || len(i.Former) != 1 || i.Former[0].Candidates.Used == 0 || i.Buses[0].Program.ID != uint32(own) {
		t.Errorf("after the commit: %q, %+v, program %d", i.Migration, i.Former, i.Buses[0].Program.ID)
	}
	l.samples(t, &counter, 10)
	buses := must[[]*Bus](t)(p.Attach())
	ok(t, p.Keep())
	ok(t, l.set.Close())
	l.set, l.bus = next, buses[0]
	l.samples(t, &counter, 10)
	wantCounters(t, l.takeAll(t), 10031, counter)
	before := l.bus.FilterCounts()
	seen := uint64(10020)
	l.samples(t, &seen, 1)
	if got := l.bus.FilterCounts(); got[Replay] != before[Replay]+1 {
		t.Error("what was committed beside the preparation is not known")
	}
	if got := drainTap(t, tap); len(got) != 0 {
		t.Errorf("%d protected frames came through", len(got))
	}
	if got := pinNames(t, l.root); !slices.Equal(got, pins) {
		t.Errorf("pins %v, want %v", got, pins)
	}
}

// rename gives the lab's interface another name.
func (l *lab) rename(t testing.TB, from, to string) {
	t.Helper()
	ok(t, l.ns.Do(func() error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		index := must[Link](t)(links.ByName(from)).Index
		return errors.Join(
			links.SetDown(index),
			links.set(index, "rename", 0, 0, func(a *netlink.AttributeEncoder) { a.String(unix.IFLA_IFNAME, to) }),
			links.SetUp(index))
	}))
}

// TestMigrateAbsent migrates while the interface has another name. It stays closed, and its frames come again when it has its own.
func TestMigrateAbsent(t *testing.T) { eachHook(t, tMigrateAbsent) }

func tMigrateAbsent(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.set.MarkReady()
	counter := uint64(10001)
	l.samples(t, &counter, 10)
	ok(t, l.set.Close())
	l.rename(t, labDevice, "away")
	tap := newTap(t, l.ns, "away", EthPCANFD)
	l.set = must[*Set](t)(open(Options{Root: l.root, Migrate: true}, shiftedLayout(t), false))
	o := l.options()
	o.MayBeAbsent = true
	l.bus = must[[]*Bus](t)(l.set.Attach(o))[0]
	wantCounters(t, l.takeAll(t), 10001, counter)
	lost := counter
	l.samples(t, &lost, 10) // into a ring that nobody has any more
	if got := drainTap(t, tap); len(got) != 0 {
		t.Errorf("%d protected frames came through under another name", len(got))
	}
	l.rename(t, "away", labDevice)
	tap = newTap(t, l.ns, labDevice, EthPCANFD)
	if changed := must[bool](t)(l.set.Reattach(l.bus)); changed {
		t.Error("the filter was set anew at a hook that it has")
	}
	l.samples(t, &counter, 10)
	wantCounters(t, l.takeAll(t), counter-10, counter)
	l.judged(t)
	if got := drainTap(t, tap); len(got) != 0 {
		t.Errorf("%d protected frames came through", len(got))
	}
	ok(t, l.set.Close())
}

// TestMigrateTwoBuses is killed between two interfaces: the filter of one hands over in the new ring, that of the other in the former one.
func TestMigrateTwoBuses(t *testing.T) { eachHook(t, tMigrateTwoBuses) }

func tMigrateTwoBuses(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.set.MarkReady()
	other := &lab{root: l.root, ns: l.ns, kind: kind, device: newBusDevice(t, l.ns, "bus1")}
	options := BusOptions{Interface: "bus1", Netns: l.ns, Slot: testIface + 1, Hook: kind}
	ok(t, l.set.Streams().Set(StreamKey{Iface: testIface + 1, CANID: idSample}, Stream{Slot: 70, StreamID: 0x2007, Node: 5, Role: RoleSample, Carrier: CarrierCANFD, WindowSize: 64}))
	must[[]*Bus](t)(l.set.Attach(options))
	one, two := uint64(10001), uint64(10001)
	l.samples(t, &one, 10)
	other.samples(t, &two, 10)
	ok(t, l.set.Close())
	l.openAs(t, shiftedLayout(t)) // the first alone
	l.samples(t, &one, 10)
	other.samples(t, &two, 10)
	ok(t, l.set.Close())
	l.set = must[*Set](t)(open(Options{Root: l.root, Migrate: true}, shiftedLayout(t), false))
	buses := must[[]*Bus](t)(l.set.Attach(l.options(), options))
	l.samples(t, &one, 10)
	other.samples(t, &two, 10)
	got := make(map[uint32][]uint64)
	for _, f := range must[[]*FormerBus](t)(l.set.Former()) {
		got[f.Slot] = countersOf(t, f.Candidates)
		ok(t, f.Close())
	}
	ok(t, l.set.DropFormer())
	for _, b := range buses {
		if c := b.FilterCounts(); c[Candidate] != 30 || c.Total() != 30 {
			t.Errorf("%s: counts %v", b.Name(), c)
		}
		wantCounters(t, append(got[b.Slot()], countersOf(t, b.Candidates())...), 10001, 10031)
	}
	ok(t, l.set.Close())
}

// TestMigrateRefused wants whatever would lose something to be refused by name, with everything as it was.
func TestMigrateRefused(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, own *layout)
		fill   func(t *testing.T, root string, s *Set)
		says   string // "": it is migrated
	}{
		{"words of windows are gone", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapWindows, func(s *btf.Struct) { member(s, "words").Name = "reserved_words" })
		}, nil, "windows.words is gone"},
		{"hint is gone and was never used", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapWindows, func(s *btf.Struct) { member(s, "highest_hint").Name = "reserved_hint" })
		}, nil, "windows.highest_hint is gone, and is in use in entry 7"},
		{"published is gone and was never used", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapWindows, func(s *btf.Struct) { member(s, "published").Name = "reserved_published" })
		}, nil, ""},
		{"highest counter of nodes is narrower", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapStarts, func(s *btf.Struct) { member(s, "highest_verified").Type = u(4) })
		}, func(_ *testing.T, _ string, s *Set) { s.Starts()[5].HighestVerified.Store(1 << 40) }, "starts.highest_verified has 4 bytes and had 8, and is in use in entry 5"},
		{"highest counter of nodes is narrower and fits", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapStarts, func(s *btf.Struct) { member(s, "highest_verified").Type = u(4) })
		}, func(_ *testing.T, _ string, s *Set) { s.Starts()[5].HighestVerified.Store(1 << 20) }, ""},
		{"floor of epochs is new", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapEpochs, func(s *btf.Struct) {
				e := s.Members[0].Type.(*btf.Array).Type.(*btf.Struct)
				e.Members[1].Name = "floor"
			})
		}, nil, "epochs.slot.floor is new"},
		{"fewer epochs of a node", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapEpochs, func(s *btf.Struct) { s.Members[0].Type.(*btf.Array).Nelems = 2 })
		}, nil, "epochs.slot has 2 elements and had 4, and is in use in entry 5"},
		{"words of a window are more", func(t *testing.T, own *layout) {
			change(t, own.spec, can.FilterMapWindows, func(s *btf.Struct) { member(s, "words").Type.(*btf.Array).Nelems = 32 })
		}, nil, "windows.words has 32 elements and had 64"},
		{"fewer windows", func(_ *testing.T, own *layout) { own.spec.Maps[can.FilterMapWindows].MaxEntries = 100 }, nil, "map windows has 100 entries and had 4096, and entry 4095 is in use"},
		{"fewer streams", func(_ *testing.T, own *layout) { own.spec.Maps[can.FilterMapStreams].MaxEntries = 2 }, nil, "map streams has 2 entries"},
		{"fewer streams that are enough", func(_ *testing.T, own *layout) { own.spec.Maps[can.FilterMapStreams].MaxEntries = 20 }, nil, ""},
		{"another kind of map", func(_ *testing.T, own *layout) { own.spec.Maps[can.FilterMapStreams].Type = ebpf.LRUHash }, nil, "map streams is of another kind"},
		{"key of streams", func(t *testing.T, own *layout) {
			k := btf.Copy(own.spec.Maps[can.FilterMapStreams].Key).(*btf.Struct)
			k.Members[1].Name = "identifier"
			own.spec.Maps[can.FilterMapStreams].Key = k
		}, nil, "streams.identifier is new"},
		{"map that this build lacks", nil, func(t *testing.T, root string, s *Set) {
			ok(t, must[*ebpf.Map](t)(s.maps[can.FilterMapMeta].Clone()).Pin(filepath.Join(root, "maps", "ceilings")))
		}, "map maps/ceilings is gone"},
		{"map that the pins lack", nil, func(t *testing.T, root string, _ *Set) {
			ok(t, os.Remove(filepath.Join(root, "maps", "windows")))
		}, "map windows is missing"},
		{"map without types", nil, func(t *testing.T, root string, _ *Set) {
			ok(t, os.Remove(filepath.Join(root, "maps", "epochs")))
			spec := filterSpec(t).Maps[can.FilterMapEpochs]
			spec.Key, spec.Value = nil, nil
			m := must[*ebpf.Map](t)(ebpf.NewMap(spec))
			ok(t, m.Pin(filepath.Join(root, "maps", "epochs")))
			ok(t, m.Close())
		}, "map epochs: " + ErrNoTypes.Error()},
		{"another boot", nil, func(_ *testing.T, _ string, s *Set) { s.meta.entries[0].BootID[3] ^= 1 }, ErrBootID.Error()},
		{"somebody else's", nil, func(_ *testing.T, _ string, s *Set) { s.meta.entries[0].Magic[3] ^= 1 }, "they are no agent's"},
		{"stream in a slot that is too high", nil, func(t *testing.T, _ string, s *Set) {
			ok(t, s.maps[can.FilterMapStreams].Put(&StreamKey{Iface: 2, CANID: 5}, &Stream{Slot: MaxStreams, StreamID: 4, Carrier: CarrierCANFD, WindowSize: 64}))
		}, ErrInvalidStream.Error()},
		{"nothing but the hash", nil, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, _ := newRoot(t)
			s := must[*Set](t)(Open(Options{Root: root}))
			fillTables(t, s.Streams(), s.Epochs(), s.Windows())
			s.MarkReady()
			own := product(t)
			own.hash[0] ^= 1
			if tt.change != nil {
				tt.change(t, own)
			}
			if tt.fill != nil {
				tt.fill(t, root, s)
			}
			ok(t, s.Close())
			before := pinNames(t, root)
			for _, beside := range []bool{true, false} {
				set, err := open(Options{Root: root, Migrate: true}, own, beside)
				if err == nil {
					ok(t, errors.Join(set.DropFormer(), set.Close()))
				}
				switch {
				case tt.says == "" && err != nil:
					t.Errorf("refused: %v", err)
				case tt.says != "" && (!errors.Is(err, ErrMigrate) || !errors.Is(err, ErrLayout) || !strings.Contains(err.Error(), tt.says)):
					t.Errorf("got %v, want %q", err, tt.says)
				}
				if after := pinNames(t, root); !slices.Equal(before, after) {
					t.Errorf("pins changed from %v to %v", before, after)
				}
			}
		})
	}
}

// TestCheckMigration tells before what a start would say.
func TestCheckMigration(t *testing.T) {
	needRoot(t)
	root, _ := newRoot(t)
	s := must[*Set](t)(open(Options{Root: root}, shiftedLayout(t), false))
	ok(t, CheckMigration(root))
	windows := s.spec.Maps[can.FilterMapWindows].Value.(*btf.Struct)
	s.windows.entries[9].Words[0] = 1
	bytesOf(&s.windows.entries[9])[member(windows, "spare").Offset.Bytes()] = 1
	ok(t, s.Close())
	if err := CheckMigration(root); !errors.Is(err, ErrMigrate) || !strings.Contains(err.Error(), "windows.spare is gone, and is in use in entry 9") {
		t.Errorf("a member in use is gone: %v", err)
	}
}

// TestFormerUnreadable counts what lies in rings with other records.
func TestFormerUnreadable(t *testing.T) { eachHook(t, tFormerUnreadable) }

func tFormerUnreadable(t *testing.T, kind string) {
	l := newLab(t, kind)
	counter := uint64(10001)
	l.samples(t, &counter, 33)
	l.write(t, EthPCANFD, fdFrame(idHeartbeat, 48, header{version: 1, kind: 3, pad: 8, epoch: liveEpoch}).view(CANFDMTU))
	ok(t, l.set.Close())
	own := shiftedLayout(t)
	own.version++
	l.openAs(t, own)
	former := must[[]*FormerBus](t)(l.set.Former())
	if len(former) != 1 || former[0].Readable || former[0].Layout.Version != layoutVersion {
		t.Fatalf("former rings %+v", former)
	}
	candidates, control, err := former[0].Discard()
	if candidates != 33 || control != 1 || err != nil {
		t.Errorf("%d candidates and %d start records, %v", candidates, control, err)
	}
	if candidates, control, err = former[0].Discard(); candidates+control != 0 || err != nil {
		t.Errorf("again %d candidates and %d start records, %v", candidates, control, err)
	}
	ok(t, former[0].Close())
	ok(t, l.set.Close())
}

// TestWaitByMap is the way of kernels that cannot be asked directly.
func TestWaitByMap(t *testing.T) {
	needRoot(t)
	ok(t, waitByMap())
	ok(t, waitForPrograms())
}
