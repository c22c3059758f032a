// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tcCommand runs tc(8), another's hand at the same hook.
func tcCommand(t testing.TB, ns *Netns, args ...string) string {
	t.Helper()
	var out []byte
	ok(t, ns.Do(func() (err error) {
		if out, err = exec.Command("tc", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("tc %s: %w: %s", args, err, out)
		}
		return nil
	}))
	return string(out)
}

// hasQdisc reports whether the interface has a qdisc of the ingress kinds.
func hasQdisc(t testing.TB, ns *Netns, name string) (has bool) {
	t.Helper()
	ok(t, inTC(ns, func(c tcConn) error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		index := must[Link](t)(links.ByName(name)).Index
		for _, m := range must[[]netlink.Message](t)(c.execute(unix.RTM_GETQDISC, netlink.Dump, tcMessage{index: index}, nil)) {
			has = has || int(binary.NativeEndian.Uint32(m.Data[4:])) == index && binary.NativeEndian.Uint32(m.Data[8:]) == tcHandleClsact
		}
		return nil
	}))
	return has
}

// clsactLab is a device without a filter, and what it takes to attach one.
type clsactLab struct {
	t      *testing.T
	root   string
	ns     *Netns
	device *TUN
}

func newClsactLab(t *testing.T) *clsactLab {
	t.Helper()
	needRoot(t)
	l := &clsactLab{t: t, ns: newNetns(t)}
	l.root, _ = newRoot(t)
	l.device = newBusDevice(t, l.ns, labDevice)
	return l
}

func (l *clsactLab) tc(args ...string) string { l.t.Helper(); return tcCommand(l.t, l.ns, args...) }

func (l *clsactLab) attach(kind string) (*Bus, error) {
	l.t.Helper()
	set := openSet(l.t, Options{Root: l.root})
	fillTables(l.t, set.Streams(), set.Epochs(), set.Windows())
	buses, err := set.Attach(BusOptions{Interface: labDevice, Netns: l.ns, Slot: testIface, Hook: kind})
	if err != nil {
		return nil, err
	}
	return buses[0], nil
}

func (l *clsactLab) detach() {
	l.t.Helper()
	ok(l.t, l.ns.Do(func() error { return Detach(l.root) }))
}

// protects sends one protected and one foreign frame.
func (l *clsactLab) protects() bool {
	l.t.Helper()
	tap := newTap(l.t, l.ns, labDevice, EthPCAN)
	ok(l.t, l.device.WriteCAN(&CANFrame{ID: idSample, Len: 8}, CANMTU))
	ok(l.t, l.device.WriteCAN(&CANFrame{ID: 0x200, Len: 8}, CANMTU))
	got := drainTap(l.t, tap)
	if len(got) == 0 || binary.NativeEndian.Uint32(got[len(got)-1]) != 0x200 {
		l.t.Fatalf("the foreign frame did not come through: %x", got)
	}
	return len(got) == 1
}

// The qdisc goes with the filter if we made it and nobody else uses it, and stays otherwise; what others have there stays as it was.
func TestClsactAmongOthers(t *testing.T) {
	before := func(args ...string) func(*clsactLab) {
		return func(l *clsactLab) { l.tc(args...) }
	}
	tests := []struct {
		name          string
		before, after func(*clsactLab)
		stays         bool
	}{
		{"alone", nil, nil, false},
		{"an empty clsact before", before("qdisc", "add", "dev", labDevice, "clsact"), nil, true},
		{"an ingress qdisc before", before("qdisc", "add", "dev", labDevice, "ingress"), nil, true},
		{"filters before", func(l *clsactLab) {
			l.tc("qdisc", "add", "dev", labDevice, "clsact")
			l.tc("filter", "add", "dev", labDevice, "ingress", "prio", "5", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1")
			l.tc("filter", "add", "dev", labDevice, "egress", "prio", "1", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1")
		}, nil, true},
		{"an ingress filter later", nil, before("filter", "add", "dev", labDevice, "ingress", "prio", "7", "protocol", "0x000c", "u32", "match", "u32", "0", "0", "flowid", "1:1"), true},
		{"an egress filter later", nil, before("filter", "add", "dev", labDevice, "egress", "prio", "1", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1"), true},
		{"a filter of another chain later", nil, before("filter", "add", "dev", labDevice, "ingress", "chain", "3", "prio", "1", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newClsactLab(t)
			if tt.before != nil {
				tt.before(l)
			}
			foreign := func() []string {
				return slices.DeleteFunc(hook(t, l.ns, labDevice), func(s string) bool { return strings.Contains(s, "0xce11") })
			}
			had := foreign()
			b := must[*Bus](t)(l.attach(HookClsact))
			if !l.protects() {
				t.Error("a protected frame came through")
			}
			if b.Hook() != HookClsact {
				t.Errorf("hook %q", b.Hook())
			}
			if tt.after != nil {
				tt.after(l)
				had = foreign()
			}
			l.detach()
			if l.protects() {
				t.Error("still filtered after detach")
			}
			if got := hook(t, l.ns, labDevice); !slices.Equal(got, had) {
				t.Errorf("left at the hook %v, want %v", got, had)
			}
			if got := hasQdisc(t, l.ns, labDevice); got != tt.stays {
				t.Errorf("qdisc is there: %v, want %v", got, tt.stays)
			}
		})
	}
}

// Another's filter in our place is an error, and stays.
func TestClsactPlaceTaken(t *testing.T) {
	needRoot(t)
	other := newTestFilter(t, 4096, 4096)
	for name, take := range map[string]func(*clsactLab){
		"handle": func(l *clsactLab) {
			ok(t, inTC(l.ns, func(c tcConn) error {
				links := must[*Links](t)(DialLinks())
				defer links.Close()
				index := must[Link](t)(links.ByName(labDevice)).Index
				must[bool](t)(c.addQdisc(index))
				return c.setFilter(index, clsactPriority, clsactHandle, "cellward_bus_3", other.prog, netlink.Create|netlink.Excl)
			}))
		},
		"priority, by another kind": func(l *clsactLab) {
			l.tc("qdisc", "add", "dev", labDevice, "clsact")
			l.tc("filter", "add", "dev", labDevice, "ingress", "prio", "1", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1")
		},
		"priority, by another protocol": func(l *clsactLab) {
			l.tc("qdisc", "add", "dev", labDevice, "clsact")
			l.tc("filter", "add", "dev", labDevice, "ingress", "prio", "1", "protocol", "0x000d", "u32", "match", "u32", "0", "0", "flowid", "1:1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newClsactLab(t)
			l.t = t
			take(l)
			had := hook(t, l.ns, labDevice)
			if _, err := l.attach(HookClsact); !errors.Is(err, ErrHookTaken) {
				t.Errorf("attach: %v", err)
			}
			if got := hook(t, l.ns, labDevice); !slices.Equal(got, had) || len(had) == 0 {
				t.Errorf("at the hook %v, had %v", got, had)
			}
			if names := pinNames(t, l.root); slices.ContainsFunc(names, func(n string) bool { return filepath.Dir(n) != mapsFolder }) {
				t.Errorf("pins %v", names)
			}
		})
	}
}

// One bus has one hook: the other kind is refused until detach, and no choice takes what is there.
func TestHookKindStays(t *testing.T) { eachHook(t, tHookKindStays) }

func tHookKindStays(t *testing.T, kind string) {
	l := newClsactLab(t)
	must[*Bus](t)(l.attach(kind))
	had := hook(t, l.ns, labDevice)
	other := map[string]string{HookTCX: HookClsact, HookClsact: HookTCX}[kind]
	if _, err := l.attach(other); !errors.Is(err, ErrHookKind) {
		t.Errorf("attach by %s: %v", other, err)
	}
	if b := must[*Bus](t)(l.attach("")); b.Hook() != kind {
		t.Errorf("attached by %s", b.Hook())
	}
	if got := hook(t, l.ns, labDevice); !slices.Equal(got, had) || len(got) != 1 {
		t.Errorf("at the hook %v, had %v", got, had)
	}
	l.detach()
	// The kernel's answer decides.
	want := HookTCX
	if errors.Is(ProbeTCX(), ebpf.ErrNotSupported) {
		needOldKernel(t)
		want = HookClsact
	}
	if b := must[*Bus](t)(l.attach("")); b.Hook() != want {
		t.Errorf("without a choice attached by %s, want %s", b.Hook(), want)
	}
	if !l.protects() {
		t.Error("a protected frame came through")
	}
}

// A process that is killed before its pins have their names leaves a filter that the next one removes.
func TestClsactKilledInAttach(t *testing.T) {
	l := newClsactLab(t)
	set := must[*Set](t)(Open(Options{Root: l.root}))
	a := &attachment{opts: BusOptions{Interface: labDevice, Netns: l.ns, Slot: testIface, Hook: HookClsact}, pins: set.busPins(testIface)}
	a.bus = newBus(a.opts)
	ok(t, set.prepare(a))
	ok(t, a.attach(l.root))
	ok(t, errors.Join(a.bus.close(), set.Close()))
	if got := hook(t, l.ns, labDevice); len(got) != 1 {
		t.Fatalf("at the hook %v", got)
	}
	// In the namespace of the interface, where a gateway's processes are.
	ok(t, l.ns.Do(func() error { return errors.Join(must[*Set](t)(Open(Options{Root: l.root})).Close()) }))
	if got := hook(t, l.ns, labDevice); len(got) != 0 || hasQdisc(t, l.ns, labDevice) {
		t.Errorf("left at the hook %v, qdisc %v", got, hasQdisc(t, l.ns, labDevice))
	}
}

// Detach goes to where the filter is, if that can be found, and else says so and leaves it pinned.
func TestClsactElsewhere(t *testing.T) {
	l := newClsactLab(t)
	must[*Bus](t)(l.attach(HookClsact))
	// This process is in another namespace, and only an open file holds that of the device.
	if err := Detach(l.root); !errors.Is(err, ErrElsewhere) {
		t.Errorf("detach from another namespace: %v", err)
	}
	if !l.protects() {
		t.Error("a protected frame came through")
	}
	sleep := exec.Command("sleep", "60")
	ok(t, l.ns.Do(sleep.Start))
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	eventually(t, "a process lives there", func() bool {
		return must[uint64](t)(netnsInode("/proc/"+strconv.Itoa(sleep.Process.Pid)+"/ns/net")) ==
			must[uint64](t)(netnsInode("/proc/self/fd/"+strconv.Itoa(int(l.ns.File().Fd()))))
	})
	ok(t, Detach(l.root))
	if l.protects() || hasQdisc(t, l.ns, labDevice) {
		t.Error("still attached")
	}
}

// Without the ring's pin the filter's name tells whose it is: broken pins keep nobody from opening the bus.
func TestClsactDetachBrokenPins(t *testing.T) {
	l := newClsactLab(t)
	must[*Bus](t)(l.attach(HookClsact))
	ok(t, os.Remove(filepath.Join(l.root, "bus_3", "candidates")))
	l.detach()
	if l.protects() || hasQdisc(t, l.ns, labDevice) {
		t.Error("still attached")
	}
}

// tc(8) shows what the documents say that it shows.
func TestClsactShown(t *testing.T) {
	l := newClsactLab(t)
	must[*Bus](t)(l.attach(HookClsact))
	out := l.tc("filter", "show", "dev", labDevice, "ingress")
	for _, want := range []string{"protocol all pref 1 bpf", "handle 0xce11 cellward_bus_3 direct-action"} {
		if !strings.Contains(out, want) {
			t.Errorf("tc shows no %q:\n%s", want, out)
		}
	}
}

func FuzzParseTCFilter(f *testing.F) {
	f.Add([]byte{})
	f.Add(filterMessage(3, 1, clsactHandle).encode())
	a := netlink.NewAttributeEncoder()
	a.String(tcaKind, tcKindBPF)
	a.Nested(tcaOptions, func(a *netlink.AttributeEncoder) error {
		a.String(tcaBPFName, "cellward_bus_3")
		a.Uint32(tcaBPFID, 77)
		return nil
	})
	attrs, err := a.Encode()
	if err != nil {
		f.Fatal(err)
	}
	whole := append(filterMessage(3, 1, clsactHandle).encode(), attrs...)
	got, err := parseTCFilter(whole)
	if want := (tcFilter{clsactHandle, 1, tcKindBPF, "cellward_bus_3", 77}); err != nil || got != want {
		f.Fatalf("%+v, %v", got, err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseTCFilter(b)
		if err == nil && got.kind != tcKindBPF && (got.program != 0 || got.name != "") {
			t.Errorf("a %q filter has a program: %+v", got.kind, got)
		}
	})
}
