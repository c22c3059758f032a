// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/pkt_sched.h, pkt_cls.h and rtnetlink.h.
const (
	tcHandleClsact  = 0xFFFF0000 // of an interface's clsact or ingress qdisc
	tcParentClsact  = 0xFFFFFFF1 // where such a qdisc hangs
	tcParentIngress = 0xFFFFFFF2 // its ingress side
	tcParentEgress  = 0xFFFFFFF3

	tcaKind    = 1
	tcaOptions = 2

	tcaBPFFD       = 6
	tcaBPFName     = 7
	tcaBPFFlags    = 8
	tcaBPFFlagsGen = 9
	tcaBPFID       = 11

	tcaBPFFlagActDirect = 1
	tcaClsFlagsSkipHW   = 1

	tcKindClsact = "clsact"
	tcKindBPF    = "bpf"
)

// tcFilter is a filter as the kernel lists it.
type tcFilter struct {
	handle   uint32
	priority uint16
	kind     string
	name     string         // of a BPF filter
	program  ebpf.ProgramID // of a BPF filter
}

// tcConn speaks the traffic control part of rtnetlink(7) in one network namespace. For one goroutine.
type tcConn struct{ c *netlink.Conn }

// inTC runs f with a connection in the network namespace ns.
func inTC(ns *Netns, f func(tcConn) error) error {
	return ns.Do(func() error {
		c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
		if err != nil {
			return fmt.Errorf("open rtnetlink: %w", err)
		}
		// The kernel's own words ("Filter already exists") come with its errors; a kernel that has none sends only the number.
		_ = c.SetOption(netlink.ExtendedAcknowledge, true)
		return errors.Join(f(tcConn{c}), c.Close())
	})
}

// tcMessage is struct tcmsg.
type tcMessage struct {
	index                int
	handle, parent, info uint32
}

const tcMessageLen = 20

func (m tcMessage) encode() []byte {
	b := make([]byte, tcMessageLen)
	binary.NativeEndian.PutUint32(b[4:], uint32(m.index))
	binary.NativeEndian.PutUint32(b[8:], m.handle)
	binary.NativeEndian.PutUint32(b[12:], m.parent)
	binary.NativeEndian.PutUint32(b[16:], m.info)
	return b
}

func (t tcConn) execute(typ netlink.HeaderType, flags netlink.HeaderFlags, head tcMessage, attrs func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	a := netlink.NewAttributeEncoder()
	if attrs != nil {
		attrs(a)
	}
	b, err := a.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode traffic control request: %w", err)
	}
	return t.c.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | flags}, Data: append(head.encode(), b...),
	})
}

// addQdisc adds a clsact qdisc, or reports false if there is one of the ingress kinds already.
func (t tcConn) addQdisc(index int) (made bool, err error) {
	_, err = t.execute(unix.RTM_NEWQDISC, netlink.Acknowledge|netlink.Create|netlink.Excl,
		tcMessage{index: index, handle: tcHandleClsact, parent: tcParentClsact},
		func(a *netlink.AttributeEncoder) { a.String(tcaKind, tcKindClsact) })
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("add clsact qdisc: %w", err)
	}
	return true, nil
}

// deleteQdisc deletes the clsact qdisc with all that hangs on it. That it is gone already is no error.
func (t tcConn) deleteQdisc(index int) error {
	_, err := t.execute(unix.RTM_DELQDISC, netlink.Acknowledge,
		tcMessage{index: index, handle: tcHandleClsact, parent: tcParentClsact},
		func(a *netlink.AttributeEncoder) { a.String(tcaKind, tcKindClsact) })
	if err != nil && !tcGone(err) {
		return fmt.Errorf("delete clsact qdisc: %w", err)
	}
	return nil
}

// filters lists the filters on one side of the interface's clsact qdisc, in the order in which they judge. Without the qdisc or
// the interface there are none. Filters without a handle are classifiers that hold none yet.
func (t tcConn) filters(index int, parent uint32) ([]tcFilter, error) {
	replies, err := t.execute(unix.RTM_GETTFILTER, netlink.Dump, tcMessage{index: index, parent: parent}, nil)
	if err != nil {
		if tcGone(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("list filters: %w", err)
	}
	var all []tcFilter
	for _, m := range replies {
		f, err := parseTCFilter(m.Data)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// parseTCFilter reads the body of an RTM_NEWTFILTER message.
func parseTCFilter(b []byte) (f tcFilter, err error) {
	if len(b) < tcMessageLen {
		return f, fmt.Errorf("list filters: reply of %d bytes is too short", len(b))
	}
	f.handle = binary.NativeEndian.Uint32(b[8:])
	f.priority = uint16(binary.NativeEndian.Uint32(b[16:]) >> 16)
	a, err := netlink.NewAttributeDecoder(b[tcMessageLen:])
	if err != nil {
		return f, fmt.Errorf("list filters: %w", err)
	}
	var options []byte
	for a.Next() {
		switch a.Type() {
		case tcaKind:
			f.kind = a.String()
		case tcaOptions:
			options = a.Bytes()
		}
	}
	if err := a.Err(); err != nil {
		return f, fmt.Errorf("list filters: %w", err)
	}
	if f.kind != tcKindBPF { // other kinds give other meanings to the same numbers
		return f, nil
	}
	if a, err = netlink.NewAttributeDecoder(options); err != nil {
		return f, fmt.Errorf("list filters: %w", err)
	}
	for a.Next() {
		switch a.Type() {
		case tcaBPFName:
			f.name = a.String()
		case tcaBPFID:
			f.program = ebpf.ProgramID(a.Uint32())
		}
	}
	if err := a.Err(); err != nil {
		return f, fmt.Errorf("list filters: %w", err)
	}
	return f, nil
}

// setFilter adds a direct-action BPF filter at ingress for all protocols (flags Create and Excl), or replaces the program of the
// one with this priority and handle in one step (Replace). It stays in software: a filter on its way through a network card's
// tables could be refused there.
func (t tcConn) setFilter(index int, priority uint16, handle uint32, name string, p *ebpf.Program, flags netlink.HeaderFlags) error {
	_, err := t.execute(unix.RTM_NEWTFILTER, netlink.Acknowledge|flags, filterMessage(index, priority, handle), func(a *netlink.AttributeEncoder) {
		a.String(tcaKind, tcKindBPF)
		a.Nested(tcaOptions, func(a *netlink.AttributeEncoder) error {
			a.Uint32(tcaBPFFD, uint32(p.FD()))
			a.String(tcaBPFName, name)
			a.Uint32(tcaBPFFlags, tcaBPFFlagActDirect)
			a.Uint32(tcaBPFFlagsGen, tcaClsFlagsSkipHW)
			return nil
		})
	})
	return err
}

// deleteFilter deletes the BPF filter with this priority and handle. That it is gone already is no error.
func (t tcConn) deleteFilter(index int, priority uint16, handle uint32) error {
	_, err := t.execute(unix.RTM_DELTFILTER, netlink.Acknowledge, filterMessage(index, priority, handle),
		func(a *netlink.AttributeEncoder) { a.String(tcaKind, tcKindBPF) })
	if err != nil && !tcGone(err) {
		return fmt.Errorf("delete filter: %w", err)
	}
	return nil
}

func filterMessage(index int, priority uint16, handle uint32) tcMessage {
	return tcMessage{index: index, handle: handle, parent: tcParentIngress, info: uint32(priority)<<16 | uint32(htons(unix.ETH_P_ALL))}
}

// tcGone says that what a request names is not there: the interface (ENODEV), the qdisc (EINVAL, "Parent Qdisc doesn't exists")
// or the filter (ENOENT).
func tcGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EINVAL)
}
