// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Errors of [Links].
var (
	ErrNoLink   = errors.New("no such network interface")
	ErrLinkKind = errors.New("kernel has no interfaces of this kind")
)

// vxcanInfoPeer is VXCAN_INFO_PEER of include/uapi/linux/can/vxcan.h.
const vxcanInfoPeer = 1

// Link is a network interface as rtnetlink(7) shows it.
type Link struct {
	Index      int
	Name       string
	Type       uint16   // ARPHRD_*; ARPHRDCAN for CAN
	Flags      uint32   // IFF_*
	MTU        uint32   // bytes
	TxQueueLen uint32   // frames
	OperState  uint8    // IF_OPER_* of RFC 2863
	Kind       string   // "vcan", "vxcan", "tun", ...; empty where the driver has none
	CANState   CANState // of the controller; only the kernel's drivers for controllers (kind "can") tell
}

// Up reports whether the interface is set up.
func (l Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// Links makes, finds, configures and deletes network interfaces of one network namespace over rtnetlink.
// Safe for concurrent use.
type Links struct{ c *netlink.Conn }

// DialLinks opens a connection in the network namespace of the calling thread.
func DialLinks() (*Links, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return NewLinks(c), nil
}

// NewLinks uses a connection of protocol NETLINK_ROUTE that the caller has opened, and takes it over.
func NewLinks(c *netlink.Conn) *Links { return &Links{c: c} }

// Close closes the connection.
func (l *Links) Close() error { return l.c.Close() }

// ByName finds an interface, or returns ErrNoLink.
func (l *Links) ByName(name string) (Link, error) {
	link, err := l.get(0, func(a *netlink.AttributeEncoder) { a.String(unix.IFLA_IFNAME, name) })
	if err != nil {
		return Link{}, fmt.Errorf("find interface %s: %w", name, err)
	}
	return link, nil
}

// ByIndex finds an interface, or returns ErrNoLink.
func (l *Links) ByIndex(index int) (Link, error) {
	link, err := l.get(index, func(*netlink.AttributeEncoder) {})
	if err != nil {
		return Link{}, fmt.Errorf("find interface %d: %w", index, err)
	}
	return link, nil
}

// SetUp sets the interface up.
func (l *Links) SetUp(index int) error {
	return l.set(index, "set up", unix.IFF_UP, unix.IFF_UP, nil)
}

// SetDown sets the interface down.
func (l *Links) SetDown(index int) error {
	return l.set(index, "set down", 0, unix.IFF_UP, nil)
}

// SetMTU sets the MTU in bytes. A CAN interface must be down for it.
func (l *Links) SetMTU(index int, mtu uint32) error {
	return l.set(index, "set MTU of", 0, 0, func(a *netlink.AttributeEncoder) { a.Uint32(unix.IFLA_MTU, mtu) })
}

// SetTxQueueLen sets the length of the transmit queue in frames.
func (l *Links) SetTxQueueLen(index int, frames uint32) error {
	return l.set(index, "set transmit queue of", 0, 0, func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.IFLA_TXQLEN, frames)
	})
}

// Move moves the interface to another network namespace, where it keeps its name and goes down.
func (l *Links) Move(index int, to *Netns) error {
	return l.set(index, "move", 0, 0, func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.IFLA_NET_NS_FD, uint32(to.File().Fd()))
	})
}

// Delete deletes the interface, and its peer if it has one.
func (l *Links) Delete(index int) error {
	if err := l.request(unix.RTM_DELLINK, 0, ifInfo{index: int32(index)}, nil); err != nil {
		return fmt.Errorf("delete interface %d: %w", index, err)
	}
	return nil
}

// Add makes an interface of a kind that needs no further data, such as "vcan". A kernel without the kind
// gives ErrLinkKind.
func (l *Links) Add(kind, name string) error {
	err := l.request(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, ifInfo{}, func(a *netlink.AttributeEncoder) {
		a.String(unix.IFLA_IFNAME, name)
		a.Nested(unix.IFLA_LINKINFO, func(a *netlink.AttributeEncoder) error {
			a.String(unix.IFLA_INFO_KIND, kind)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("make %s interface %s: %w", kind, name, kindError(err))
	}
	return nil
}

// AddVXCAN makes a pair of CAN interfaces, each of which receives what the other one sends. peer may be made
// in another network namespace right away; a nil Netns is this one. A kernel without vxcan gives ErrLinkKind.
func (l *Links) AddVXCAN(name, peer string, to *Netns) error {
	err := l.request(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, ifInfo{}, func(a *netlink.AttributeEncoder) {
		a.String(unix.IFLA_IFNAME, name)
		a.Nested(unix.IFLA_LINKINFO, func(a *netlink.AttributeEncoder) error {
			a.String(unix.IFLA_INFO_KIND, "vxcan")
			a.Nested(unix.IFLA_INFO_DATA, func(a *netlink.AttributeEncoder) error {
				a.Do(vxcanInfoPeer, func() ([]byte, error) {
					inner := netlink.NewAttributeEncoder()
					inner.String(unix.IFLA_IFNAME, peer)
					if to != nil {
						inner.Uint32(unix.IFLA_NET_NS_FD, uint32(to.File().Fd()))
					}
					attrs, err := inner.Encode()
					return append(ifInfo{}.encode(), attrs...), err
				})
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("make vxcan interfaces %s and %s: %w", name, peer, kindError(err))
	}
	return nil
}

// kindError names the error by which the kernel says that it does not know a kind.
func kindError(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", ErrLinkKind, err)
	}
	return err
}

// ifInfo is struct ifinfomsg of rtnetlink(7), which every request begins with.
type ifInfo struct {
	typ           uint16
	index         int32
	flags, change uint32
}

const ifInfoLen = unix.SizeofIfInfomsg

func (i ifInfo) encode() []byte {
	b := make([]byte, ifInfoLen)
	b[0] = unix.AF_UNSPEC
	binary.NativeEndian.PutUint16(b[2:], i.typ)
	binary.NativeEndian.PutUint32(b[4:], uint32(i.index))
	binary.NativeEndian.PutUint32(b[8:], i.flags)
	binary.NativeEndian.PutUint32(b[12:], i.change)
	return b
}

func (l *Links) set(index int, what string, flags, change uint32, attrs func(*netlink.AttributeEncoder)) error {
	err := l.request(unix.RTM_NEWLINK, 0, ifInfo{index: int32(index), flags: flags, change: change}, attrs)
	if err != nil {
		return fmt.Errorf("%s interface %d: %w", what, index, err)
	}
	return nil
}

func (l *Links) request(typ netlink.HeaderType, flags netlink.HeaderFlags, head ifInfo, attrs func(*netlink.AttributeEncoder)) error {
	data, err := encodeRequest(head, attrs)
	if err != nil {
		return err
	}
	_, err = l.c.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   data,
	})
	return linkError(err)
}

func (l *Links) get(index int, attrs func(*netlink.AttributeEncoder)) (Link, error) {
	data, err := encodeRequest(ifInfo{index: int32(index)}, attrs)
	if err != nil {
		return Link{}, err
	}
	replies, err := l.c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   data,
	})
	if err != nil {
		return Link{}, linkError(err)
	}
	if len(replies) != 1 {
		return Link{}, fmt.Errorf("rtnetlink sent %d replies for one interface", len(replies))
	}
	return parseLink(replies[0])
}

func encodeRequest(head ifInfo, attrs func(*netlink.AttributeEncoder)) ([]byte, error) {
	a := netlink.NewAttributeEncoder()
	if attrs != nil {
		attrs(a)
	}
	b, err := a.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode rtnetlink request: %w", err)
	}
	return append(head.encode(), b...), nil
}

// linkError makes the kernel's two ways to say "no such interface" one.
func linkError(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoLink, err)
	}
	return err
}

// parseLink reads an RTM_NEWLINK or RTM_DELLINK message.
func parseLink(m netlink.Message) (Link, error) {
	if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < ifInfoLen {
		return Link{}, fmt.Errorf("parse rtnetlink reply: type %d with %d bytes is no interface", m.Header.Type, len(m.Data))
	}
	link := Link{
		Type:  binary.NativeEndian.Uint16(m.Data[2:]),
		Index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))),
		Flags: binary.NativeEndian.Uint32(m.Data[8:]),
	}
	a, err := netlink.NewAttributeDecoder(m.Data[ifInfoLen:])
	if err != nil {
		return Link{}, fmt.Errorf("parse rtnetlink reply: %w", err)
	}
	for a.Next() {
		switch a.Type() {
		case unix.IFLA_IFNAME:
			link.Name = a.String()
		case unix.IFLA_MTU:
			link.MTU = a.Uint32()
		case unix.IFLA_TXQLEN:
			link.TxQueueLen = a.Uint32()
		case unix.IFLA_OPERSTATE:
			link.OperState = a.Uint8()
		case unix.IFLA_LINKINFO:
			a.Nested(link.parseInfo)
		}
	}
	if err := a.Err(); err != nil {
		return Link{}, fmt.Errorf("parse rtnetlink reply: %w", err)
	}
	return link, nil
}

// iflaCANState is IFLA_CAN_STATE of include/uapi/linux/can/netlink.h.
const iflaCANState = 4

// parseInfo reads IFLA_LINKINFO. The kind comes before its data (rtnl_link_fill in net/core/rtnetlink.c).
func (l *Link) parseInfo(a *netlink.AttributeDecoder) error {
	for a.Next() {
		switch a.Type() {
		case unix.IFLA_INFO_KIND:
			l.Kind = a.String()
		case unix.IFLA_INFO_DATA:
			if l.Kind != "can" {
				continue // the numbers mean something else there
			}
			a.Nested(func(a *netlink.AttributeDecoder) error {
				for a.Next() {
					if a.Type() == iflaCANState {
						l.CANState = canStateOf(a.Uint32())
					}
				}
				return nil
			})
		}
	}
	return nil
}
