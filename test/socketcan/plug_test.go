// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/privilege"
	"github.com/cellward/cellward/loader"
)

// deleteClsact does what `tc qdisc del dev INTERFACE clsact` does.
func deleteClsact(index int) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	head := make([]byte, 20) // struct tcmsg of linux/rtnetlink.h
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	binary.NativeEndian.PutUint32(head[8:], 0xFFFF0000)
	binary.NativeEndian.PutUint32(head[12:], 0xFFFFFFF1) // TC_H_CLSACT
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_DELQDISC, Flags: netlink.Request | netlink.Acknowledge}, Data: head,
	})
	return errors.Join(err, c.Close())
}

// TestInterfacesUnderAgent takes interfaces away and makes them anew under an agent that has given up its rights and is confined: a
// vxcan that carries sealed traffic, and a vcan. The filter comes back, by the hook that this kernel has, no protected frame reaches
// a CAN_RAW socket behind it, and samples flow again. Interfaces are set down and up and get another MTU as well, and a clsact
// qdisc is deleted by hand.
func TestInterfacesUnderAgent(t *testing.T) {
	const rounds = 3
	var b bytes.Buffer
	for i := range 50 {
		fmt.Fprintf(&b, "(1.%06d) can0 100#%04X\n", i*1000, i)
	}
	fmt.Fprint(&b, "(2.000000) can1 110#00\n")
	path := filepath.Join(t.TempDir(), "two.log")
	ok(t, os.WriteFile(path, b.Bytes(), 0o644))
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, path)
	// can0 is absent when the agent starts. can1 becomes a vcan on either side, as in TestLoad.
	ok(t, l.Buses[0].Unplug())
	change(t, nil, "can1", func(k *loader.Links, i int) error { return k.Delete(i) })
	addVCAN(t, nil, "can1")
	addVCAN(t, l.EdgeNetns(), "can1")
	gateway := l.agent(t)
	status := must[agent.Status](t)(l.Status(t.Context()))
	for _, x := range must[[]privilege.Thread](t)(privilege.Threads(status.PID)) {
		if x.UID[0] != demo.AgentUID || x.Effective.Has(unix.CAP_SYS_ADMIN) || x.Seccomp != 2 {
			t.Fatalf("the agent is not confined: %+v", x)
		}
	}
	was := make(map[string]int)
	back := func(name string) agent.LinkStatus {
		t.Helper()
		s := l.linkUntil(t, name, "is attached again", func(s agent.LinkStatus) bool {
			return s.State == agent.LinkUp && s.Attached && s.Ifindex != was[name] && s.Error == ""
		})
		was[name] = s.Ifindex
		return s
	}
	closed := func(name string, sender *raw) {
		t.Helper()
		s := openRaw(t, nil, name, rawOptions{})
		for id := range l.ids {
			sender.send(&loader.CANFrame{ID: id, Len: 8}, loader.CANMTU)
			sender.send(&loader.CANFrame{ID: id, Len: 48}, loader.CANFDMTU)
		}
		sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
		// Identifiers are protected on their own bus; the others' pass.
		for _, f := range s.until(last) {
			for _, stream := range l.Binding().Nodes[0].Streams {
				if stream.Interface == name && uint32(stream.CANID) == identifier(f) {
					t.Errorf("protected frame %x reached a socket on %s", f, name)
				}
			}
		}
		_ = unix.Close(s.fd)
	}
	flows := func() {
		t.Helper()
		before := l.settle(t)
		edge := l.edge(t)
		ok(t, edge.Wait())
		eventually(t, "the samples of can0 are published", func() bool {
			after := l.settle(t)
			return after.Published()-before.Published() == report(t, edge).Sealed-1 // what the edge sends on its own vcan reaches nobody
		})
	}

	ok(t, l.Buses[0].Plug())
	hook := back("can0").Hook
	closed("can0", openRaw(t, l.EdgeNetns(), "can0", rawOptions{}))
	flows()
	was["can1"] = l.linkUntil(t, "can1", "is attached", func(s agent.LinkStatus) bool { return s.Attached }).Ifindex
	var took []int64
	for range rounds {
		ok(t, l.Buses[0].Unplug())
		change(t, nil, "can1", func(k *loader.Links, i int) error { return k.Delete(i) })
		for _, name := range []string{"can0", "can1"} {
			l.linkUntil(t, name, "is gone", func(s agent.LinkStatus) bool { return s.State == agent.LinkAbsent && !s.Attached })
		}
		ok(t, l.Buses[0].Plug())
		addVCAN(t, nil, "can1")
		for _, name := range []string{"can0", "can1"} {
			s := back(name)
			if s.Hook != hook {
				t.Errorf("%s is attached by %s, was by %s", name, s.Hook, hook)
			}
			took = append(took, s.LastReattachUS)
		}
		closed("can0", openRaw(t, l.EdgeNetns(), "can0", rawOptions{}))
		closed("can1", openRaw(t, nil, "can1", rawOptions{}))
	}
	flows()
	there := openRaw(t, l.EdgeNetns(), "can0", rawOptions{})

	change(t, nil, "can0", (*loader.Links).SetDown)
	l.linkUntil(t, "can0", "is down", func(s agent.LinkStatus) bool { return s.State == agent.LinkDown && s.Attached })
	change(t, nil, "can0", func(k *loader.Links, i int) error { return k.SetMTU(i, loader.CANMTU) })
	l.linkUntil(t, "can0", "is classic", func(s agent.LinkStatus) bool { return s.MTU == loader.CANMTU && s.Attached })
	change(t, nil, "can0", func(k *loader.Links, i int) error { return errors.Join(k.SetMTU(i, loader.CANFDMTU), k.SetUp(i)) })
	l.linkUntil(t, "can0", "is up", func(s agent.LinkStatus) bool {
		return s.State == agent.LinkUp && s.MTU == loader.CANFDMTU && s.Attached
	})
	closed("can0", there)

	slices.Sort(took)
	said := fmt.Sprintf("%s: made anew %d times; from the kernel's event to the hook, median %d us, longest %d us, emulated", hook, len(took),
		took[len(took)/2], took[len(took)-1])
	if hook == loader.HookClsact {
		before := l.linkUntil(t, "can0", "is attached", func(s agent.LinkStatus) bool { return s.Attached }).Reattached
		ok(t, deleteClsact(was["can0"]))
		s := l.linkUntil(t, "can0", "is attached without its qdisc", func(s agent.LinkStatus) bool { return s.Attached && s.Reattached > before })
		said += fmt.Sprintf("; qdisc deleted by hand, attached again after %d us", s.LastReattachUS)
		closed("can0", there)
	}
	flows()
	if s := must[agent.Status](t)(l.Status(t.Context())); s.PID != status.PID {
		t.Errorf("another agent: %d, was %d", s.PID, status.PID)
	}
	ok(t, gateway.Stop())
	t.Log(said)
}
