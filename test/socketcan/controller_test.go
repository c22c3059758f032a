// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/loader"
)

// Attributes of include/uapi/linux/can/netlink.h.
const (
	iflaCANBittiming = 1
	iflaCANRestart   = 7
)

// needControllers skips a test where the machine has none that tests may use. A guest has two, on one bus.
func needControllers(t *testing.T) {
	t.Helper()
	needVXCAN(t)
	if !inGuest() {
		t.Skip("takes the CAN controllers of the machine; make test-guests runs this on emulated ones")
	}
}

// machineNetns opens the namespace in which devices of the machine appear.
func machineNetns(t *testing.T) *loader.Netns {
	t.Helper()
	ns := must[*loader.Netns](t)(loader.OpenNetns("/proc/1/ns/net"))
	t.Cleanup(func() { ok(t, ns.Close()) })
	return ns
}

// takeController moves a controller's interface from the machine's namespace to ns. It goes back there when ns ends.
func takeController(t *testing.T, ns *loader.Netns, name string) {
	t.Helper()
	machine := machineNetns(t)
	find := func() (link loader.Link, err error) {
		err = machine.Do(func() error {
			return withLinks(func(l *loader.Links) error { link, err = l.ByName(name); return err })
		})
		return link, err
	}
	var link loader.Link
	eventually(t, "the machine has "+name, func() bool { // an earlier test's namespace ends in the kernel's own time
		var err error
		link, err = find()
		return err == nil
	})
	if link.Kind != "can" || link.MTU != loader.CANMTU || link.CANState != loader.CANStopped {
		t.Fatalf("not a classic controller at rest: %+v", link)
	}
	ok(t, machine.Do(func() error { return withLinks(func(l *loader.Links) error { return l.Move(link.Index, ns) }) }))
}

// setLink sends an RTM_NEWLINK for an interface.
func setLink(t *testing.T, ns *loader.Netns, name string, attrs func(*netlink.AttributeEncoder)) error {
	t.Helper()
	return ns.Do(func() error {
		return withLinks(func(l *loader.Links) error {
			link, err := l.ByName(name)
			if err != nil {
				return err
			}
			a := netlink.NewAttributeEncoder()
			attrs(a)
			b, err := a.Encode()
			if err != nil {
				return err
			}
			head := make([]byte, unix.SizeofIfInfomsg)
			binary.NativeEndian.PutUint32(head[4:], uint32(link.Index))
			c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
			if err != nil {
				return err
			}
			_, err = c.Execute(netlink.Message{
				Header: netlink.Header{Type: unix.RTM_NEWLINK, Flags: netlink.Request | netlink.Acknowledge}, Data: append(head, b...),
			})
			return errors.Join(err, c.Close())
		})
	})
}

// setCAN does what `ip link set NAME type can ...` does with one attribute.
func setCAN(t *testing.T, ns *loader.Netns, name string, attribute uint16, value []byte) error {
	t.Helper()
	return setLink(t, ns, name, func(a *netlink.AttributeEncoder) {
		a.Nested(unix.IFLA_LINKINFO, func(a *netlink.AttributeEncoder) error {
			a.String(unix.IFLA_INFO_KIND, "can")
			a.Nested(unix.IFLA_INFO_DATA, func(a *netlink.AttributeEncoder) error {
				a.Bytes(attribute, value)
				return nil
			})
			return nil
		})
	})
}

// setBitrate sets the bit rate in bit/s; the interface is down. struct can_bittiming begins with it.
func setBitrate(t *testing.T, ns *loader.Netns, name string, rate uint32) {
	t.Helper()
	timing := make([]byte, 32)
	binary.NativeEndian.PutUint32(timing, rate)
	ok(t, setCAN(t, ns, name, iflaCANBittiming, timing))
}

func linkOf(t *testing.T, ns *loader.Netns, name string) (link loader.Link) {
	t.Helper()
	change(t, ns, name, func(l *loader.Links, index int) (err error) { link, err = l.ByIndex(index); return err })
	return link
}

// TestController attaches the filter to a controller's interface (SJA1000, driver kvaser_pci), with another controller at the other
// end of the bus: classic frames of all kinds are passed and dropped as on vcan, own frames come back from the driver and are told
// from the bus's, and the filter stays when the controller is stopped and started. There is no CAN FD on it.
func TestController(t *testing.T) {
	needControllers(t)
	gateway, node := newNetns(t), newNetns(t)
	takeController(t, gateway, "can0")
	takeController(t, node, "can1")
	bus := attach(t, gateway, "can0")
	start := func() {
		t.Helper()
		change(t, gateway, "can0", (*loader.Links).SetUp)
		if s := linkOf(t, gateway, "can0").CANState; s != loader.CANErrorActive {
			t.Errorf("the controller that was started is %q", s)
		}
	}
	for ns, name := range map[*loader.Netns]string{gateway: "can0", node: "can1"} {
		if err := ns.Do(func() error {
			return withLinks(func(l *loader.Links) error {
				link, err := l.ByName(name)
				return errors.Join(err, l.SetUp(link.Index))
			})
		}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s starts without a bit rate: %v", name, err)
		}
		setBitrate(t, ns, name, 500_000)
	}
	change(t, node, "can1", (*loader.Links).SetUp)
	start()
	here, there := openRaw(t, gateway, "can0", rawOptions{errors: true}), openRaw(t, node, "can1", rawOptions{})

	judgedBefore := 0
	// The controller holds five frames or so: each is awaited.
	send := func(f *loader.CANFrame) {
		t.Helper()
		there.send(f, loader.CANMTU)
		judgedBefore++
		settled(t, bus, judgedBefore)
	}
	want := loader.Counts{}
	var pass []uint32
	frames := func() {
		for n := range uint8(9) {
			for _, f := range []struct {
				id  uint32
				how loader.Verdict
			}{
				{protected, loader.PlaintextOnProtected}, {0x200, loader.Passed}, {protectedEFF, loader.PlaintextOnProtected},
				{protectedEFF &^ loader.CANEFFFlag, loader.Passed}, {protected | loader.CANEFFFlag, loader.Passed},
				{0x1ABCDEF0 | loader.CANEFFFlag, loader.Passed}, {0x201 | loader.CANRTRFlag, loader.Passed},
			} {
				frame := &loader.CANFrame{ID: f.id, Len: n, Data: [64]byte{n, 1, 2, 3, 4, 5, 6, 7}}
				if f.id&loader.CANRTRFlag != 0 {
					frame.Len = 0 // QEMU's controller mixes up what follows a remote frame that claims a length
				}
				send(frame)
				want[f.how]++
				if f.how == loader.Passed {
					pass = append(pass, f.id)
				}
			}
		}
		send(&loader.CANFrame{ID: protected2 | loader.CANRTRFlag})
		want[loader.PlaintextOnProtected]++
		send(&loader.CANFrame{ID: last})
		want[loader.Passed]++
		wantIDs(t, here.until(last), pass...)
		pass = nil
	}
	frames()
	if c := bus.FilterCounts(); c != want {
		t.Errorf("verdicts %v, want %v", c, want)
	}

	// What the gateway sends comes back from the driver when the controller has sent it (IFF_ECHO), with the sender's mark.
	neighbour := openRaw(t, gateway, "can0", rawOptions{})
	here.send(&loader.CANFrame{ID: protected, Len: 8}, loader.CANMTU)
	here.send(&loader.CANFrame{ID: 0x202, Len: 1}, loader.CANMTU)
	if b, err := neighbour.read(0); err != nil || identifier(b) != 0x202 {
		t.Errorf("a neighbour sees %x, %v", b, err)
	}
	judgedBefore += 2
	want[loader.OwnEcho]++
	want[loader.Passed]++
	if c := settled(t, bus, judgedBefore); c != want {
		t.Errorf("verdicts %v, want %v", c, want)
	}
	for _, id := range []uint32{protected, 0x202} {
		if b, err := there.read(0); err != nil || identifier(b) != id {
			t.Errorf("the node receives %x, %v", b, err)
		}
	}
	if _, err := unix.Write(here.fd, wire(sealed(protected, 1), loader.CANFDMTU)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a CAN FD frame on a classic controller: %v", err)
	}

	// The kernel starts only what is bus-off.
	if err := setCAN(t, gateway, "can0", iflaCANRestart, binary.NativeEndian.AppendUint32(nil, 1)); !errors.Is(err, unix.EBUSY) {
		t.Errorf("restart of a controller that is well: %v", err)
	}
	change(t, gateway, "can0", (*loader.Links).SetDown)
	if s := linkOf(t, gateway, "can0").CANState; s != loader.CANStopped {
		t.Errorf("the controller that was stopped is %q", s)
	}
	_, _ = here.read(unix.MSG_DONTWAIT) // ENETDOWN, once
	start()
	frames()
	if c := bus.FilterCounts(); c != want {
		t.Errorf("after a restart: verdicts %v, want %v", c, want)
	}
	t.Logf("controller sja1000, driver kvaser_pci: %d frames judged; states stopped and error_active", judgedBefore)
}
