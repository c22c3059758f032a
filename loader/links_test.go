// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// The requests, byte for byte, as rtnetlink(7) has them (amd64 and arm64, both little-endian).
func TestLinksRequests(t *testing.T) {
	tests := []struct {
		name  string
		do    func(l *Links) error
		typ   netlink.HeaderType
		flags netlink.HeaderFlags
		data  string
	}{
		{"set up", func(l *Links) error { return l.SetUp(7) }, unix.RTM_NEWLINK, netlink.Request | netlink.Acknowledge,
			"00 00 0000 07000000 01000000 01000000"},
		{"set down", func(l *Links) error { return l.SetDown(7) }, unix.RTM_NEWLINK, netlink.Request | netlink.Acknowledge,
			"00 00 0000 07000000 00000000 01000000"},
		{"MTU", func(l *Links) error { return l.SetMTU(7, 72) }, unix.RTM_NEWLINK, netlink.Request | netlink.Acknowledge,
			"00 00 0000 07000000 00000000 00000000  0800 0400 48000000"},
		{"queue", func(l *Links) error { return l.SetTxQueueLen(7, 10000) }, unix.RTM_NEWLINK, netlink.Request | netlink.Acknowledge,
			"00 00 0000 07000000 00000000 00000000  0800 0d00 10270000"},
		{"delete", func(l *Links) error { return l.Delete(7) }, unix.RTM_DELLINK, netlink.Request | netlink.Acknowledge,
			"00 00 0000 07000000 00000000 00000000"},
		{"vcan", func(l *Links) error { return l.Add("vcan", "v0") }, unix.RTM_NEWLINK,
			netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
			"00 00 0000 00000000 00000000 00000000  0700 0300 763000 00  1000 1280  0900 0100 7663616e00 000000"},
		{"vxcan", func(l *Links) error { return l.AddVXCAN("v0", "v1", nil) }, unix.RTM_NEWLINK,
			netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
			"00 00 0000 00000000 00000000 00000000  0700 0300 763000 00  3000 1280  0a00 0100 767863616e00 0000" +
				"2000 0280  1c00 0100  00 00 0000 00000000 00000000 00000000  0700 0300 763100 00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := must[[]byte](t)(hex.DecodeString(strings.ReplaceAll(tt.data, " ", "")))
			var got netlink.Message
			l := NewLinks(nltest.Dial(func(requests []netlink.Message) ([]netlink.Message, error) {
				got = requests[0]
				return nltest.Error(0, requests)
			}))
			defer l.Close()
			ok(t, tt.do(l))
			if got.Header.Type != tt.typ || got.Header.Flags != tt.flags {
				t.Errorf("type %d flags %v, want %d %v", got.Header.Type, got.Header.Flags, tt.typ, tt.flags)
			}
			if !bytes.Equal(got.Data, want) {
				t.Errorf("request\n%x, want\n%x", got.Data, want)
			}
		})
	}
}

func TestLinksReplies(t *testing.T) {
	// tun, index 5, ARPHRD_CAN, UP|RUNNING; name, MTU, queue, operational state, kind.
	good := strings.ReplaceAll("00 00 1801 05000000 41000000 00000000"+
		"0900 0300 6275733000 000000  0800 0400 48000000  0800 0d00 10270000  0500 1000 06 000000  0c00 1200 0800 0100 74756e00", " ", "")
	reply := func(typ netlink.HeaderType, text string) *Links {
		data := must[[]byte](t)(hex.DecodeString(strings.ReplaceAll(text, " ", "")))
		return NewLinks(nltest.Dial(func(requests []netlink.Message) ([]netlink.Message, error) {
			return []netlink.Message{{Header: netlink.Header{Type: typ, Sequence: requests[0].Header.Sequence, PID: requests[0].Header.PID}, Data: data}}, nil
		}))
	}
	l := must[Link](t)(reply(unix.RTM_NEWLINK, good).ByName("bus0"))
	want := Link{Index: 5, Name: "bus0", Type: ARPHRDCAN, Flags: 0x41, MTU: 72, TxQueueLen: 10000, OperState: 6, Kind: "tun"}
	if l != want || !l.Up() {
		t.Errorf("link %+v, want %+v", l, want)
	}
	for name, links := range map[string]*Links{
		"another message": reply(unix.RTM_NEWADDR, good),
		"short":           reply(unix.RTM_NEWLINK, good[:20]),
		"cut attribute":   reply(unix.RTM_NEWLINK, good[:len(good)-4]),
		"cut MTU":         reply(unix.RTM_NEWLINK, "00 00 1801 05000000 41000000 00000000  0600 0400 4800 0000"),
	} {
		if l, err := links.ByIndex(5); err == nil {
			t.Errorf("%s: got %+v", name, l)
		}
	}
}

func TestLinksErrors(t *testing.T) {
	fail := func(errno int) *Links {
		return NewLinks(nltest.Dial(func(requests []netlink.Message) ([]netlink.Message, error) {
			return nltest.Error(errno, requests)
		}))
	}
	if _, err := fail(int(unix.ENODEV)).ByName("x"); !errors.Is(err, ErrNoLink) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("no device: %v", err)
	}
	if err := fail(int(unix.ENODEV)).SetUp(1); !errors.Is(err, ErrNoLink) {
		t.Errorf("no device: %v", err)
	}
	if err := fail(int(unix.EOPNOTSUPP)).Add("vcan", "v0"); !errors.Is(err, ErrLinkKind) {
		t.Errorf("no vcan: %v", err)
	}
	if err := fail(int(unix.EOPNOTSUPP)).AddVXCAN("v0", "v1", nil); !errors.Is(err, ErrLinkKind) {
		t.Errorf("no vxcan: %v", err)
	}
	if err := fail(int(unix.EPERM)).Delete(1); !errors.Is(err, unix.EPERM) || errors.Is(err, ErrNoLink) {
		t.Errorf("not permitted: %v", err)
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add(must[[]byte](f)(hex.DecodeString("0000180105000000410000000000000009000300627573300000000008000400480000000c00120008000100746e7500")))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLink(netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: data})
		if err != nil && l != (Link{}) {
			t.Errorf("half a link %+v with error %v", l, err)
		}
	})
}

// Against the kernel, in a namespace of its own.
func TestLinksOnKernel(t *testing.T) {
	needRoot(t)
	here, there := newNetns(t), newNetns(t)
	device := newBusDevice(t, here, "can_x")
	var index int
	ok(t, here.Do(func() error {
		l := must[*Links](t)(DialLinks())
		defer l.Close()
		link := must[Link](t)(l.ByName("can_x"))
		index = link.Index
		if link.Type != ARPHRDCAN || link.MTU != CANFDMTU || link.TxQueueLen != tunQueue || !link.Up() || link.Kind != "tun" {
			t.Errorf("TUN device is %+v", link)
		}
		if again := must[Link](t)(l.ByIndex(index)); again.Name != "can_x" {
			t.Errorf("by index: %+v", again)
		}
		if err := errors.Join(l.SetDown(index), l.SetMTU(index, 2060), l.SetTxQueueLen(index, 7)); err != nil {
			return err
		}
		if link = must[Link](t)(l.ByIndex(index)); link.Up() || link.MTU != 2060 || link.TxQueueLen != 7 {
			t.Errorf("changed device is %+v", link)
		}
		if _, err := l.ByName("can_y"); !errors.Is(err, ErrNoLink) {
			t.Errorf("missing device: %v", err)
		}
		if err := l.SetUp(index + 1000); !errors.Is(err, ErrNoLink) {
			t.Errorf("missing index: %v", err)
		}
		return l.Move(index, there)
	}))
	ok(t, there.Do(func() error {
		l := must[*Links](t)(DialLinks())
		defer l.Close()
		link, err := l.ByName("can_x")
		if err != nil {
			return err
		}
		if err := l.Delete(link.Index); err != nil {
			return err
		}
		_, err = l.ByName("can_x")
		if !errors.Is(err, ErrNoLink) {
			t.Errorf("deleted device: %v", err)
		}
		return nil
	}))
	_ = device
}

// Pairs of CAN interfaces, where the kernel has them; where not, it says so by ErrLinkKind.
func TestLinksVXCAN(t *testing.T) {
	needRoot(t)
	here, there := newNetns(t), newNetns(t)
	ok(t, here.Do(func() error {
		l := must[*Links](t)(DialLinks())
		defer l.Close()
		err := l.AddVXCAN("vx0", "vx1", there)
		if errors.Is(err, ErrLinkKind) {
			if err := l.Add("vcan", "v0"); !errors.Is(err, ErrLinkKind) {
				t.Errorf("kernel without vxcan: vcan gives %v", err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		link, err := l.ByName("vx0")
		if err == nil && (link.Kind != "vxcan" || link.Type != ARPHRDCAN) {
			t.Errorf("pair is %+v", link)
		}
		return errors.Join(err, there.Do(func() error {
			l := must[*Links](t)(DialLinks())
			defer l.Close()
			_, err := l.ByName("vx1")
			return err
		}))
	}))
}
