// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

const ldiscSLCAN = 17 // N_SLCAN of include/uapi/linux/tty.h

// adapter is a CAN controller behind a serial line (driver slcan): what it says is written to the other end of a pseudo terminal, so
// a test can have a controller in every state that a bus can bring it into.
type adapter struct{ master, line *os.File }

// newAdapter makes one, whose interface gets a name in this network namespace and is down. unplug ends it.
func newAdapter(t *testing.T, name string) *adapter {
	t.Helper()
	master := must[*os.File](t)(os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0))
	ok(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatalf("open the serial line: %v", errno)
	}
	a := &adapter{master, os.NewFile(fd, "serial line")}
	t.Cleanup(func() { _ = a.unplug() })
	ok(t, unix.IoctlSetPointerInt(int(fd), unix.TIOCSETD, ldiscSLCAN))
	machine := machineNetns(t)
	chosen := make([]byte, unix.IFNAMSIZ) // the kernel's choice
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&chosen[0]))); errno != 0 {
		t.Fatalf("ask for the adapter's interface: %v", errno)
	}
	made := unix.ByteSliceToString(chosen)
	here := must[*loader.Netns](t)(loader.OpenNetns("/proc/thread-self/ns/net"))
	defer here.Close()
	ok(t, setLink(t, machine, made, func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.IFLA_NET_NS_FD, uint32(here.File().Fd()))
		a.String(unix.IFLA_IFNAME, name)
	}))
	return a
}

// says has the adapter send a line of its protocol (drivers/net/can/slcan/slcan-core.c).
func (a *adapter) says(t *testing.T, line string) {
	t.Helper()
	_, err := a.master.WriteString(line + "\r")
	ok(t, err)
}

func (a *adapter) unplug() error {
	_ = a.line.Close()
	return a.master.Close()
}

// linkUntil waits for a state of an interface, as the agent has it.
func (l *lab) linkUntil(t *testing.T, name, what string, is func(agent.LinkStatus) bool) (s agent.LinkStatus) {
	t.Helper()
	reached := false
	defer func() {
		if !reached {
			t.Logf("%s: %+v", name, s)
		}
	}()
	eventually(t, name+" "+what, func() bool {
		status, err := l.Status(t.Context())
		ok(t, err)
		for _, i := range status.Interfaces {
			if i.Name == name {
				s = i.Link
			}
		}
		reached = is(s)
		return reached
	})
	return s
}

// TestControllerStates plugs in a controller under a running agent and brings it into every state of ISO 11898-1: the agent tells
// each, from the driver's error frames and its state over rtnetlink, the filter judges in all of them, and a program's error frames
// on a vxcan are told as well.
func TestControllerStates(t *testing.T) {
	needControllers(t)
	var b bytes.Buffer
	fmt.Fprint(&b, "(1.000000) can0 100#00\n(1.100000) can1 110#00\n")
	path := filepath.Join(t.TempDir(), "two.log")
	ok(t, os.WriteFile(path, b.Bytes(), 0o644))
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, path)
	change(t, nil, "can1", func(k *loader.Links, i int) error { return k.Delete(i) })
	gateway := l.agent(t)
	is := func(state string) func(agent.LinkStatus) bool {
		return func(s agent.LinkStatus) bool { return s.Controller == state && s.Attached }
	}
	l.linkUntil(t, "can1", "is absent", func(s agent.LinkStatus) bool { return s.State == agent.LinkAbsent })
	a := newAdapter(t, "can1")
	l.linkUntil(t, "can1", "is stopped", is("stopped"))
	change(t, nil, "can1", (*loader.Links).SetUp)
	l.linkUntil(t, "can1", "is error active", is("error_active"))

	here := openRaw(t, nil, "can1", rawOptions{errors: true})
	var shown []uint32
	frames := func() { // one protected frame and one foreign one
		t.Helper()
		a.says(t, "t110"+"2"+"0102")
		a.says(t, "t300"+"1"+"05")
		shown = append(shown, 0x300)
	}
	frames()
	for _, c := range []struct{ line, state string }{
		{"sw000096", "error_warning"}, {"sp000128", "error_passive"}, {"sa000000", "error_active"}, {"sp128000", "error_passive"},
		{"sb000256", "bus_off"},
	} {
		a.says(t, c.line)
		l.linkUntil(t, "can1", "is "+c.state, is(c.state))
		shown = append(shown, loader.CANERRFlag)
		if c.state != "bus_off" { // then it receives nothing
			frames()
		}
	}
	shownLine := ""
	text := string(cellward(t, "status", "--binding", l.BindingPath()))
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, "controller bus_off") {
			shownLine = strings.Join(strings.Fields(line), " ")
		}
	}
	if shownLine == "" {
		t.Errorf("status does not tell of bus-off:\n%s", text)
	}
	// As `ip link set can1 down; ip link set can1 up`: the driver of this adapter has no restart.
	change(t, nil, "can1", (*loader.Links).SetDown)
	l.linkUntil(t, "can1", "is down", func(s agent.LinkStatus) bool { return s.State == agent.LinkDown })
	change(t, nil, "can1", (*loader.Links).SetUp)
	l.linkUntil(t, "can1", "is error active after bus-off", is("error_active"))

	var got []uint32
	for {
		f, err := here.read(unix.MSG_DONTWAIT)
		if err == unix.ENETDOWN {
			continue
		}
		if err == unix.EAGAIN {
			break
		}
		ok(t, err)
		id := identifier(f)
		if id&loader.CANERRFlag != 0 {
			id = loader.CANERRFlag
		}
		got = append(got, id)
	}
	if fmt.Sprint(got) != fmt.Sprint(shown) {
		t.Errorf("a socket behind the filter sees %x, want %x", got, shown)
	}

	// On a vxcan nobody but programs makes error frames; the agent's socket for them is the same.
	there := openRaw(t, l.EdgeNetns(), "can0", rawOptions{})
	for _, c := range []struct {
		class uint32
		crtl  byte
		state string
	}{
		{unix.CAN_ERR_CRTL, unix.CAN_ERR_CRTL_RX_WARNING, "error_warning"},
		{unix.CAN_ERR_CRTL, unix.CAN_ERR_CRTL_TX_PASSIVE, "error_passive"},
		{unix.CAN_ERR_BUSOFF, 0, "bus_off"},
		{unix.CAN_ERR_RESTARTED, 0, "error_active"},
	} {
		there.send(&loader.CANFrame{ID: loader.CANERRFlag | c.class, Len: 8, Data: [64]byte{1: c.crtl}}, loader.CANMTU)
		l.linkUntil(t, "can0", "is "+c.state, is(c.state))
	}

	// The adapter is pulled.
	ok(t, a.unplug())
	l.linkUntil(t, "can1", "is absent", func(s agent.LinkStatus) bool { return s.State == agent.LinkAbsent && !s.Attached })
	ok(t, gateway.Stop())
	t.Logf("controller behind slcan: stopped, error_active, error_warning, error_passive, bus_off and back; status had %q", shownLine)
}
