// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/loader"
)

// TestGatewayRules has the kernel's can-gw forward everything from the filtered interface to another one. It is a receiver of
// the CAN core like any socket, behind tc ingress: it forwards all foreign frames and no protected one.
func TestGatewayRules(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	addVCAN(t, gateway, "vcan0")
	// Rules are of a namespace; without filters a rule takes all frames, -X makes it one for CAN FD.
	tool(t, gateway, "cangw", "-A", "-s", "can0", "-d", "vcan0", "-e")
	tool(t, gateway, "cangw", "-A", "-s", "can0", "-d", "vcan0", "-e", "-X")
	behind := openRaw(t, gateway, "vcan0", rawOptions{})
	sender := openRaw(t, node, "can0", rawOptions{})
	var want []uint32
	for i := range 200 {
		sender.send(&loader.CANFrame{ID: protected, Len: 8}, loader.CANMTU)
		sender.send(sealed(protected, uint64(i+1)), loader.CANFDMTU)
		sender.send(sealed(protectedEFF, uint64(i+1)), loader.CANFDMTU)
		sender.send(&loader.CANFrame{ID: 0x200, Len: 8}, loader.CANMTU)
		sender.send(sealed(0x201, 1), loader.CANFDMTU)
		want = append(want, 0x200, 0x201)
	}
	sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
	if c := settled(t, bus, 1001); c[loader.Candidate] != 400 || c[loader.Passed] != 401 {
		t.Errorf("verdicts %v", c)
	}
	wantIDs(t, behind.until(last), want...)

	// The other way round, to a protected bus, a frame is sent by the kernel and by no socket. What the node gets is the frame;
	// the copy for the gateway's own receivers, if the rule asks for one (-e), names no sender, and is judged like one from the bus.
	tool(t, gateway, "cangw", "-F")
	for i, echo := range []bool{false, true} {
		rule := []string{"-A", "-s", "vcan0", "-d", "can0", "-X"}
		if echo {
			rule = append(rule, "-e")
		}
		tool(t, gateway, "cangw", rule...)
		far, before := openRaw(t, node, "can0", rawOptions{}), bus.FilterCounts()
		local := openRaw(t, gateway, "vcan0", rawOptions{})
		local.send(sealed(protected, uint64(1000+i)), loader.CANFDMTU)
		if b, err := far.read(0); err != nil || identifier(b) != protected {
			t.Fatalf("forwarded to the bus: %x, %v", b, err)
		}
		after := bus.FilterCounts()
		if echo {
			eventually(t, "the copy is judged", func() bool { after = bus.FilterCounts(); return after[loader.Candidate] == before[loader.Candidate]+1 })
		}
		if got := after[loader.Candidate] - before[loader.Candidate]; (got == 1) != echo || after[loader.OwnEcho] != 0 {
			t.Errorf("echo %v: %d candidates more, verdicts %v", echo, got, after)
		}
		tool(t, gateway, "cangw", "-F")
	}
}

// openISOTP opens an ISO 15765-2 socket that sends on tx and receives on rx.
func openISOTP(t *testing.T, ns *loader.Netns, tx, rx uint32) int {
	t.Helper()
	fd := -1
	ok(t, ns.Do(func() error {
		return withLinks(func(l *loader.Links) error {
			link, err := l.ByName("can0")
			if err != nil {
				return err
			}
			if fd, err = unix.Socket(unix.AF_CAN, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.CAN_ISOTP); err != nil {
				return err
			}
			timeout := unix.NsecToTimeval(patience.Nanoseconds())
			return errors.Join(
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
				unix.Bind(fd, &unix.SockaddrCAN{Ifindex: link.Index, RxID: rx, TxID: tx}),
			)
		})
	}))
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// TestISOTP sends long messages both ways over ISO-TP on foreign identifiers; on a protected one, nothing gets to the socket.
func TestISOTP(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	const request, response = 0x701, 0x702
	here, there := openISOTP(t, gateway, response, request), openISOTP(t, node, request, response)
	closed, sender := openISOTP(t, gateway, 0x703, protected), openISOTP(t, node, protected, 0x703)
	if _, err := unix.Write(sender, []byte("secret")); err != nil { // a single frame, which waits for no flow control
		t.Fatal(err)
	}
	for _, n := range []int{1, 7, 8, 100, 4095} {
		for _, way := range [][2]int{{there, here}, {here, there}} {
			message, got := bytes.Repeat([]byte{byte(n), 0x55}, (n+1)/2)[:n], make([]byte, 8192)
			if _, err := unix.Write(way[0], message); err != nil {
				t.Fatalf("send %d bytes: %v", n, err)
			}
			m, err := unix.Read(way[1], got)
			if err != nil || !bytes.Equal(got[:m], message) {
				t.Errorf("%d bytes: received %d, %v", n, m, err)
			}
		}
	}
	if n, _, err := unix.Recvfrom(closed, make([]byte, 64), unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("on a protected identifier: %d bytes, %v", n, err)
	}
	if c := bus.FilterCounts(); c[loader.PlaintextOnProtected] != 1 {
		t.Errorf("verdicts %v", c)
	}
}

// bcmHead is struct bcm_msg_head of include/uapi/linux/can/bcm.h, on 64-bit machines.
type bcmHead struct {
	Opcode, Flags, Count uint32
	_                    uint32
	Interval1, Interval2 [2]int64
	CANID, Frames        uint32
}

const (
	bcmRxSetup    = 5
	bcmRxChanged  = 12
	bcmRxFilterID = 0x0020 // RX_FILTER_ID: whatever the frame holds
)

// TestBroadcastManager subscribes to identifiers at the broadcast manager: it reports foreign frames and no protected one.
func TestBroadcastManager(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	fd := -1
	ok(t, gateway.Do(func() error {
		return withLinks(func(l *loader.Links) error {
			link, err := l.ByName("can0")
			if err != nil {
				return err
			}
			if fd, err = unix.Socket(unix.AF_CAN, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.CAN_BCM); err != nil {
				return err
			}
			timeout := unix.NsecToTimeval(patience.Nanoseconds())
			return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
				unix.Connect(fd, &unix.SockaddrCAN{Ifindex: link.Index}))
		})
	}))
	defer unix.Close(fd)
	for _, id := range []uint32{protected, 0x200} {
		var b bytes.Buffer
		ok(t, binary.Write(&b, binary.NativeEndian, bcmHead{Opcode: bcmRxSetup, Flags: bcmRxFilterID, CANID: id}))
		if _, err := unix.Write(fd, b.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	sender := openRaw(t, node, "can0", rawOptions{})
	for range 3 {
		sender.send(&loader.CANFrame{ID: protected, Len: 8}, loader.CANMTU)
	}
	sender.send(&loader.CANFrame{ID: 0x200, Len: 8}, loader.CANMTU)
	settled(t, bus, 4)
	b := make([]byte, 1024)
	n, err := unix.Read(fd, b)
	ok(t, err)
	var head bcmHead
	ok(t, binary.Read(bytes.NewReader(b[:n]), binary.NativeEndian, &head))
	if head.Opcode != bcmRxChanged || head.CANID != 0x200 {
		t.Errorf("the broadcast manager reports %+v", head)
	}
	if n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("and %x, %v", b[:max(n, 0)], err)
	}
}

// TestTaps says who sees a protected frame all the same: packet sockets for all protocols stand before tc ingress, those for one
// protocol behind it.
func TestTaps(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	tap := func(protocol uint16) int {
		t.Helper()
		fd := -1
		ok(t, gateway.Do(func() error {
			return withLinks(func(l *loader.Links) error {
				link, err := l.ByName("can0")
				if err != nil {
					return err
				}
				if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
					return err
				}
				return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: link.Index})
			})
		}))
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	all, one := tap(unix.ETH_P_ALL), tap(loader.EthPCANFD)
	sender := openRaw(t, node, "can0", rawOptions{})
	sender.send(sealed(protected, 1), loader.CANFDMTU)
	sender.send(sealed(0x200, 1), loader.CANFDMTU)
	settled(t, bus, 2)
	for _, c := range []struct {
		name string
		fd   int
		want []uint32
	}{{"all protocols", all, []uint32{protected, 0x200}}, {"CAN FD alone", one, []uint32{0x200}}} {
		var got [][]byte
		eventually(t, "the tap has its frames", func() bool {
			b := make([]byte, 128)
			if n, _, err := unix.Recvfrom(c.fd, b, unix.MSG_DONTWAIT); err == nil {
				got = append(got, b[:n])
			}
			return len(got) >= len(c.want)
		})
		wantIDs(t, got, c.want...)
	}
}
