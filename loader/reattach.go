// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/cellward/cellward/bpf/can"
)

// ErrDetached says that somebody has taken a bus's pins away: with [Detach], or to attach it for another set of maps.
var ErrDetached = errors.New("bus was detached")

// Reattach attaches the filter to the interface that has the bus's name now, if it is not attached there: the interface was made
// anew, has come up only now, or somebody has removed the filter. It reports whether it had to. Program and maps are those of the
// bus, loaded already, so it takes two system calls until the hook is set and no right to load programs. The rings stay too: what
// came in through the earlier interface lies in them before all that comes in through this one, and is read first.
//
// ErrNoLink and ErrNotCAN mean that there is nothing to attach to yet, ErrDetached that nothing may be: the bus was opened on
// purpose. Safe beside the use of the bus, its rings and its counters, but not beside Close or itself for the same bus. Where
// another process has attached the bus again already, its hook is taken over as it is; but not one that has been there since before a
// migration.
func (s *Set) Reattach(b *Bus) (changed bool, err error) {
	unlock, err := lockFolder(s.root)
	if errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("attach %s again: %w", b.name, ErrDetached)
	}
	if err != nil {
		return false, err
	}
	defer unlock()
	// A stand-in, so that a failure leaves the bus as it was.
	n := &Bus{name: b.name, slot: b.slot, opts: b.opts, maps: b.maps, prog: b.prog, absent: b.absent}
	n.at.Store(b.at.Load())
	a := &attachment{bus: n, opts: b.opts, pins: s.busPins(b.slot)}
	if err = a.again(s.root); err != nil {
		err = errors.Join(fmt.Errorf("attach %s again: %w", b.name, err), a.undo())
		if n.anchor != nil {
			err = errors.Join(err, n.anchor.Close())
		}
		return false, err
	}
	a.done()
	b.at.Store(n.at.Load())
	b.absent = false
	former := b.anchor
	b.anchor = n.anchor
	if former != nil {
		err = former.Close()
	}
	return a.held == 0, err
}

func (a *attachment) again(root string) error {
	if err := a.ownPins(); err != nil {
		return err
	}
	if err := a.findInterface(); err != nil {
		return err
	}
	if err := a.openAnchor(); err != nil {
		return err
	}
	if c, ok := a.bus.anchor.(*clsactAnchor); ok {
		var err error
		if c.own, err = programID(a.bus.prog); err != nil {
			return err
		}
	}
	if err := a.attach(root); err != nil {
		return err
	}
	if a.held != 0 && a.bus.absent {
		if err := a.bus.anchor.replace(a.at, a.bus.prog); err != nil {
			return fmt.Errorf("replace program: %w", err)
		}
	}
	return a.publish()
}

// ownPins makes sure that the pinned folder is still that of the bus's maps.
func (a *attachment) ownPins() error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(a.pins, can.FilterMapCandidates), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		return ErrDetached
	}
	if err != nil {
		return fmt.Errorf("open pinned ring: %w", err)
	}
	pinned, err := mapID(m)
	if err := errors.Join(err, m.Close()); err != nil {
		return err
	}
	own, err := mapID(a.bus.maps[can.FilterMapCandidates])
	if err != nil {
		return err
	}
	if pinned != own {
		return fmt.Errorf("%w, and attached with other maps", ErrDetached)
	}
	return nil
}
