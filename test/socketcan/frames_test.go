// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/loader"
)

// TestIdentifiers sends every 11-bit identifier and many 29-bit ones, classic and CAN FD: sockets on the interface and on all
// interfaces see each foreign frame as it was sent, in order, and none on a protected identifier. Numbers that exist with 11
// and with 29 bits are two identifiers.
func TestIdentifiers(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	listeners := []*raw{openRaw(t, gateway, "can0", rawOptions{}), openRaw(t, gateway, "can0", rawOptions{any: true, errors: true})}
	sender := openRaw(t, node, "can0", rawOptions{})

	var ids []uint32
	for id := range uint32(loader.CANSFFMask + 1) {
		ids = append(ids, id, id|loader.CANEFFFlag)
	}
	for bit := range 29 {
		ids = append(ids, 1<<bit|loader.CANEFFFlag, (loader.CANEFFMask^1<<bit)|loader.CANEFFFlag)
	}
	var want [][]byte
	sent := 0
	for i, id := range ids {
		if id == last {
			continue
		}
		for _, size := range []int{loader.CANMTU, loader.CANFDMTU} {
			f := &loader.CANFrame{ID: id, Len: uint8(i % 9)}
			for j := range int(f.Len) {
				f.Data[j] = byte(i + j)
			}
			if size == loader.CANFDMTU {
				f.Flags = loader.CANFDFDF // which the kernel sets in any case
			}
			sender.send(f, size)
			if sent++; sent%256 == 0 {
				settled(t, bus, sent) // the kernel queues 1,000 frames at most
			}
			if !slices.Contains(protectedIDs(), id) {
				want = append(want, wire(f, size))
			}
		}
	}
	sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
	c := settled(t, bus, sent+1)
	if n := 2 * len(protectedIDs()); c[loader.PlaintextOnProtected] != uint64(n) || c[loader.Passed] != uint64(len(want)+1) {
		t.Errorf("verdicts %v, want %d dropped and %d passed", c, n, len(want)+1)
	}
	for i, l := range listeners {
		got := l.until(last)
		if len(got) != len(want) {
			t.Errorf("listener %d: %d frames, want %d", i, len(got), len(want))
			continue
		}
		for j := range got {
			g, w := slices.Clone(got[j]), slices.Clone(want[j])
			if len(g) == loader.CANFDMTU { // older kernels do not set the flag that says that it is CAN FD
				g[5], w[5] = g[5]&^loader.CANFDFDF, w[5]&^loader.CANFDFDF
			}
			if !bytes.Equal(g, w) {
				t.Fatalf("listener %d, frame %d: %x, want %x", i, j, got[j], want[j])
			}
		}
	}
}

// TestRemoteFrames sends remote transmission requests: those for a protected identifier reach nobody.
func TestRemoteFrames(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	listener, sender := openRaw(t, gateway, "can0", rawOptions{}), openRaw(t, node, "can0", rawOptions{})
	for _, id := range []uint32{protected, protectedEFF, 0x200, 0x456, protected | loader.CANEFFFlag} {
		sender.send(&loader.CANFrame{ID: id | loader.CANRTRFlag, Len: 4}, loader.CANMTU)
	}
	sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
	if c := settled(t, bus, 6); c[loader.PlaintextOnProtected] != 2 || c[loader.Passed] != 4 {
		t.Errorf("verdicts %v", c)
	}
	wantIDs(t, listener.until(last), 0x200|loader.CANRTRFlag, 0x456|loader.CANRTRFlag, protected|loader.CANEFFFlag|loader.CANRTRFlag)
}

func wantIDs(t *testing.T, frames [][]byte, want ...uint32) {
	t.Helper()
	var got []uint32
	for _, f := range frames {
		got = append(got, identifier(f))
	}
	if !slices.Equal(got, want) {
		t.Errorf("received %#x, want %#x", got, want)
	}
}

// TestErrorFrames sends CAN error frames, in which error bits stand where the identifier stands, also such as look like a
// protected identifier: who asked for error frames gets all of them.
func TestErrorFrames(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	asked, other := openRaw(t, gateway, "can0", rawOptions{errors: true}), openRaw(t, gateway, "can0", rawOptions{})
	sender := openRaw(t, node, "can0", rawOptions{})
	var want []uint32
	for _, id := range []uint32{0x001, 0x004, 0x040 /* bus-off */, 0x080, protected, protected2} {
		sender.send(&loader.CANFrame{ID: id | loader.CANERRFlag, Len: 8}, loader.CANMTU)
		want = append(want, id|loader.CANERRFlag)
	}
	// A CAN FD frame cannot be an error frame: with the flag it is one on a protected identifier, and dropped.
	sender.send(&loader.CANFrame{ID: protected | loader.CANERRFlag, Len: 8}, loader.CANFDMTU)
	sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
	if c := settled(t, bus, 8); c[loader.ErrorFrame] != 6 || c[loader.PlaintextOnProtected] != 1 || c[loader.Passed] != 1 {
		t.Errorf("verdicts %v", c)
	}
	wantIDs(t, asked.until(last), want...)
	wantIDs(t, other.until(last))
}

// TestLengths sends CAN FD frames of every length that a frame can claim, also of those that no bus can carry: foreign ones
// arrive as they are, on a protected identifier those of a sealed PDU's lengths become candidates with exactly their bytes.
func TestLengths(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	listener, sender := openRaw(t, gateway, "can0", rawOptions{}), openRaw(t, node, "can0", rawOptions{})
	var sealedLengths []int
	for n := range 65 {
		for _, id := range []uint32{0x200, protected} {
			f := sealed(id, uint64(n+1))
			f.Len = uint8(n)
			sender.send(f, loader.CANFDMTU)
		}
		if n == 32 || n == 48 || n == 64 {
			sealedLengths = append(sealedLengths, n)
		}
	}
	sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
	c := settled(t, bus, 2*65+1)
	if c[loader.Candidate] != 3 || c[loader.Passed] != 66 {
		t.Errorf("verdicts %v", c)
	}
	frames := listener.until(last)
	if len(frames) != 65 {
		t.Fatalf("%d foreign frames, want 65", len(frames))
	}
	for n, f := range frames {
		if identifier(f) != 0x200 || int(f[4]) != n || !bytes.Equal(f[16:8+max(n, 8)], sealed(0x200, 0).Data[8:max(n, 8)]) {
			t.Errorf("length %d arrived as %x", n, f)
		}
	}
	var records [4]loader.Record
	n := must[int](t)(bus.Candidates().Peek(records[:]))
	if n != len(sealedLengths) {
		t.Fatalf("%d candidates", n)
	}
	for i, want := range sealedLengths {
		if got := records[i].SPDU(); !bytes.Equal(got, sealed(protected, uint64(want+1)).Data[:want]) {
			t.Errorf("candidate %d: %x", i, got)
		}
	}
	bus.Candidates().Release()
}

// TestLengthCode sends classic frames whose length code is 9 to 15, which all mean 8 bytes (ISO 11898-1): CAN_RAW hands the code
// on in a byte of its own, and the filter drops them on a protected identifier as any other classic frame.
func TestLengthCode(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	listener, sender := openRaw(t, gateway, "can0", rawOptions{}), openRaw(t, node, "can0", rawOptions{})
	for code := byte(9); code <= 15; code++ {
		for _, id := range []uint32{0x200, protected} {
			b := wire(&loader.CANFrame{ID: id, Len: 8}, loader.CANMTU)
			b[7] = code // len8_dlc of struct can_frame
			sender.write(b)
		}
	}
	sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
	if c := settled(t, bus, 15); c[loader.PlaintextOnProtected] != 7 || c[loader.Passed] != 8 {
		t.Errorf("verdicts %v", c)
	}
	frames := listener.until(last)
	if len(frames) != 7 {
		t.Fatalf("%d frames, want 7", len(frames))
	}
	for i, f := range frames {
		if f[4] != 8 || int(f[7]) != 9+i {
			t.Errorf("code %d arrived as %x", 9+i, f)
		}
	}
}

// canXLMTU is CANXL_MTU of include/uapi/linux/can.h: header and 2,048 bytes.
const canXLMTU = 2060

// TestMTU changes the interfaces' MTU under the filter, which for CAN says which frames there are: it stays attached and judges
// whatever comes.
func TestMTU(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	listener, sender := openRaw(t, gateway, "can0", rawOptions{any: true}), openRaw(t, node, "can0", rawOptions{any: true})
	set := func(mtu uint32) {
		t.Helper()
		for _, ns := range []*loader.Netns{gateway, node} {
			change(t, ns, "can0", func(l *loader.Links, i int) error {
				return errors.Join(l.SetDown(i), l.SetMTU(i, mtu), l.SetUp(i))
			})
		}
		sender = openRaw(t, node, "can0", rawOptions{})
	}
	judged := 0
	for round, mtu := range []uint32{loader.CANMTU, loader.CANFDMTU, loader.CANMTU, loader.CANFDMTU} {
		set(mtu)
		sender.send(&loader.CANFrame{ID: protected, Len: 8}, loader.CANMTU)
		sender.send(&loader.CANFrame{ID: 0x200, Len: 8}, loader.CANMTU)
		want := []uint32{0x200}
		judged += 3
		if mtu == loader.CANFDMTU {
			sender.send(sealed(protected, uint64(round+1)), loader.CANFDMTU)
			sender.send(sealed(0x201, 1), loader.CANFDMTU)
			want = append(want, 0x201)
			judged += 2
		} else if _, err := unix.Write(sender.fd, wire(sealed(protected, 1), loader.CANFDMTU)); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a CAN FD frame over an MTU of %d: %v", mtu, err)
		}
		sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
		settled(t, bus, judged)
		wantIDs(t, listener.until(last), want...)
	}
	if c := bus.FilterCounts(); c[loader.Candidate] != 2 || c[loader.PlaintextOnProtected] != 4 {
		t.Errorf("verdicts %v", c)
	}
}

// TestXL sends CAN XL frames, which carry no sealed PDU: none on a protected identifier arrives, whatever stands beside the
// identifier in its word.
func TestXL(t *testing.T) {
	gateway, node := pair(t)
	bus := attach(t, gateway, "can0")
	for _, ns := range []*loader.Netns{gateway, node} {
		var err error
		change(t, ns, "can0", func(l *loader.Links, i int) error {
			err = errors.Join(l.SetDown(i), l.SetMTU(i, canXLMTU))
			return l.SetUp(i)
		})
		if errors.Is(err, unix.EINVAL) {
			cannotHold(t, "vxcan refuses the MTU of CAN XL")
		}
		ok(t, err)
	}
	listener, sender := openRaw(t, gateway, "can0", rawOptions{xl: true}), openRaw(t, node, "can0", rawOptions{xl: true})
	xl := func(prio uint32, n int) []byte { // struct canxl_frame
		b := make([]byte, 12+n)
		binary.NativeEndian.PutUint32(b, prio)
		b[4] = 0x80 // CANXL_XLF
		binary.NativeEndian.PutUint16(b[6:], uint16(n))
		return b
	}
	for _, n := range []int{1, 48, 2048} {
		for _, prio := range []uint32{0x200, protected} {
			sender.write(xl(prio, n))
		}
	}
	sender.send(&loader.CANFrame{ID: last}, loader.CANMTU)
	if c := settled(t, bus, 7); c[loader.PlaintextOnProtected] != 3 || c[loader.Passed] != 4 {
		t.Errorf("verdicts %v", c)
	}
	wantIDs(t, listener.until(last), 0x200, 0x200, 0x200)
}
