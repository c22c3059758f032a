// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/loader"
)

func withLinks(f func(*loader.Links) error) error {
	l, err := loader.DialLinks()
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}

// change does something to an interface in a namespace.
func change(t *testing.T, ns *loader.Netns, name string, f func(l *loader.Links, index int) error) {
	t.Helper()
	ok(t, ns.Do(func() error {
		return withLinks(func(l *loader.Links) error {
			link, err := l.ByName(name)
			if err != nil {
				return err
			}
			return f(l, link.Index)
		})
	}))
}

// up sets an interface up for CAN FD.
func up(t *testing.T, ns *loader.Netns, name string) {
	t.Helper()
	change(t, ns, name, func(l *loader.Links, index int) error {
		return errors.Join(l.SetMTU(index, loader.CANFDMTU), l.SetTxQueueLen(index, 10_000), l.SetUp(index))
	})
}

func newNetns(t *testing.T) *loader.Netns {
	t.Helper()
	ns := must[*loader.Netns](t)(loader.NewNetns())
	t.Cleanup(func() { ok(t, ns.Close()) })
	return ns
}

// pair makes a vxcan pair, "can0" in each of two namespaces: a gateway's and a node's.
func pair(t *testing.T) (gateway, node *loader.Netns) {
	t.Helper()
	needVXCAN(t)
	gateway, node = newNetns(t), newNetns(t)
	ok(t, gateway.Do(func() error {
		return withLinks(func(l *loader.Links) error { return l.AddVXCAN("can0", "can0", node) })
	}))
	up(t, gateway, "can0")
	up(t, node, "can0")
	return gateway, node
}

// addVCAN makes a vcan interface.
func addVCAN(t *testing.T, ns *loader.Netns, name string) {
	t.Helper()
	ok(t, ns.Do(func() error { return withLinks(func(l *loader.Links) error { return l.Add("vcan", name) }) }))
	up(t, ns, name)
}

// The streams of the filter that attach sets up, on interface slot 1.
const (
	slot       = 1
	protected  = 0x123
	protected2 = 0x124
	// The same number with 11 and with 29 bits: one is a stream, the other is not.
	protectedEFF = 0x456 | loader.CANEFFFlag
	epoch        = 7
)

func protectedIDs() []uint32 { return []uint32{protected, protected2, protectedEFF} }

// attach attaches the filter to an interface, with streams, one live epoch and empty windows, and no agent.
func attach(t *testing.T, ns *loader.Netns, name string) *loader.Bus {
	t.Helper()
	fs := must[*os.File](t)(loader.NewBPFFS())
	t.Cleanup(func() { ok(t, fs.Close()) })
	root := fmt.Sprintf("/proc/self/fd/%d/cellward", fs.Fd())
	set := must[*loader.Set](t)(loader.Open(loader.Options{Root: root}))
	t.Cleanup(func() { ok(t, errors.Join(set.Close(), ns.Do(func() error { return loader.Detach(root) }))) })
	for i, id := range protectedIDs() {
		ok(t, set.Streams().Set(loader.StreamKey{Iface: slot, CANID: id}, loader.Stream{
			Slot: uint32(i), StreamID: uint32(i + 1), Node: 1, Role: loader.RoleSample, WindowSize: 1024, Carrier: loader.CarrierCANFD,
		}))
	}
	ok(t, set.Epochs()[1].Publish(0, epoch, 1))
	return must[[]*loader.Bus](t)(set.Attach(loader.BusOptions{Interface: name, Netns: ns, Slot: slot}))[0]
}

// sealed returns a frame that the filter takes for a sealed sample.
func sealed(id uint32, counter uint64) *loader.CANFrame {
	f := &loader.CANFrame{ID: id, Len: 48, Flags: loader.CANFDBRS}
	for i := range f.Data {
		f.Data[i] = byte(0x80 | i)
	}
	const version = 1
	binary.LittleEndian.PutUint64(f.Data[:], counter<<16|epoch<<8|version)
	return f
}

// settled waits until the filter has judged n frames.
func settled(t *testing.T, b *loader.Bus, n int) loader.Counts {
	t.Helper()
	for begun := time.Now(); judged(b) < n; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("still not %d verdicts but %d; by processor, packets and how many were dropped unseen: %v", n, judged(b), softnet())
		}
	}
	c := b.FilterCounts()
	if got := judged(b); got != n {
		t.Errorf("%d verdicts, want %d", got, n)
	}
	return c
}

// softnet returns what the kernel's queues of received packets say of themselves: the first two numbers of each processor's line
// (net/core/net-procfs.c).
func softnet() (lines []string) {
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(string(text)) {
		lines = append(lines, strings.Join(strings.Fields(line)[:2], " "))
	}
	return lines
}

func judged(b *loader.Bus) (n int) {
	for _, v := range b.FilterCounts() {
		n += int(v)
	}
	return n
}

// raw is a CAN_RAW socket.
type raw struct {
	t    testing.TB
	fd   int
	name string
}

// rawOptions are socket options beyond CAN FD, which is always on.
type rawOptions struct {
	errors bool // receive error frames, all classes
	xl     bool // CAN XL frames
	any    bool // bound to no interface: all of them
	own    bool // receive own frames
}

const (
	canRawXLFrames = 7 // CAN_RAW_XL_FRAMES of include/uapi/linux/can/raw.h
	errorClasses   = 0x1FFFFFFF
)

func openRaw(t testing.TB, ns *loader.Netns, name string, o rawOptions) *raw {
	t.Helper()
	r := &raw{t: t, fd: -1, name: name}
	ok(t, ns.Do(func() error {
		index := 0
		if !o.any {
			err := withLinks(func(l *loader.Links) error {
				link, err := l.ByName(name)
				index = link.Index
				return err
			})
			if err != nil {
				return err
			}
		}
		fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.CAN_RAW)
		if err != nil {
			return err
		}
		r.fd = fd
		set := func(on bool, option, value int) error {
			if !on {
				return nil
			}
			return unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, option, value)
		}
		timeout := unix.NsecToTimeval(patience.Nanoseconds())
		return errors.Join(
			set(true, unix.CAN_RAW_FD_FRAMES, 1), set(o.errors, unix.CAN_RAW_ERR_FILTER, errorClasses),
			set(o.xl, canRawXLFrames, 1), set(o.own, unix.CAN_RAW_RECV_OWN_MSGS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
			unix.Bind(fd, &unix.SockaddrCAN{Ifindex: index}),
		)
	}))
	t.Cleanup(func() { _ = unix.Close(r.fd) })
	return r
}

// wire returns a frame as sockets take it.
func wire(f *loader.CANFrame, size int) []byte {
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, f.ID)
	b[4], b[5] = f.Len, f.Flags
	copy(b[8:], f.Data[:])
	return b
}

// send sends a frame of the given size, and waits while there is no room.
func (r *raw) send(f *loader.CANFrame, size int) {
	r.t.Helper()
	r.write(wire(f, size))
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	for {
		_, err := unix.Write(r.fd, b)
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			r.t.Fatalf("send %x on %s: %v", b, r.name, err)
		}
		return
	}
}

func (r *raw) read(flags int) ([]byte, error) {
	b := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(r.fd, b, flags)
		if !errors.Is(err, unix.EINTR) {
			return b[:max(n, 0)], err
		}
	}
}

// until receives frames until one with the identifier last, and returns those before it.
func (r *raw) until(last uint32) (frames [][]byte) {
	r.t.Helper()
	for {
		b, err := r.read(0)
		if err != nil {
			r.t.Fatalf("receive on %s after %d frames: %v", r.name, len(frames), err)
		}
		if identifier(b) == last {
			return frames
		}
		frames = append(frames, b)
	}
}

// drain receives what is there.
func (r *raw) drain() (frames [][]byte) {
	r.t.Helper()
	for {
		b, err := r.read(unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return frames
		}
		if err != nil {
			r.t.Fatalf("receive on %s: %v", r.name, err)
		}
		frames = append(frames, b)
	}
}

func identifier(frame []byte) uint32 { return binary.NativeEndian.Uint32(frame) }

// last is a foreign identifier by which a test sees that all before it has come.
const last = 0x7F0
