// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// lab is one CAN-like device with the filter attached, in a network namespace and a bpffs of its own.
type lab struct {
	root   string
	fs     *os.File
	ns     *Netns
	kind   string
	device *TUN
	set    *Set
	bus    *Bus
}

const labDevice = "bus0"

func (l *lab) options() BusOptions {
	return BusOptions{Interface: labDevice, Netns: l.ns, Slot: testIface, Hook: l.kind}
}

// newLab attaches the filter with the tables of fixture.
func newLab(t testing.TB, kind string) *lab {
	t.Helper()
	needRoot(t)
	l := &lab{ns: newNetns(t), kind: kind}
	l.root, l.fs = newRoot(t)
	l.device = newBusDevice(t, l.ns, labDevice)
	l.start(t, true)
	t.Cleanup(func() { l.set.Close() })
	return l
}

// start opens the set, as a process does at its start.
func (l *lab) start(t testing.TB, fresh bool) {
	t.Helper()
	l.set = must[*Set](t)(Open(Options{Root: l.root}))
	if l.set.Created() != fresh {
		t.Fatalf("created: %v, want %v", l.set.Created(), fresh)
	}
	if fresh {
		fillTables(t, l.set.Streams(), l.set.Epochs(), l.set.Windows())
	}
	l.bus = must[[]*Bus](t)(l.set.Attach(l.options()))[0]
}

func (l *lab) write(t testing.TB, protocol uint16, frame []byte) {
	t.Helper()
	ok(t, l.device.WriteFrame(protocol, frame))
}

// eachHook runs a test with each kind of hook.
func eachHook(t *testing.T, f func(t *testing.T, kind string)) {
	t.Helper()
	for _, kind := range []string{HookTCX, HookClsact} {
		t.Run(kind, func(t *testing.T) {
			needRoot(t)
			if err := ProbeTCX(); kind == HookTCX && errors.Is(err, ebpf.ErrNotSupported) {
				needOldKernel(t)
				t.Skipf("the kernel itself says: %v", err)
			}
			f(t, kind)
		})
	}
}

// needOldKernel fails on a kernel that should have tcx.
func needOldKernel(t *testing.T) {
	t.Helper()
	release := string(must[[]byte](t)(os.ReadFile("/proc/sys/kernel/osrelease")))
	var major, minor int
	if n, err := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 || err != nil || major > 6 || major == 6 && minor >= 6 {
		t.Fatalf("Linux %s should have tcx", release)
	}
}

// program returns what runs at the bus's hook.
func (b *Bus) program(t testing.TB) ebpf.ProgramID {
	t.Helper()
	id, found, err := b.anchor.holds(place{b.opts.Netns, b.Index()})
	if err != nil || !found {
		t.Fatalf("program at the hook of %s: found %v, %v", b.name, found, err)
	}
	return id
}

// hook returns what is attached at a device's ingress, by what stays when a program is replaced.
func hook(t testing.TB, ns *Netns, name string) (ids []string) {
	t.Helper()
	ok(t, ns.Do(func() error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		l, err := links.ByName(name)
		if err != nil {
			return err
		}
		programs, err := queryTCX(l.Index)
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			return err
		}
		for _, p := range programs {
			id, _ := p.LinkID()
			ids = append(ids, fmt.Sprint("link ", id))
		}
		return inTC(nil, func(c tcConn) error {
			filters, err := c.filters(l.Index, tcParentIngress)
			for _, f := range filters {
				if f.handle != 0 {
					ids = append(ids, fmt.Sprintf("%s filter %#x at %d", f.kind, f.handle, f.priority))
				}
			}
			return err
		})
	}))
	return ids
}

// Frames on a real device: what is protected never comes out behind the hook, what is not always does.
func TestBusEndToEnd(t *testing.T) { eachHook(t, testBusEndToEnd) }

func testBusEndToEnd(t *testing.T, kind string) {
	l := newLab(t, kind)
	fdTap := newTap(t, l.ns, labDevice, EthPCANFD)
	classicTap := newTap(t, l.ns, labDevice, EthPCAN)
	allTap := newTap(t, l.ns, labDevice, unix.ETH_P_ALL)
	if l.bus.Name() != labDevice || l.bus.Slot() != testIface || l.bus.Index() == 0 {
		t.Errorf("bus %s, slot %d, index %d", l.bus.Name(), l.bus.Slot(), l.bus.Index())
	}

	sample := fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001}).view(CANFDMTU)
	foreign := fdFrame(0x200, 64, header{version: 1, epoch: liveEpoch, counter: 10001}).view(CANFDMTU)
	classic := func(id uint32) []byte { return (&CANFrame{ID: id, Len: 8, Data: [64]byte{1, 2, 3}}).view(CANMTU) }
	frames := []struct {
		protocol uint16
		frame    []byte
		want     Verdict
	}{
		{EthPCANFD, sample, Candidate},
		{EthPCANFD, foreign, Passed},
		{EthPCAN, classic(0x200), Passed},
		{EthPCAN, classic(idSample), PlaintextOnProtected},
		{EthPCAN, classic(idSample | CANRTRFlag), PlaintextOnProtected},
		{EthPCAN, classic(idSample | CANERRFlag), ErrorFrame},
		{EthPCANFD, sample[:40], PlaintextOnProtected},
		{EthPCANFD, sample[:3], Passed},
		{EthPCANFD, append(slices.Clone(sample), make([]byte, 1900)...), PlaintextOnProtected},
		{EthPCANXL, sample, PlaintextOnProtected},
		{EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10000}).view(CANFDMTU), Replay},
		{EthPCANFD, fdFrame(idHeartbeat, 48, header{version: 1, kind: 3, pad: 8, epoch: liveEpoch}).view(CANFDMTU), Control},
		{0x86DD, sample, Passed},
	}
	for _, v := range []Verdict{PlaintextOnProtected, Replay} {
		l.set.WantFrames(7, v, l.set.StreamCounts(7)[v]+100)
	}
	var want Counts
	var wantFD, wantClassic, wantAll [][]byte
	drainTap(t, allTap) // what the kernel may have sent by itself
	before := l.bus.FilterCounts()
	for i, f := range frames {
		l.write(t, f.protocol, f.frame)
		want[f.want]++
		got := l.bus.FilterCounts()
		for v := range got {
			got[v] -= before[v]
		}
		if got != want {
			t.Fatalf("after frame %d: verdicts %v, want %v", i, got, want)
		}
		wantAll = append(wantAll, f.frame)
		if !f.want.Drops() && f.protocol == EthPCANFD {
			wantFD = append(wantFD, f.frame)
		}
		if !f.want.Drops() && f.protocol == EthPCAN {
			wantClassic = append(wantClassic, f.frame)
		}
	}
	equal := func(name string, got, want [][]byte) {
		t.Helper()
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d frames, want %d: %x", name, len(got), len(want), got)
		}
	}
	equal("socket for CAN FD", drainTap(t, fdTap), wantFD)
	equal("socket for classic CAN", drainTap(t, classicTap), wantClassic)
	equal("socket for all protocols", drainTap(t, allTap), wantAll)

	records := take(t, l.bus.Candidates())
	if len(records) != 1 || !bytes.Equal(records[0].SPDU(), sample[8:56]) || records[0].Iface() != testIface {
		t.Errorf("candidates %x", records)
	}
	if n := len(take(t, l.bus.Control())); n != 1 {
		t.Errorf("%d control records, want 1", n)
	}
	// What was refused, but for a frame that is shorter than its kind and for CAN XL.
	var shown [][]byte
	for _, f := range must[[]RefusedFrame](t)(l.bus.TakeRefused(nil)) {
		size := CANMTU
		if f.Frame.Flags&CANFDFDF != 0 {
			size = CANFDMTU
		}
		shown = append(shown, slices.Clone(f.Frame.view(size)))
	}
	equal("refused and shown", shown, [][]byte{frames[3].frame, frames[4].frame, frames[8].frame[:CANFDMTU], frames[10].frame})
	if again := must[[]RefusedFrame](t)(l.bus.TakeRefused(nil)); len(again) != 0 {
		t.Errorf("shown again: %v", again)
	}
}

// A frame whose identifier lies beyond the linear part of the skb is looked into all the same. Only a TUN
// device with a virtio header makes such frames, and only longer than a page.
func TestBusNonLinear(t *testing.T) { eachHook(t, testBusNonLinear) }

func testBusNonLinear(t *testing.T, kind string) {
	needRoot(t)
	ns := newNetns(t)
	root, _ := newRoot(t)
	var fd int
	ok(t, ns.Do(func() (err error) {
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		ifr := must[*unix.Ifreq](t)(unix.NewIfreq(labDevice))
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_VNET_HDR)
		return errors.Join(unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr), unix.IoctlSetInt(fd, unix.TUNSETLINK, ARPHRDCAN), setUpCAN(labDevice))
	}))
	defer unix.Close(fd)
	set := openSet(t, Options{Root: root})
	fillTables(t, set.Streams(), set.Epochs(), set.Windows())
	bus := must[[]*Bus](t)(set.Attach(BusOptions{Interface: labDevice, Netns: ns, Slot: testIface, Hook: kind}))[0]

	for _, tt := range []struct {
		id   uint32
		want Verdict
	}{{idSample, PlaintextOnProtected}, {0x200, Passed}} {
		// struct tun_pi, struct virtio_net_hdr with hdr_len, then the frame.
		buf := make([]byte, 4+10+16000)
		buf[3] = EthPCANFD
		binary.LittleEndian.PutUint16(buf[4+2:], 2) // two bytes linear
		binary.LittleEndian.PutUint32(buf[14:], tt.id)
		before := bus.FilterCounts()
		must[int](t)(unix.Write(fd, buf))
		after := bus.FilterCounts()
		if after.Total() != before.Total()+1 || after[tt.want] != before[tt.want]+1 {
			t.Errorf("identifier %#x: verdicts %v, want one %s", tt.id, after, tt.want)
		}
	}
}

// Protected identifiers stay protected when the process has let go of everything, and what came in meanwhile
// waits in the ring.
func TestBusFailClosed(t *testing.T) { eachHook(t, testBusFailClosed) }

func testBusFailClosed(t *testing.T, kind string) {
	l := newLab(t, kind)
	tap := newTap(t, l.ns, labDevice, EthPCANFD)
	ok(t, l.set.Close())
	for i := range 100 {
		l.write(t, EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: uint64(10001 + i)}).view(CANFDMTU))
		l.write(t, EthPCAN, (&CANFrame{ID: idSample, Len: 8}).view(CANMTU))
		l.write(t, EthPCANFD, fdFrame(0x200, 48, header{}).view(CANFDMTU))
	}
	if got := drainTap(t, tap); len(got) != 100 || got[0][0] != 0 || got[0][1] != 2 {
		t.Errorf("%d frames came through, want the 100 of identifier 0x200", len(got))
	}
	l.start(t, false)
	if c := l.bus.FilterCounts(); c[Candidate] != 100 || c[PlaintextOnProtected] != 100 || c[Passed] < 100 {
		t.Errorf("verdicts %v", c)
	}
	records := take(t, l.bus.Candidates())
	if len(records) != 100 {
		t.Fatalf("%d records, want 100", len(records))
	}
	for i, r := range records {
		if c := binary.LittleEndian.Uint64(r.SPDU()) >> 16; c != uint64(10001+i) {
			t.Fatalf("record %d has counter %d", i, c)
		}
	}
}

// A restart finds link and rings, replaces the program, and loses or opens nothing, under load.
func TestBusRestartUnderLoad(t *testing.T) { eachHook(t, testBusRestartUnderLoad) }

func testBusRestartUnderLoad(t *testing.T, kind string) {
	l := newLab(t, kind)
	tap := newTap(t, l.ns, labDevice, EthPCANFD)
	before := hook(t, l.ns, labDevice)
	var stop atomic.Bool
	sent := make(chan uint64)
	go func() {
		n := uint64(0)
		for ; !stop.Load() && n < 30000; n++ {
			f := fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001 + n})
			if err := l.device.WriteCAN(f, CANFDMTU); err != nil {
				t.Error(err)
				break
			}
		}
		sent <- n
	}()
	programs := make(map[ebpf.ProgramID]bool)
	var records []Record
	for range 20 {
		ok(t, l.set.Close())
		l.start(t, false)
		programs[l.bus.program(t)] = true
		records = append(records, take(t, l.bus.Candidates())...)
	}
	stop.Store(true)
	n := <-sent
	records = append(records, take(t, l.bus.Candidates())...)
	if after := hook(t, l.ns, labDevice); !slices.Equal(before, after) {
		t.Errorf("links at the hook %v, before %v", after, before)
	}
	if len(programs) != 20 {
		t.Errorf("%d programs in 20 starts", len(programs))
	}
	if got := drainTap(t, tap); len(got) != 0 {
		t.Errorf("%d protected frames came through", len(got))
	}
	if uint64(len(records)) != n || n == 0 {
		t.Fatalf("%d records of %d frames", len(records), n)
	}
	for i, r := range records {
		if c := binary.LittleEndian.Uint64(r.SPDU()) >> 16; c != uint64(10001+i) {
			t.Fatalf("record %d has counter %d, want %d", i, c, 10001+i)
		}
	}
}

// Several interfaces are attached together or not at all.
func TestAttachAllOrNothing(t *testing.T) { eachHook(t, testAttachAllOrNothing) }

func testAttachAllOrNothing(t *testing.T, kind string) {
	needRoot(t)
	ns := newNetns(t)
	root, _ := newRoot(t)
	newBusDevice(t, ns, "can_a")
	newBusDevice(t, ns, "can_b")
	set := openSet(t, Options{Root: root})
	bus := func(name string, slot uint32) BusOptions {
		return BusOptions{Interface: name, Netns: ns, Slot: slot, Hook: kind}
	}
	withRing := func(o BusOptions, size int) BusOptions { o.Candidates = size; return o }
	loopback := bus("lo", 2)

	nothing := func(t *testing.T) {
		t.Helper()
		if a, b := hook(t, ns, "can_a"), hook(t, ns, "can_b"); len(a)+len(b) != 0 {
			t.Errorf("attached: %v %v", a, b)
		}
		for _, name := range pinNames(t, root) {
			if filepath.Dir(name) != mapsFolder {
				t.Errorf("pin %s is left", name)
			}
		}
	}
	tests := []struct {
		name   string
		second BusOptions
		want   error
	}{
		{"no such interface", bus("can_c", 2), ErrNoLink},
		{"no CAN interface", loopback, ErrNotCAN},
		{"no such hook", BusOptions{Interface: "can_b", Netns: ns, Slot: 2, Hook: "xdp"}, ErrHookKind},
		{"slot 0", bus("can_b", 0), ErrBusSlot},
		{"slot 64", bus("can_b", MaxIfaces), ErrBusSlot},
		{"slot taken", bus("can_b", 1), ErrBusSlot},
		{"ring of 5,000", withRing(bus("can_b", 2), 5000), ErrRingSize},
		{"ring of a byte", withRing(bus("can_b", 2), 1), ErrRingSize},
		{"ring below 0", withRing(bus("can_b", 2), -4096), ErrRingSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			buses, err := set.Attach(bus("can_a", 1), tt.second)
			if !errors.Is(err, tt.want) || buses != nil {
				t.Errorf("Attach: %v, want %v", err, tt.want)
			}
			nothing(t)
		})
	}

	t.Run("fault at each step", func(t *testing.T) {
		// A file in the place of the second bus's pins: the last step, the rename, fails.
		squatter := filepath.Join(root, "bus_2")
		ok(t, os.Mkdir(squatter, 0o700))
		ok(t, os.Mkdir(filepath.Join(squatter, "candidates"), 0o700))
		if _, err := set.Attach(bus("can_a", 1), bus("can_b", 2)); err == nil {
			t.Error("Attach took over a folder that holds no pins")
		}
		ok(t, os.RemoveAll(squatter))
		nothing(t)
	})

	buses := must[[]*Bus](t)(set.Attach(bus("can_a", 1), withRing(bus("can_b", 2), 8192)))
	if a, b := hook(t, ns, "can_a"), hook(t, ns, "can_b"); len(a) != 1 || len(b) != 1 || len(buses) != 2 {
		t.Errorf("attached: %v %v", a, b)
	}
	if buses[0].Candidates().Size() != DefaultCandidates || buses[0].Control().Size() != DefaultControl || buses[1].Candidates().Size() != 8192 {
		t.Errorf("rings of %d, %d and %d bytes", buses[0].Candidates().Size(), buses[0].Control().Size(), buses[1].Candidates().Size())
	}
	if _, err := set.Attach(bus("can_a", 1)); !errors.Is(err, ErrBusSlot) {
		t.Errorf("attach twice: %v", err)
	}

	// When a takeover of two fails at the second, the first keeps the program that it had.
	programs := func() (ids []ebpf.ProgramID) {
		for _, b := range buses {
			ids = append(ids, b.program(t))
		}
		return ids
	}
	had := programs()
	again := must[*Set](t)(Open(Options{Root: root}))
	defer again.Close()
	if _, err := again.Attach(bus("can_a", 1), withRing(bus("can_b", 2), 16384)); !errors.Is(err, ErrRingSize) {
		t.Errorf("takeover with another ring size: %v", err)
	}
	if now := programs(); !slices.Equal(now, had) {
		t.Errorf("programs %v, had %v", now, had)
	}
	attached := must[[]*Bus](t)(again.Attach(bus("can_a", 1), bus("can_b", 2)))
	if now := programs(); slices.Contains(had, now[0]) || slices.Contains(had, now[1]) || attached[1].Candidates().Size() != 8192 {
		t.Errorf("takeover left programs %v, had %v", now, had)
	}
}

// The order of undo matters where links were already updated.
func TestAttachUndo(t *testing.T) { eachHook(t, testAttachUndo) }

func testAttachUndo(t *testing.T, kind string) {
	l := newLab(t, kind)
	had := l.bus.program(t)
	other := newTestFilter(t, 4096, 4096)
	at := place{l.ns, l.bus.Index()}
	a := &attachment{bus: &Bus{anchor: l.bus.anchor, prog: other.prog}, at: at, held: had, pins: filepath.Join(l.root, "bus_3")}
	ok(t, a.update())
	defer a.old.Close()
	if _, found, err := l.bus.anchor.holds(at); kind == HookTCX && (err != nil || !found || l.bus.program(t) == had) {
		t.Fatalf("update has not replaced the program: %v", err)
	}
	ok(t, a.undo())
	if now := l.bus.program(t); now != had {
		t.Errorf("after undo program %d, want %d", now, had)
	}
}

// A link that was made anew under the same name gets a new attachment and keeps the rings.
func TestAttachAfterInterfaceWasRemade(t *testing.T) { eachHook(t, testAttachAfterInterfaceWasRemade) }

func testAttachAfterInterfaceWasRemade(t *testing.T, kind string) {
	l := newLab(t, kind)
	l.write(t, EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001}).view(CANFDMTU))
	pin := map[string]string{HookTCX: linkPin, HookClsact: notePin}[kind]
	for name, interrupt := range map[string]func(){
		"device made anew": func() {
			ok(t, l.device.Close())
			l.device = newBusDevice(t, l.ns, labDevice)
		},
		"another device with the same index in another namespace": func() {
			l.ns = newNetns(t)
			l.device = newBusDevice(t, l.ns, labDevice)
		},
		"pin removed": func() { ok(t, os.Remove(filepath.Join(l.root, "bus_3", pin))) },
		"hook removed": func() {
			if kind == HookTCX {
				ok(t, detachTCX(filepath.Join(l.root, "bus_3")))
				return
			}
			tcCommand(t, l.ns, "qdisc", "del", "dev", labDevice, "clsact")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ok(t, l.set.Close())
			interrupt()
			if kind != HookClsact || name != "pin removed" { // a filter does not end with its note, and is found all the same
				eventually(t, "nothing attached", func() bool { return len(hook(t, l.ns, labDevice)) == 0 })
			}
			l.start(t, false)
			if ids := hook(t, l.ns, labDevice); len(ids) != 1 {
				t.Fatalf("attached: %v", ids)
			}
			l.write(t, EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10002}).view(CANFDMTU))
			if n := len(take(t, l.bus.Candidates())); n == 0 {
				t.Error("no record came through the new attachment")
			}
			if got := pinNames(t, l.root); slices.ContainsFunc(got, func(n string) bool { return n[:4] == tmpPrefix }) {
				t.Errorf("pins %v", got)
			}
		})
	}
}

// Ours goes in front of what is attached already, because a program in front of ours could end the chain.
func TestAttachGoesFirst(t *testing.T) { eachHook(t, testAttachGoesFirst) }

func testAttachGoesFirst(t *testing.T, kind string) {
	needRoot(t)
	ns := newNetns(t)
	root, _ := newRoot(t)
	device := newBusDevice(t, ns, labDevice)
	tap := newTap(t, ns, labDevice, EthPCANFD)
	pass := must[*ebpf.Program](t)(ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "GPL",
	}))
	defer pass.Close()
	ok(t, ns.Do(func() (err error) {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		index := must[Link](t)(links.ByName(labDevice)).Index
		if kind == HookClsact {
			return inTC(nil, func(c tcConn) error {
				must[bool](t)(c.addQdisc(index))
				return errors.Join(c.setFilter(index, 1, 7, "foreign", pass, netlink.Create|netlink.Excl),
					c.setFilter(index, 2, 7, "foreign", pass, netlink.Create|netlink.Excl))
			})
		}
		foreign, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: pass, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			t.Cleanup(func() { foreign.Close() })
		}
		return err
	}))
	set := openSet(t, Options{Root: root})
	fillTables(t, set.Streams(), set.Epochs(), set.Windows())
	bus := must[[]*Bus](t)(set.Attach(BusOptions{Interface: labDevice, Netns: ns, Slot: testIface, Hook: kind}))[0]
	ok(t, device.WriteCAN(&CANFrame{ID: idSample, Len: 8}, CANFDMTU))
	ok(t, device.WriteCAN(&CANFrame{ID: 0x200, Len: 8}, CANFDMTU))
	if c, n := bus.FilterCounts(), len(drainTap(t, tap)); c[PlaintextOnProtected] != 1 || n != 1 {
		t.Errorf("%d dropped and %d through, want 1 and 1", c[PlaintextOnProtected], n)
	}
}

// Detach opens the bus, and leaves nothing.
func TestDetach(t *testing.T) { eachHook(t, testDetach) }

func testDetach(t *testing.T, kind string) {
	needRoot(t)
	ns := newNetns(t)
	root, fs := newRoot(t)
	a, b := newBusDevice(t, ns, "can_a"), newBusDevice(t, ns, "can_b")
	set := openSet(t, Options{Root: root})
	for _, slot := range []uint32{1, 2} {
		ok(t, set.Streams().Set(StreamKey{Iface: slot, CANID: idSample},
			Stream{Slot: slot, StreamID: slot, Node: 1, Carrier: CarrierCANFD, WindowSize: 64}))
	}
	must[[]*Bus](t)(set.Attach(BusOptions{Interface: "can_a", Netns: ns, Slot: 1, Hook: kind}, BusOptions{Interface: "can_b", Netns: ns, Slot: 2, Hook: kind}))
	tapA, tapB := newTap(t, ns, "can_a", EthPCAN), newTap(t, ns, "can_b", EthPCAN)
	through := func() (n [2]int) {
		t.Helper()
		f := &CANFrame{ID: idSample, Len: 8}
		ok(t, a.WriteCAN(f, CANMTU))
		ok(t, b.WriteCAN(f, CANMTU))
		return [2]int{len(drainTap(t, tapA)), len(drainTap(t, tapB))}
	}
	if got := through(); got != [2]int{0, 0} {
		t.Fatalf("attached: %v frames came through", got)
	}
	ok(t, ns.Do(func() error { return Detach(root, 1) })) // although the set still holds the hook
	if got := through(); got != [2]int{1, 0} {
		t.Fatalf("slot 1 detached: %v frames came through, want 1 and 0", got)
	}
	if got := must[[]uint32](t)(pinnedSlots(root)); !slices.Equal(got, []uint32{2}) {
		t.Errorf("pinned slots %v, want 2", got)
	}
	// Another layout does not keep anybody from opening the bus.
	set.meta.entries[0].LayoutHash[0] ^= 1
	ok(t, ns.Do(func() error { return Detach(root) }))
	if got := through(); got != [2]int{1, 1} {
		t.Fatalf("all detached: %v frames came through, want 1 and 1", got)
	}
	for _, name := range pinNames(t, fmt.Sprintf("/proc/self/fd/%d", fs.Fd())) {
		if name != "maps.debug" && name != "progs.debug" { // which some kernels put into every bpffs
			t.Errorf("left behind: %s", name)
		}
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("root is still there: %v", err)
	}
}

// The program that Attach loads is the one that the fixtures test: same source, same maps.
func TestTestrunIsTheFilter(t *testing.T) {
	spec := must[*ebpf.CollectionSpec](t)(can.LoadFilter())
	f := newTestFilter(t, 4096, 4096)
	for name, m := range map[string]*ebpf.Map{
		"streams": f.maps.Streams, "epochs": f.maps.Epochs, "windows": f.maps.Windows, "filter_counters": f.maps.FilterCounters,
	} {
		want := spec.Maps[name].Copy()
		want.MaxEntries = m.MaxEntries()
		if err := want.Compatible(m); err != nil {
			t.Errorf("map %s: %v", name, err)
		}
	}
}
