// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"

	"github.com/cellward/cellward/loader"
)

// Unplug takes the gateway's interface away, as a driver that is unloaded does. No wire may run, and [Bus.Plug] comes before the
// next one.
func (b *Bus) Unplug() (err error) {
	switch e := b.gateway.(type) {
	case nil: // a direct bus: the edge's goes as well
		err = b.remove()
	case *vxcanEnd:
		err = e.unplug()
	default:
		err = e.close()
	}
	if err != nil {
		return fmt.Errorf("unplug %s: %w", b.Name, err)
	}
	b.unplugged = true
	return nil
}

// Plug makes the interface anew under its name and sets it up.
func (b *Bus) Plug() (err error) {
	switch e := b.gateway.(type) {
	case nil:
		err = b.make()
	case *vxcanEnd:
		err = e.plug(b.Name)
	default:
		var d *loader.TUN
		if d, err = loader.NewTUN(nil, b.Name); err == nil {
			b.gateway = tunEnd{d}
		}
	}
	if err != nil {
		return fmt.Errorf("plug %s: %w", b.Name, err)
	}
	b.unplugged = false
	return nil
}

// plug makes the pair anew, with the far end in the caller's namespace.
func (v *vxcanEnd) plug(name string) error {
	own, err := loader.OpenNetns("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	c, err := newVXCANPair(v.wire, own, v.near, name, v.queue)
	if err := errors.Join(err, own.Close()); err != nil {
		return err
	}
	v.CANConn = c
	return nil
}
