// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/loader"
)

// events collects the lines of a log.
type events struct {
	mu  sync.Mutex
	all []map[string]any
}

func (e *events) Write(b []byte) (int, error) {
	var line map[string]any
	if err := json.Unmarshal(b, &line); err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, line)
	return len(b), nil
}

// count returns how often an event was told of an interface.
func (e *events) count(event, name string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.all {
		if l["event"] == event && l["interface"] == name {
			n += int(l["count"].(float64))
		}
	}
	return n
}

// keeperRig is a keeper over two buses, of which the second has no interface yet.
type keeperRig struct {
	t      *testing.T
	ns     *loader.Netns
	root   string
	set    *loader.Set
	device *loader.TUN
	log    *events
	k      *linkKeeper
}

func newKeeperRig(t *testing.T, hook string) *keeperRig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: attaches the filter in a network namespace of its own")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &keeperRig{t: t, log: &events{}}
	var err error
	r.ns, err = loader.NewNetns()
	must(err)
	t.Cleanup(func() { r.ns.Close() })
	fs, err := loader.NewBPFFS()
	must(err)
	t.Cleanup(func() { fs.Close() })
	r.root = fmt.Sprintf("/proc/self/fd/%d/cellward", fs.Fd())
	r.plug("can0")
	r.set, err = loader.Open(loader.Options{Root: r.root})
	must(err)
	t.Cleanup(func() { r.set.Close() })
	for _, slot := range []uint32{1, 2} {
		must(r.set.Streams().Set(loader.StreamKey{Iface: slot, CANID: 0x123}, loader.Stream{Slot: slot, StreamID: slot, Node: 1, Carrier: loader.CarrierCANFD, WindowSize: 64}))
	}
	buses, err := r.set.Attach(loader.BusOptions{Interface: "can0", Netns: r.ns, Slot: 1, Hook: hook, MayBeAbsent: true},
		loader.BusOptions{Interface: "can1", Netns: r.ns, Slot: 2, Hook: hook, MayBeAbsent: true})
	must(err)
	r.k, err = keepLinks(slog.New(slog.NewJSONHandler(r.log, nil)), r.set, r.ns, buses)
	must(err)
	t.Cleanup(func() { must(r.k.close()) })
	return r
}

// plug makes a device, and unplugs the one before.
func (r *keeperRig) plug(name string) {
	r.t.Helper()
	d, err := loader.NewTUN(r.ns, name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { d.Close() })
	r.device = d
}

// links changes interface name.
func (r *keeperRig) links(name string, f func(l *loader.Links, index int) error) {
	r.t.Helper()
	err := r.ns.Do(func() error {
		l, err := loader.DialLinks()
		if err != nil {
			return err
		}
		link, err := l.ByName(name)
		if err == nil {
			err = f(l, link.Index)
		}
		return errors.Join(err, l.Close())
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a state of the interface of a slot.
func (r *keeperRig) until(slot uint32, what string, is func(s LinkStatus) bool) LinkStatus {
	r.t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		s := r.k.status(slot)
		if is(s) {
			return s
		}
		if time.Since(begin) > 20*time.Second {
			r.t.Fatalf("still not %s: %+v", what, s)
		}
	}
}

func (r *keeperRig) told(event, name string, n int) {
	r.t.Helper()
	for begin := time.Now(); r.log.count(event, name) < n; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			r.t.Fatalf("%s of %s was told %d times, want %d: %v", event, name, r.log.count(event, name), n, r.log.all)
		}
	}
}

// closed sends a protected frame and wants it dropped.
func (r *keeperRig) closed(slot uint32) {
	r.t.Helper()
	b := r.k.buses[slot-1].bus
	before := b.FilterCounts()
	if err := r.device.WriteCAN(&loader.CANFrame{ID: 0x123, Len: 8}, loader.CANMTU); err != nil {
		r.t.Fatal(err)
	}
	if after := b.FilterCounts(); after[loader.PlaintextOnProtected] != before[loader.PlaintextOnProtected]+1 {
		r.t.Fatalf("slot %d: a protected frame was not dropped", slot)
	}
}

func TestLinkKeeper(t *testing.T) {
	for _, hook := range []string{loader.HookTCX, loader.HookClsact} {
		t.Run(hook, func(t *testing.T) { testLinkKeeper(t, hook) })
	}
}

func testLinkKeeper(t *testing.T, hook string) {
	if err := loader.ProbeTCX(); hook == loader.HookTCX && errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("the kernel itself says: %v", err)
	}
	r := newKeeperRig(t, hook)
	s := r.k.status(1)
	if s.State != LinkUp || !s.Attached || s.Hook != hook || s.Ifindex == 0 || s.MTU != loader.CANFDMTU || s.Controller != "" || s.Reattached != 0 {
		t.Errorf("at first %+v", s)
	}
	if s := r.k.status(2); s.State != LinkAbsent || s.Attached || r.log.count("link_missing", "can1") != 1 || r.log.count("link_missing", "can0") != 0 {
		t.Errorf("absent %+v, %v", s, r.log.all)
	}
	r.closed(1)

	r.links("can0", func(l *loader.Links, i int) error { return l.SetDown(i) })
	r.until(1, "down", func(s LinkStatus) bool { return s.State == LinkDown && s.Attached })
	r.told("link_down", "can0", 1)
	r.links("can0", func(l *loader.Links, i int) error { return errors.Join(l.SetMTU(i, 70), l.SetUp(i)) })
	r.until(1, "up", func(s LinkStatus) bool { return s.State == LinkUp && s.MTU == 70 })
	r.told("link_up", "can0", 1)
	r.told("link_mtu", "can0", 1)

	report := func(class uint32, data byte) {
		t.Helper()
		if err := r.device.WriteCAN(&loader.CANFrame{ID: loader.CANERRFlag | class, Len: 8, Data: [64]byte{1: data}}, loader.CANMTU); err != nil {
			t.Fatal(err)
		}
	}
	report(unix.CAN_ERR_CRTL, unix.CAN_ERR_CRTL_RX_PASSIVE)
	r.until(1, "error passive", func(s LinkStatus) bool { return s.Controller == "error_passive" && !s.ControllerSince.IsZero() })
	r.told("bus_error_passive", "can0", 1)
	for range 50 { // told twice at most: at once, and as a count
		report(unix.CAN_ERR_BUSOFF, 0)
		report(unix.CAN_ERR_RESTARTED, 0)
	}
	report(unix.CAN_ERR_BUSOFF, 0)
	r.until(1, "bus-off", func(s LinkStatus) bool { return s.Controller == "bus_off" })
	r.told("bus_off", "can0", 51)
	if c := r.k.status(1).Changes; c != (LinkChanges{Down: 1, Up: 2, BusOff: 51, Passive: 1, Recovered: 50}) {
		t.Errorf("changes: %+v", c)
	}
	if n := len(r.log.all); n > 12 {
		t.Errorf("%d lines: %v", n, r.log.all)
	}

	// The device goes; another comes under its name, five times.
	for i := range 5 {
		was := r.k.status(1).Ifindex
		if err := r.device.Close(); err != nil {
			t.Fatal(err)
		}
		r.until(1, "absent", func(s LinkStatus) bool { return s.State == LinkAbsent && !s.Attached && s.Controller == "" })
		r.plug("can0")
		s := r.until(1, "attached again", func(s LinkStatus) bool { return s.Attached && s.State == LinkUp && s.Ifindex != was })
		if s.Reattached != uint64(i+1) || s.LastReattachUS == 0 {
			t.Errorf("%+v", s)
		}
		r.closed(1)
		t.Logf("attached again %d us after the kernel's event", s.LastReattachUS)
	}
	r.told("link_removed", "can0", 5)
	r.told("link_reattached", "can0", 5)

	// A rename takes the name away and leaves the filter; the next interface of the name gets it.
	r.links("can0", func(l *loader.Links, i int) error { return l.SetDown(i) })
	if err := r.ns.Do(func() error { return exec.Command("ip", "link", "set", "can0", "name", "old0").Run() }); err != nil {
		t.Fatal(err)
	}
	r.until(1, "renamed", func(s LinkStatus) bool { return s.State == LinkAbsent })
	r.links("old0", func(l *loader.Links, i int) error { return l.SetUp(i) })
	r.closed(1)
	old := r.device
	r.plug("can0")
	r.until(1, "attached again", func(s LinkStatus) bool { return s.Attached && s.State == LinkUp })
	r.closed(1)
	_ = old

	// The absent one appears.
	first := r.device
	r.plug("can1")
	r.until(2, "attached", func(s LinkStatus) bool { return s.Attached && s.State == LinkUp && s.Hook == hook })
	r.closed(2)
	r.told("link_reattached", "can1", 1)
	r.device = first

	// Another's hand at the hook.
	if hook == loader.HookClsact {
		if err := r.ns.Do(func() error { return exec.Command("tc", "qdisc", "del", "dev", "can0", "clsact").Run() }); err != nil {
			t.Fatal(err)
		}
		r.told("link_reattached", "can0", 7)
		r.closed(1)
	}
	// Detach is obeyed, whatever happens to the interface then.
	if err := r.ns.Do(func() error { return loader.Detach(r.root) }); err != nil {
		t.Fatal(err)
	}
	if err := r.device.Close(); err != nil {
		t.Fatal(err)
	}
	r.until(1, "absent", func(s LinkStatus) bool { return s.State == LinkAbsent })
	r.plug("can0")
	r.until(1, "up and open", func(s LinkStatus) bool { return s.State == LinkUp && !s.Attached })
	r.told("link_detached", "can0", 1)
	if _, err := loader.Inspect(r.root); !errors.Is(err, loader.ErrNoPins) {
		t.Errorf("pins after detach: %v", err)
	}
}

func TestLinkStatusText(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		s    LinkStatus
		want string
	}{
		{LinkStatus{}, "unknown"},
		{LinkStatus{State: LinkUp, Since: now.Add(-90 * time.Second), Attached: true, Hook: loader.HookTCX}, "up for 1m30s, tcx_ingress"},
		{LinkStatus{State: LinkAbsent, Since: now, Reattached: 2, LastReattachUS: 1500}, "ABSENT for 0s, re-attached 2 times, the last in 1.5ms"},
		{LinkStatus{State: LinkDown, Since: now, Error: "taken", Controller: "bus_off", ControllerSince: now.Add(-time.Second)}, "DOWN for 0s, NOT ATTACHED, taken, controller bus_off for 1s"},
	} {
		if got := c.s.describe(now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	s := Status{Interfaces: []InterfaceStatus{{Name: "can0", Link: LinkStatus{State: LinkUp, Since: now, Attached: true, Hook: loader.HookClsact}}}}
	var b bytes.Buffer
	if err := s.WriteText(&b); err != nil || !slices.ContainsFunc(strings.Split(b.String(), "\n"), func(l string) bool {
		return strings.HasPrefix(l, "  link ") && strings.HasSuffix(l, "up for 0s, clsact_ingress")
	}) {
		t.Errorf("%v\n%s", err, &b)
	}
}
