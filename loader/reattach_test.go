// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// An interface that is made anew gets its filter again; what came in through the earlier one is read first. How long the bus was
// open is printed: from the moment at which the new device exists until its hook is set.
func TestReattach(t *testing.T) { eachHook(t, tReattach) }

func tReattach(t *testing.T, kind string) {
	const times = 20
	l := newLab(t, kind)
	w := must[*LinkWatcher](t)(WatchLinks(l.ns))
	defer w.Close()
	must[[]LinkEvent](t)(w.Next())
	if changed := must[bool](t)(l.set.Reattach(l.bus)); changed {
		t.Error("attached again what is attached")
	}
	counter := uint64(10001)
	send := func(n int) {
		t.Helper()
		for range n {
			l.write(t, EthPCANFD, fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: counter}).view(CANFDMTU))
			counter++
		}
	}
	var noticed, set []time.Duration
	for range times {
		send(3)
		was := l.bus.Index()
		ok(t, l.device.Close())
		until(t, w, "removed", func(e LinkEvent) bool { return e.Change == LinkRemoved && e.Link.Index == was })
		if _, err := l.set.Reattach(l.bus); !errors.Is(err, ErrNoLink) || l.bus.Index() != was {
			t.Fatalf("without an interface: %v", err)
		}
		begin := make(chan time.Time, 1)
		go func() {
			begin <- time.Now()
			l.device = newBusDevice(t, l.ns, labDevice)
			begin <- time.Now()
		}()
		until(t, w, "made anew", func(e LinkEvent) bool { return e.Link.Name == labDevice && e.Link.Type == ARPHRDCAN })
		event := time.Now()
		if changed := must[bool](t)(l.set.Reattach(l.bus)); !changed {
			t.Fatal("nothing to attach to a new interface")
		}
		now := time.Now()
		noticed, set = append(noticed, event.Sub(<-begin)), append(set, now.Sub(event))
		<-begin
		if l.bus.Index() == was || l.bus.Hook() != kind {
			t.Fatalf("index %d, was %d, hook %s", l.bus.Index(), was, l.bus.Hook())
		}
		tap := newTap(t, l.ns, labDevice, EthPCANFD)
		send(2)
		if got := drainTap(t, tap); len(got) != 0 {
			t.Fatalf("%d protected frames came through", len(got))
		}
	}
	slices.Sort(noticed)
	slices.Sort(set)
	t.Logf("made anew %d times: from before the device exists to its event, median %v, longest %v; from the event to the hook, median %v, longest %v",
		times, noticed[times/2], noticed[times-1], set[times/2], set[times-1])
	records := take(t, l.bus.Candidates())
	if len(records) != 5*times {
		t.Fatalf("%d records, want %d", len(records), 5*times)
	}
	for i, r := range records {
		if c := binary.LittleEndian.Uint64(r.SPDU()) >> 16; c != uint64(10001+i) {
			t.Fatalf("record %d has counter %d: what came in first is not read first", i, c)
		}
	}
	if names := pinNames(t, l.root); slices.ContainsFunc(names, func(n string) bool { return n[:4] == tmpPrefix }) {
		t.Errorf("pins %v", names)
	}
	// Another process finds it where it is now.
	had := hook(t, l.ns, labDevice)
	ok(t, l.set.Close())
	l.start(t, false)
	if got := hook(t, l.ns, labDevice); !slices.Equal(got, had) || len(got) != 1 {
		t.Errorf("at the hook %v, had %v", got, had)
	}
	ok(t, l.ns.Do(func() error { return Detach(l.root) }))
	if got := hook(t, l.ns, labDevice); len(got) != 0 || hasQdisc(t, l.ns, labDevice) {
		t.Errorf("left at the hook %v", got)
	}
}

// An interface that is missing keeps no other from being attached, and is attached when it comes.
func TestAttachAbsent(t *testing.T) { eachHook(t, tAttachAbsent) }

func tAttachAbsent(t *testing.T, kind string) {
	needRoot(t)
	ns := newNetns(t)
	root, _ := newRoot(t)
	newBusDevice(t, ns, "can_a")
	options := []BusOptions{
		{Interface: "can_a", Netns: ns, Slot: 1, Hook: kind, MayBeAbsent: true},
		{Interface: "can_b", Netns: ns, Slot: 2, Hook: kind, MayBeAbsent: true},
		{Interface: "lo", Netns: ns, Slot: 3, Hook: kind, MayBeAbsent: true}, // no CAN interface yet
	}
	for range 2 { // the second takes over from the first
		set := must[*Set](t)(Open(Options{Root: root}))
		buses := must[[]*Bus](t)(set.Attach(options...))
		if len(hook(t, ns, "can_a")) != 1 || buses[0].Hook() != kind || buses[1].Index() != 0 || buses[1].Hook() != "" || buses[2].Index() != 0 {
			t.Errorf("attached %v, %+v, %+v", hook(t, ns, "can_a"), buses[0].at.Load(), buses[1].at.Load())
		}
		if _, err := set.Reattach(buses[1]); !errors.Is(err, ErrNoLink) {
			t.Errorf("absent: %v", err)
		}
		if _, err := set.Reattach(buses[2]); !errors.Is(err, ErrNotCAN) {
			t.Errorf("no CAN: %v", err)
		}
		ok(t, set.Close())
	}
	set := openSet(t, Options{Root: root})
	buses := must[[]*Bus](t)(set.Attach(options...))
	device := newBusDevice(t, ns, "can_b")
	ok(t, set.Streams().Set(StreamKey{Iface: 2, CANID: idSample}, Stream{Slot: 2, StreamID: 2, Node: 1, Carrier: CarrierCANFD, WindowSize: 64}))
	if changed := must[bool](t)(set.Reattach(buses[1])); !changed || buses[1].Hook() != kind {
		t.Errorf("attached %v by %q", changed, buses[1].Hook())
	}
	tap := newTap(t, ns, "can_b", EthPCAN)
	ok(t, device.WriteCAN(&CANFrame{ID: idSample, Len: 8}, CANMTU))
	if got := drainTap(t, tap); len(got) != 0 || len(hook(t, ns, "can_b")) != 1 {
		t.Errorf("%d frames came through, at the hook %v", len(got), hook(t, ns, "can_b"))
	}
	var i *Inspection
	ok(t, ns.Do(func() (err error) { i, err = Inspect(root); return err }))
	if len(i.Buses) != 3 || i.Buses[1].Ifindex != buses[1].Index() || i.Buses[1].Hook != kind || i.Buses[2].Hook != "" || !errors.Is(i.Buses[2].LinkErr, os.ErrNotExist) {
		t.Errorf("inspection %+v", i.Buses)
	}
	// Who does not say that one may be absent wants all.
	again := openSet(t, Options{Root: root})
	options[2].MayBeAbsent = false
	if _, err := again.Attach(options...); !errors.Is(err, ErrNotCAN) {
		t.Errorf("all are wanted: %v", err)
	}
	ok(t, ns.Do(func() error { return Detach(root) }))
	if a, b := hook(t, ns, "can_a"), hook(t, ns, "can_b"); len(a)+len(b) != 0 {
		t.Errorf("left %v %v", a, b)
	}
}

// A bus that somebody has opened on purpose is not closed again behind his back.
func TestReattachDetached(t *testing.T) { eachHook(t, tReattachDetached) }

func tReattachDetached(t *testing.T, kind string) {
	l := newLab(t, kind)
	ok(t, l.ns.Do(func() error { return Detach(l.root) }))
	if _, err := l.set.Reattach(l.bus); !errors.Is(err, ErrDetached) {
		t.Errorf("after detach: %v", err)
	}
	if got := hook(t, l.ns, labDevice); len(got) != 0 {
		t.Errorf("at the hook %v", got)
	}
	// Nor is a hook set for maps that are not the pinned ones.
	other := must[*Set](t)(Open(Options{Root: l.root}))
	defer other.Close()
	must[[]*Bus](t)(other.Attach(l.options()))
	had := hook(t, l.ns, labDevice)
	if _, err := l.set.Reattach(l.bus); !errors.Is(err, ErrDetached) {
		t.Errorf("beside another set: %v", err)
	}
	if got := hook(t, l.ns, labDevice); !slices.Equal(got, had) {
		t.Errorf("at the hook %v, had %v", got, had)
	}
}

// A failed attempt leaves the bus as it was, and the next one succeeds.
func TestReattachFails(t *testing.T) { eachHook(t, tReattachFails) }

func tReattachFails(t *testing.T, kind string) {
	l := newLab(t, kind)
	ok(t, l.device.Close())
	eventually(t, "removed", func() bool {
		_, err := l.set.Reattach(l.bus)
		return errors.Is(err, ErrNoLink)
	})
	l.device = newBusDevice(t, l.ns, labDevice)
	var undo func()
	if kind == HookClsact { // somebody is there first
		tcCommand(t, l.ns, "qdisc", "add", "dev", labDevice, "clsact")
		tcCommand(t, l.ns, "filter", "add", "dev", labDevice, "ingress", "prio", "1", "protocol", "all", "u32", "match", "u32", "0", "0", "flowid", "1:1")
		undo = func() { tcCommand(t, l.ns, "qdisc", "del", "dev", labDevice, "clsact") }
	} else { // the pin cannot get its name
		pin := filepath.Join(l.root, "bus_3", linkPin)
		ok(t, errors.Join(os.Remove(pin), os.Mkdir(pin, 0o700), os.Mkdir(filepath.Join(pin, "x"), 0o700)))
		undo = func() { ok(t, os.RemoveAll(pin)) }
	}
	had := hook(t, l.ns, labDevice)
	if _, err := l.set.Reattach(l.bus); err == nil {
		t.Fatal("attached all the same")
	}
	if got := hook(t, l.ns, labDevice); !slices.Equal(got, had) {
		t.Errorf("at the hook %v, had %v", got, had)
	}
	undo()
	if changed := must[bool](t)(l.set.Reattach(l.bus)); !changed || len(hook(t, l.ns, labDevice)) != 1 {
		t.Errorf("then: changed %v, at the hook %v", changed, hook(t, l.ns, labDevice))
	}
}
