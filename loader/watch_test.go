// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// inLinks runs f with rtnetlink in ns.
func inLinks(t testing.TB, ns *Netns, f func(l *Links)) {
	t.Helper()
	ok(t, ns.Do(func() error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		f(links)
		return nil
	}))
}

// until takes events until one fits.
func until(t *testing.T, w *LinkWatcher, what string, fits func(e LinkEvent) bool) LinkEvent {
	t.Helper()
	for range 1000 {
		for _, e := range must[[]LinkEvent](t)(w.Next()) {
			if fits(e) {
				return e
			}
		}
	}
	t.Fatalf("no event: %s", what)
	return LinkEvent{}
}

func TestWatchLinks(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	w := must[*LinkWatcher](t)(WatchLinks(ns))
	defer w.Close()
	first := must[[]LinkEvent](t)(w.Next())
	if len(first) != 1 || first[0].Link.Name != "lo" || first[0].Change != LinkPresent {
		t.Errorf("first %+v", first)
	}
	is := func(change LinkChange, name string, more func(Link) bool) func(LinkEvent) bool {
		return func(e LinkEvent) bool {
			return e.Change == change && e.Link.Name == name && (more == nil || more(e.Link))
		}
	}
	device := newBusDevice(t, ns, labDevice)
	seen := until(t, w, "new", is(LinkPresent, labDevice, func(l Link) bool { return l.Type == ARPHRDCAN && l.MTU == CANFDMTU && l.Up() })).Link
	inLinks(t, ns, func(l *Links) { ok(t, l.SetDown(seen.Index)) })
	until(t, w, "down", is(LinkPresent, labDevice, func(l Link) bool { return !l.Up() }))
	inLinks(t, ns, func(l *Links) { ok(t, l.SetMTU(seen.Index, 2000)) })
	until(t, w, "MTU", is(LinkPresent, labDevice, func(l Link) bool { return l.MTU == 2000 }))
	inLinks(t, ns, func(l *Links) { ok(t, l.SetUp(seen.Index)) })
	until(t, w, "up", is(LinkPresent, labDevice, Link.Up))
	tcCommand(t, ns, "qdisc", "add", "dev", labDevice, "clsact")
	tcCommand(t, ns, "qdisc", "del", "dev", labDevice, "clsact")
	until(t, w, "qdisc removed", func(e LinkEvent) bool { return e.Change == LinkFilterRemoved && e.Link.Index == seen.Index })
	ok(t, device.Close())
	if gone := until(t, w, "removed", is(LinkRemoved, labDevice, nil)); gone.Link.Index != seen.Index {
		t.Errorf("removed %+v", gone)
	}
	newBusDevice(t, ns, labDevice)
	if again := until(t, w, "made anew", is(LinkPresent, labDevice, nil)); again.Link.Index == seen.Index {
		t.Errorf("made anew with the same index %+v", again)
	}

	ended := make(chan error)
	go func() {
		for {
			if _, err := w.Next(); err != nil {
				ended <- err
				return
			}
		}
	}()
	ok(t, w.Close())
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
}

// What the kernel could not queue is made up for: the last event of each interface is the truth.
func TestWatchLinksOverflow(t *testing.T) {
	needRoot(t)
	ns := newNetns(t)
	w := must[*LinkWatcher](t)(WatchLinks(ns))
	defer w.Close()
	ok(t, w.c.SetReadBuffer(1)) // the kernel makes it its minimum
	must[[]LinkEvent](t)(w.Next())
	gone := newBusDevice(t, ns, "gone")
	until(t, w, "new", func(e LinkEvent) bool { return e.Link.Name == "gone" && e.Link.Up() })
	stays := newBusDevice(t, ns, "stays")
	var index int
	inLinks(t, ns, func(l *Links) {
		index = must[Link](t)(l.ByName("stays")).Index
		for range 200 {
			ok(t, errors.Join(l.SetDown(index), l.SetUp(index)))
		}
		ok(t, errors.Join(l.SetDown(index), gone.Close()))
		for i := range 20 {
			newBusDevice(t, ns, fmt.Sprint("new", i))
		}
	})
	first := w.c
	lost := until(t, w, "removed", func(e LinkEvent) bool { return e.Change == LinkRemoved && e.Link.Name == "gone" })
	if w.c == first {
		t.Fatal("nothing has overflowed: the test shows nothing")
	}
	if lost.Link.Index == index || w.known[index].Up() || len(w.known) != 22 {
		t.Errorf("lost %+v, known %+v", lost, w.known)
	}
	if stays.Name() != w.known[index].Name {
		t.Errorf("known %+v", w.known[index])
	}
}

func TestParseLinkEvent(t *testing.T) {
	attrs := func(f func(a *netlink.AttributeEncoder)) []byte {
		a := netlink.NewAttributeEncoder()
		f(a)
		return append(ifInfo{typ: ARPHRDCAN, index: 7}.encode(), must[[]byte](t)(a.Encode())...)
	}
	controller := func(kind string, state uint32) []byte {
		return attrs(func(a *netlink.AttributeEncoder) {
			a.String(unix.IFLA_IFNAME, "can0")
			a.Nested(unix.IFLA_LINKINFO, func(a *netlink.AttributeEncoder) error {
				a.String(unix.IFLA_INFO_KIND, kind)
				a.Nested(unix.IFLA_INFO_DATA, func(a *netlink.AttributeEncoder) error {
					a.Uint32(1, 99)
					a.Uint32(iflaCANState, state)
					return nil
				})
				return nil
			})
		})
	}
	bridge := controller("can", 0)
	bridge[0] = unix.AF_BRIDGE
	link := func(kind string, s CANState) Link {
		return Link{Index: 7, Name: "can0", Type: ARPHRDCAN, Kind: kind, CANState: s}
	}
	for _, tt := range []struct {
		name string
		typ  netlink.HeaderType
		data []byte
		want LinkEvent
		ok   bool
		bad  bool
	}{
		{"error active", unix.RTM_NEWLINK, controller("can", 0), LinkEvent{LinkPresent, link("can", CANErrorActive)}, true, false},
		{"error passive", unix.RTM_NEWLINK, controller("can", 2), LinkEvent{LinkPresent, link("can", CANErrorPassive)}, true, false},
		{"bus-off", unix.RTM_NEWLINK, controller("can", 3), LinkEvent{LinkPresent, link("can", CANBusOff)}, true, false},
		{"a state that is not known yet", unix.RTM_NEWLINK, controller("can", 6), LinkEvent{LinkPresent, link("can", CANStateUnknown)}, true, false},
		{"another kind with the same number", unix.RTM_NEWLINK, controller("tun", 3), LinkEvent{LinkPresent, link("tun", CANStateUnknown)}, true, false},
		{"removed", unix.RTM_DELLINK, controller("can", 4), LinkEvent{LinkRemoved, link("can", CANStopped)}, true, false},
		{"left a bridge", unix.RTM_DELLINK, bridge, LinkEvent{}, false, false},
		{"filter removed", unix.RTM_DELTFILTER, tcMessage{index: 9}.encode(), LinkEvent{LinkFilterRemoved, Link{Index: 9}}, true, false},
		{"qdisc removed", unix.RTM_DELQDISC, tcMessage{index: 9}.encode(), LinkEvent{LinkFilterRemoved, Link{Index: 9}}, true, false},
		{"filter added", unix.RTM_NEWTFILTER, tcMessage{index: 9}.encode(), LinkEvent{}, false, false},
		{"short interface", unix.RTM_NEWLINK, bridge[:3:3], LinkEvent{}, false, false},
		{"no interface", unix.RTM_NEWLINK, nil, LinkEvent{}, false, true},
		{"short filter", unix.RTM_DELTFILTER, make([]byte, 19), LinkEvent{}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok, err := parseLinkEvent(netlink.Message{Header: netlink.Header{Type: tt.typ}, Data: tt.data})
			if ok != tt.ok || (err != nil) != tt.bad || ok && got != tt.want {
				t.Errorf("%+v, %v, %v; want %+v, %v", got, ok, err, tt.want, tt.ok)
			}
		})
	}
}

func FuzzParseLinkEvent(f *testing.F) {
	for _, typ := range []uint16{unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_DELQDISC} {
		f.Add(typ, ifInfo{index: 3}.encode())
	}
	f.Fuzz(func(t *testing.T, typ uint16, data []byte) {
		e, ok, err := parseLinkEvent(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ)}, Data: data})
		if ok && err != nil || ok && e.Link.CANState > CANSleeping {
			t.Errorf("%+v, %v, %v", e, ok, err)
		}
	})
}
