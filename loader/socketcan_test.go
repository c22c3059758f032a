// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"testing"
	"time"
)

// newVXCAN makes a pair of real CAN interfaces, "gw" and "node", each in a namespace of its own.
func newVXCAN(t *testing.T) (gateway, node *Netns) {
	t.Helper()
	needRoot(t)
	gateway, node = newNetns(t), newNetns(t)
	up := func(name string) error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		l, err := links.ByName(name)
		if err != nil {
			return err
		}
		return errors.Join(links.SetMTU(l.Index, CANFDMTU), links.SetUp(l.Index))
	}
	err := gateway.Do(func() error {
		links := must[*Links](t)(DialLinks())
		defer links.Close()
		return links.AddVXCAN("gw", "node", node)
	})
	if errors.Is(err, ErrLinkKind) {
		t.Skip("this kernel has no vxcan")
	}
	ok(t, err)
	ok(t, gateway.Do(func() error { return up("gw") }))
	ok(t, node.Do(func() error { return up("node") }))
	return gateway, node
}

// On the kernel's own CAN stack: protected frames from the bus become records and reach no socket, foreign ones
// reach sockets untouched, and what we send ourselves on a protected identifier is not taken for the bus.
func TestSocketCAN(t *testing.T) {
	gateway, node := newVXCAN(t)
	root, _ := newRoot(t)
	set := openSet(t, Options{Root: root})
	fillTables(t, set.Streams(), set.Epochs(), set.Windows())
	bus := must[[]*Bus](t)(set.Attach(BusOptions{Interface: "gw", Netns: gateway, Slot: testIface}))[0]
	open := func(ns *Netns, name string) *CANConn {
		c := must[*CANConn](t)(OpenCAN(ns, name))
		t.Cleanup(func() { ok(t, c.Close()) })
		if c.fd != c.classic {
			t.Errorf("%s is not a CAN_RAW socket", name)
		}
		return c
	}
	far, sender, listener := open(node, "node"), open(gateway, "gw"), open(gateway, "gw")
	verdict := func(v Verdict, n uint64) {
		t.Helper()
		eventually(t, v.String(), func() bool { c := bus.FilterCounts(); return c[v] == n })
	}
	receive := func(c *CANConn, wantID uint32, wantSize int) {
		t.Helper()
		var f CANFrame
		if size := must[int](t)(c.Receive(&f, soon())); size != wantSize || f.ID != wantID {
			t.Errorf("received %d bytes of %#x, want %d of %#x", size, f.ID, wantSize, wantID)
		}
	}

	sample := fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001})
	ok(t, far.SendFD(sample))
	verdict(Candidate, 1)
	ok(t, far.SendClassic(&CANFrame{ID: idSample, Len: 8}))
	ok(t, far.SendClassic(&CANFrame{ID: idSample | CANRTRFlag}))
	verdict(PlaintextOnProtected, 2)
	ok(t, far.SendFD(&CANFrame{ID: 0x200, Len: 20}))
	ok(t, far.SendClassic(&CANFrame{ID: 0x201, Len: 8}))
	verdict(Passed, 2)
	for _, c := range []*CANConn{sender, listener} {
		receive(c, 0x200, CANFDMTU)
		receive(c, 0x201, CANMTU)
	}
	if records := take(t, bus.Candidates()); len(records) != 1 || string(records[0].SPDU()) != string(sample.Data[:48]) {
		t.Errorf("records %x", records)
	}

	// Our own frame goes out to the bus, comes back to our own ingress, and ends there.
	ok(t, sender.SendFD(sample))
	receive(far, idSample, CANFDMTU)
	verdict(OwnEcho, 1)
	ok(t, sender.SendFD(&CANFrame{ID: 0x202, Len: 20}))
	receive(far, 0x202, CANFDMTU)
	receive(listener, 0x202, CANFDMTU)

	var f CANFrame
	for _, c := range []*CANConn{sender, listener} {
		if _, err := c.Receive(&f, time.Now().Add(10*time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("received %#x, %v", f.ID, err)
		}
	}
	if n := len(take(t, bus.Candidates())); n != 0 {
		t.Errorf("%d records of our own frames", n)
	}
}
