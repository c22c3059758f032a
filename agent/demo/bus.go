// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"time"

	"github.com/cellward/cellward/loader"
)

// Kinds of buses.
const (
	busVXCAN = "vxcan"
	busTUN   = "tun-can"
)

// end is the wire's end of a CAN interface: what is written to it the interface receives, and what is sent on the interface is
// read from it.
type end interface {
	// read waits for a frame until the deadline (os.ErrDeadlineExceeded).
	read(f *loader.CANFrame, deadline time.Time) (size int, err error)
	write(f *loader.CANFrame, size int) error
	close() error
}

// Bus is one CAN bus: an interface in the edge's namespace and one in the gateway's, and the wire's ends of both. A direct one
// has no wire.
type Bus struct {
	Name    string // of both interfaces, and in the binding
	edge    end
	gateway end
	remove  func() error // of a direct one: deletes the interfaces
	make    func() error // of a direct one: makes them

	unplugged bool
}

// ReadEdge waits for a frame that the edge sends and returns its size, loader.CANMTU or loader.CANFDMTU. It ends with
// os.ErrDeadlineExceeded at the deadline.
func (b *Bus) ReadEdge(f *loader.CANFrame, deadline time.Time) (size int, err error) {
	return b.edge.read(f, deadline)
}

// WriteGateway makes the gateway's interface receive a frame.
func (b *Bus) WriteGateway(f *loader.CANFrame, size int) error { return b.gateway.write(f, size) }

func (b *Bus) close() error {
	if b.remove != nil {
		return b.remove()
	}
	if b.unplugged {
		return b.edge.close()
	}
	return errors.Join(b.edge.close(), b.gateway.close())
}

// newBuses makes the buses: of vxcan pairs where the kernel has them, else of TUN devices that look like CAN interfaces to
// everything above. The gateway's interfaces are made in the caller's namespace.
func newBuses(edge *loader.Netns, names []string, queue uint32) (kind string, buses []*Bus, err error) {
	defer func() {
		if err != nil {
			for _, b := range buses {
				err = errors.Join(err, b.close())
			}
			buses = nil
		}
	}()
	kind = busVXCAN
	for i, name := range names {
		b := &Bus{Name: name}
		if kind == busVXCAN {
			b.edge, b.gateway, err = newVXCAN(edge, name, i, queue)
			if i == 0 && errors.Is(err, loader.ErrLinkKind) {
				kind, err = busTUN, nil
			}
		}
		if kind == busTUN {
			b.edge, b.gateway, err = newTUNPair(edge, name, queue)
		}
		if err != nil {
			return kind, buses, fmt.Errorf("make bus %s: %w", name, err)
		}
		buses = append(buses, b)
	}
	return kind, buses, nil
}

// tunEnd is the wire's end of a TUN device.
type tunEnd struct{ *loader.TUN }

// newTUNPair makes two devices. A TUN device drops what its transmit queue has no room for and tells nobody, so the edge's has
// room for queue frames, all that it may ever send.
func newTUNPair(edge *loader.Netns, name string, queue uint32) (end, end, error) {
	e, err := loader.NewTUN(edge, name)
	if err != nil {
		return nil, nil, err
	}
	err = edge.Do(func() error {
		return withLinks(func(l *loader.Links) error {
			link, err := l.ByName(name)
			if err != nil {
				return err
			}
			return l.SetTxQueueLen(link.Index, queue)
		})
	})
	if err != nil {
		return nil, nil, errors.Join(err, e.Close())
	}
	g, err := loader.NewTUN(nil, name)
	if err != nil {
		return nil, nil, errors.Join(err, e.Close())
	}
	return tunEnd{e}, tunEnd{g}, nil
}

func (t tunEnd) read(f *loader.CANFrame, deadline time.Time) (int, error) {
	if err := t.SetReadDeadline(deadline); err != nil {
		return 0, fmt.Errorf("set deadline of %s: %w", t.Name(), err)
	}
	return t.ReadCAN(f)
}

func (t tunEnd) write(f *loader.CANFrame, size int) error { return t.WriteCAN(f, size) }
func (t tunEnd) close() error                             { return t.Close() }

// vxcanEnd is the wire's end of a vxcan pair, in a namespace of the wire's own.
type vxcanEnd struct {
	*loader.CANConn
	wire  *loader.Netns
	near  string
	queue uint32
	last  bool // of the bus's ends: closes the namespace, too
}

// newVXCAN makes two pairs in a wire namespace and gives their far ends to edge and gateway under the bus's name. The wire has
// room for queue frames that it has not carried yet.
func newVXCAN(edge *loader.Netns, name string, i int, queue uint32) (end, end, error) {
	wire, err := loader.NewNetns()
	if err != nil {
		return nil, nil, err
	}
	own, err := loader.OpenNetns("/proc/thread-self/ns/net")
	if err != nil {
		return nil, nil, errors.Join(err, wire.Close())
	}
	defer own.Close()
	ends := make([]end, 0, 2)
	for j, far := range []*loader.Netns{edge, own} {
		near := fmt.Sprintf("wire%d", 2*i+j)
		c, err := newVXCANPair(wire, far, near, name, queue)
		if err != nil {
			for _, e := range ends {
				err = errors.Join(err, e.close())
			}
			return nil, nil, errors.Join(err, wire.Close())
		}
		ends = append(ends, &vxcanEnd{CANConn: c, wire: wire, near: near, queue: queue, last: j == 1})
	}
	return ends[0], ends[1], nil
}

func newVXCANPair(wire, far *loader.Netns, near, name string, queue uint32) (*loader.CANConn, error) {
	err := wire.Do(func() error {
		return withLinks(func(l *loader.Links) error {
			if err := l.AddVXCAN(near, name, far); err != nil {
				return err
			}
			return setUpFD(l, near)
		})
	})
	if err != nil {
		return nil, err
	}
	if err := far.Do(func() error { return withLinks(func(l *loader.Links) error { return setUpFD(l, name) }) }); err != nil {
		return nil, err
	}
	c, err := loader.OpenCAN(wire, near)
	if err != nil {
		return nil, err
	}
	if err := c.SetReceiveQueue(int(queue)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// deleteLink deletes an interface of the caller's namespace, and its peer.
func deleteLink(name string) error {
	return withLinks(func(l *loader.Links) error {
		link, err := l.ByName(name)
		if err != nil {
			return err
		}
		return l.Delete(link.Index)
	})
}

func withLinks(f func(*loader.Links) error) error {
	l, err := loader.DialLinks()
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}

// vxcanQueue is the transmit queue in frames.
const vxcanQueue = 10000

func setUpFD(l *loader.Links, name string) error {
	link, err := l.ByName(name)
	if err != nil {
		return err
	}
	return errors.Join(l.SetMTU(link.Index, loader.CANFDMTU), l.SetTxQueueLen(link.Index, vxcanQueue), l.SetUp(link.Index))
}

func (v *vxcanEnd) read(f *loader.CANFrame, deadline time.Time) (int, error) {
	return v.Receive(f, deadline)
}

func (v *vxcanEnd) write(f *loader.CANFrame, size int) error { return v.Send(f, size) }

// unplug deletes the pair.
func (v *vxcanEnd) unplug() error {
	return errors.Join(v.CANConn.Close(), v.wire.Do(func() error { return deleteLink(v.near) }))
}

func (v *vxcanEnd) close() error {
	// The namespace's end would take the pair with it, but in the kernel's own time: the name must be free for the next bus.
	err := v.unplug()
	if v.last {
		err = errors.Join(err, v.wire.Close())
	}
	return err
}
