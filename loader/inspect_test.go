// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/mdlayher/netlink"
)

// inspected is Inspect in the lab's namespace.
func (l *lab) inspected(t testing.TB) *Inspection {
	t.Helper()
	var i *Inspection
	ok(t, l.ns.Do(func() (err error) {
		i, err = Inspect(l.root)
		return err
	}))
	return i
}

func TestInspect(t *testing.T) { eachHook(t, testInspect) }

func testInspect(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.set.Starts()[5].Epoch(0).Reset(liveEpoch)
	l.set.Starts()[5].Epoch(0).Put(Start{First: 70, Random: [16]byte{1}})
	l.set.Starts()[5].Epoch(0).Put(Start{First: 90, Random: [16]byte{2}})
	l.set.Starts()[5].Epoch(3).Reset(99) // of an epoch that is not there any more
	l.set.Starts()[5].Epoch(3).Put(Start{First: 5})
	l.set.Starts()[5].HighestVerified.Store(10000)
	l.set.Windows()[7].Committed.Store(12)
	l.set.Windows()[7].Published.Store(11)
	l.set.AgentCounters()[testIface].Add(BadTag, 4)
	sample := fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001}).view(CANFDMTU)
	for range 3 {
		l.write(t, EthPCANFD, sample)
	}
	l.write(t, EthPCANFD, fdFrame(idHeartbeat, 48, header{version: 1, kind: 3, pad: 8, epoch: liveEpoch}).view(CANFDMTU))
	l.write(t, EthPCANFD, fdFrame(0x200, 48, header{}).view(CANFDMTU))

	got := l.inspected(t)
	facts := must[BuildFacts](t)(Facts())
	if m := got.Meta; !m.SameLayout || !m.SameBoot || m.Ready || m.LayoutVersion != layoutVersion || m.Layout != facts.Layout || m.CreatedNS == 0 || m.BootID == [16]byte{} {
		t.Errorf("meta %+v", m)
	}
	if len(got.Foreign) != 0 || len(got.MapIDs) != len(sharedMaps()) {
		t.Errorf("foreign %v, maps %v", got.Foreign, got.MapIDs)
	}
	var slots []uint32
	for _, s := range got.Streams {
		slots = append(slots, s.Stream.Slot)
	}
	if !slices.Equal(slots, []uint32{7, 8, 9, MaxStreams - 1}) {
		t.Errorf("stream slots %v", slots)
	}
	if s := got.Streams[0]; s.Key.CANID != idSample || s.Stream.StreamID != 0x1007 || s.Highest != 10000 || s.Committed != 12 || s.Published != 11 {
		t.Errorf("stream %+v", s)
	}
	want := []PinnedNode{
		{Index: 5, HighestVerified: 10000, Epochs: []PinnedEpoch{{Epoch: liveEpoch, Base: baseCount, Starts: []uint64{90, 70}}, {Epoch: nextEpoch, Base: 1 << 47}}},
		{Index: MaxNodes - 1, Epochs: []PinnedEpoch{{Epoch: liveEpoch, Base: baseCount}}},
	}
	if !reflect.DeepEqual(got.Nodes, want) {
		t.Errorf("nodes %+v, want %+v", got.Nodes, want)
	}
	if len(got.Buses) != 1 {
		t.Fatalf("buses %+v", got.Buses)
	}
	b := got.Buses[0]
	if b.Filter != l.bus.FilterCounts() || b.Filter[Candidate] != 3 || b.Filter[Control] != 1 || b.Agent[BadTag] != 4 || b.Agent.Total() != 4 {
		t.Errorf("filter %v, agent %v", b.Filter, b.Agent)
	}
	if b.Candidates != (RingFill{l.bus.Candidates().Used(), DefaultCandidates, true}) || b.Candidates.Used == 0 ||
		b.Control != (RingFill{l.bus.Control().Used(), DefaultControl, true}) || b.Control.Used == 0 {
		t.Errorf("rings %+v, %+v", b.Candidates, b.Control)
	}
	if p := b.Program; b.LinkErr != nil || p.Err != nil || b.Ifindex != l.bus.Index() || p.Name != "can_ingress" || p.Tag == "" || !p.JITed ||
		p.Instructions == 0 || p.Loaded == 0 || p.BTFID == 0 || p.Link != b.LinkID || (b.LinkID == 0) != (kind == HookClsact) || b.Hook != kind || p.Hook != kind {
		t.Errorf("bus %+v", b)
	}
	for name, id := range b.MapIDs {
		if !slices.Contains(b.Program.MapIDs, id) {
			t.Errorf("program does not use map %s, %d", name, id)
		}
	}
	// An inspection is a copy, and takes nothing out of the rings.
	if n := len(take(t, l.bus.Candidates())); n != 3 {
		t.Errorf("%d records in the ring, want 3", n)
	}
	if again := l.inspected(t); again.Buses[0].Candidates.Used != 0 {
		t.Errorf("ring %+v after all was taken", again.Buses[0].Candidates)
	}
}

// The hook shows what runs there, in order, ours and others'.
func TestHooks(t *testing.T) { eachHook(t, testHooks) }

func testHooks(t *testing.T, kind string) {
	l := newLab(t, kind)
	pass := must[*ebpf.Program](t)(ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "other", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	}))
	defer pass.Close()
	ok(t, l.ns.Do(func() error {
		wantOther := HookTCX
		if kind == HookClsact {
			wantOther = HookClsact
			// The newest of one priority judges first.
			ok(t, inTC(nil, func(c tcConn) error {
				return c.setFilter(l.bus.Index(), clsactPriority, 7, "other", pass, netlink.Create|netlink.Excl)
			}))
		} else {
			other, err := link.AttachTCX(link.TCXOptions{Interface: l.bus.Index(), Program: pass, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
			if err != nil {
				return err
			}
			defer other.Close()
		}
		hooks, err := Hooks()
		if err != nil {
			return err
		}
		if len(hooks) != 1 || hooks[0].Interface.Name != labDevice || len(hooks[0].Programs) != 2 {
			t.Fatalf("hooks %+v", hooks)
		}
		first, second := hooks[0].Programs[0], hooks[0].Programs[1]
		if first.Name != "other" || first.Hook != wantOther || second.Name != "can_ingress" || second.Hook != kind || second.Link != l.inspected(t).Buses[0].LinkID {
			t.Errorf("programs %+v, %+v", first, second)
		}
		return nil
	}))
}

// What cannot be ours is told, and does not keep the rest from being read.
func TestInspectForeignPins(t *testing.T) { eachHook(t, testInspectForeignPins) }

func testInspectForeignPins(t *testing.T, kind string) {
	l := newLab(t, kind)
	m := must[*ebpf.Map](t)(ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}))
	defer m.Close()
	pin := func(name string) {
		t.Helper()
		c := must[*ebpf.Map](t)(m.Clone()) // a map that is pinned again would move
		defer c.Close()
		ok(t, c.Pin(filepath.Join(l.root, name)))
	}
	for _, name := range []string{"intruder", "maps/intruder", "bus_3/intruder"} {
		pin(name)
	}
	for _, name := range []string{"bus_x", "bus_04", "bus_64", "bus_0"} {
		ok(t, os.Mkdir(filepath.Join(l.root, name), 0o700))
	}
	got := l.inspected(t)
	slices.Sort(got.Foreign)
	if want := []string{"bus_0", "bus_04", "bus_3/intruder", "bus_64", "bus_x", "intruder", "maps/intruder"}; !slices.Equal(got.Foreign, want) {
		t.Errorf("foreign %v, want %v", got.Foreign, want)
	}
	if len(got.Buses) != 1 || !got.Meta.SameLayout {
		t.Errorf("%+v", got)
	}
	ok(t, os.Remove(filepath.Join(l.root, "maps/windows")))
	pin("maps/windows")
	if got := l.inspected(t); got.Meta.SameLayout || len(got.Streams) != 0 {
		t.Errorf("a table of another shape was read: %+v", got)
	}
}

// Pins of another build: only their outlines are told.
func TestInspectOtherLayout(t *testing.T) { eachHook(t, testInspectOtherLayout) }

func testInspectOtherLayout(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.set.meta.entries[0].LayoutHash[0] ^= 1
	l.set.meta.entries[0].BootID[0] ^= 1
	l.set.MarkReady()
	got := l.inspected(t)
	if got.Meta.SameLayout || got.Meta.SameBoot || !got.Meta.Ready || len(got.Streams)+len(got.Nodes) != 0 {
		t.Errorf("%+v", got)
	}
	if b := got.Buses[0]; b.Ifindex == 0 || b.Hook != kind || b.Program.Name != "can_ingress" || b.Candidates.Size == 0 || b.Filter.Total() != 0 {
		t.Errorf("bus %+v", b)
	}
}

func TestInspectNothing(t *testing.T) {
	if _, err := Inspect(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, ErrNoPins) {
		t.Errorf("no bpffs: %v", err)
	}
	needRoot(t)
	root, _ := newRoot(t)
	if _, err := Inspect(root); !errors.Is(err, ErrNoPins) {
		t.Errorf("no folder: %v", err)
	}
	ok(t, os.Mkdir(root, 0o700))
	if _, err := Inspect(root); !errors.Is(err, ErrNoPins) {
		t.Errorf("empty folder: %v", err)
	}
}

// An interface that is gone took the filter with it; the pins stay, and say so.
func TestInspectInterfaceGone(t *testing.T) { eachHook(t, testInspectInterfaceGone) }

func testInspectInterfaceGone(t *testing.T, kind string) {
	l := newLab(t, kind)
	ok(t, l.device.Close())
	eventually(t, "the link has lost its interface", func() bool { return l.inspected(t).Buses[0].Ifindex == 0 })
	ok(t, os.Remove(filepath.Join(l.root, "bus_3", map[string]string{HookTCX: linkPin, HookClsact: notePin}[kind])))
	if b := l.inspected(t).Buses[0]; !errors.Is(b.LinkErr, os.ErrNotExist) || b.LinkID != 0 {
		t.Errorf("pin removed: %+v", b)
	}
}

// inspectEnv makes the test binary inspect the bpffs of file descriptor 3, as whoever runs it, and print what it saw.
const inspectEnv = "CELLWARD_LOADER_TEST_INSPECT"

// inspectingChild prints an Inspection's counts, and how an attempt to write through the same descriptor failed.
func inspectingChild() error {
	i, err := Inspect("/proc/self/fd/3/cellward")
	if err != nil {
		return err
	}
	m, err := ebpf.LoadPinnedMap("/proc/self/fd/3/cellward/maps/epochs", nil)
	if err == nil {
		return fmt.Errorf("map %v was opened to be written", m)
	}
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	b := i.Buses[0]
	return json.NewEncoder(os.Stdout).Encode([]any{b.Filter[Candidate], b.Candidates.Size, b.Candidates.Known, len(i.Streams), b.LinkErr != nil})
}

// Reading takes no right to write: a user to whom the pins are readable, and nothing else, sees the tables.
func TestInspectReadOnly(t *testing.T) { eachHook(t, testInspectReadOnly) }

func testInspectReadOnly(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.write(t, EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001}).view(CANFDMTU))
	ok(t, filepath.Walk(l.root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if info.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o444)
	}))
	ok(t, os.Chmod(fmt.Sprintf("/proc/self/fd/%d", l.fs.Fd()), 0o755))
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{inspectEnv + "=1"}
	cmd.ExtraFiles = []*os.File{l.fs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("inspect as nobody: %v: %s", err, out)
	}
	// The link and the rings' fill cannot be looked at, and that is told; all else can, the note of a filter too.
	if got, want := strings.TrimSpace(string(out)), fmt.Sprintf("[1,4194304,false,4,%v]", kind == HookTCX); got != want {
		t.Errorf("nobody sees %s, want %s", got, want)
	}
}

func TestLinksAll(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	newBusDevice(t, ns, "can_a")
	newBusDevice(t, ns, "can_b")
	ok(t, ns.Do(func() error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		var names []string
		for _, l := range must[[]Link](t)(links.All()) {
			one := must[Link](t)(links.ByIndex(l.Index))
			if one != l {
				t.Errorf("listed %+v, found %+v", l, one)
			}
			names = append(names, l.Name)
		}
		if want := []string{"lo", "can_a", "can_b"}; !slices.Equal(names, want) {
			t.Errorf("%v, want %v", names, want)
		}
		return nil
	}))
}

// The probes find on this kernel what the other tests use.
func TestProbes(t *testing.T) {
	needRoot(t)
	if p := must[Program](t)(ProbeFilter()); p.Name != "can_ingress" || p.Instructions == 0 || !p.JITed {
		t.Errorf("filter %+v", p)
	}
	ok(t, ProbeClsact())
	if err := ProbeTCX(); errors.Is(err, ebpf.ErrNotSupported) {
		needOldKernel(t)
	} else {
		ok(t, err)
	}
	ok(t, ProbeTUN())
	if err := ProbeLinkKind("nokind"); !errors.Is(err, ErrLinkKind) {
		t.Errorf("kind that no kernel has: %v", err)
	}
	for _, kind := range []string{"vcan", "vxcan"} {
		if err := ProbeLinkKind(kind); err != nil && !errors.Is(err, ErrLinkKind) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Detach leaves none of the kernel objects that an inspection has listed, once the process that used them is gone.
func TestDetachLeavesNoObject(t *testing.T) { eachHook(t, testDetachLeavesNoObject) }

func testDetachLeavesNoObject(t *testing.T, kind string) {
	l := newLab(t, kind)
	before := l.inspected(t)
	r := must[Remains](t)(before.Remains())
	if len(r.Programs) != 1 || (len(r.Links) == 1) != (kind == HookTCX) || len(r.Maps) != len(sharedMaps())+len(busMaps())+1 { // and the program's constants
		t.Fatalf("before: %+v", r)
	}
	ok(t, l.ns.Do(func() error { return Detach(l.root) }))
	if got := hook(t, l.ns, labDevice); len(got) != 0 {
		t.Errorf("at the hook: %v", got)
	}
	// The set still holds its maps: nothing is gone that somebody uses.
	if r = must[Remains](t)(before.Remains()); len(r.Maps) == 0 {
		t.Errorf("while the set is open: %+v", r)
	}
	ok(t, l.set.Close())
	eventually(t, "all objects are gone", func() bool { return must[Remains](t)(before.Remains()).None() })
}
