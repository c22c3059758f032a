// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
)

// Prepared are buses whose programs are loaded and not attached yet: what takes time and can fail for many reasons is done, and
// nobody has seen anything of it. It ends with Keep or Undo; both may be called again. For one goroutine.
type Prepared struct {
	set *Set
	all []*attachment
}

// Prepare does what of [Set.Attach] changes nothing that anybody sees. Another process may go on using the same pins meanwhile.
func (s *Set) Prepare(options ...BusOptions) (_ *Prepared, err error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	p := &Prepared{set: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.undo())
		}
	}()
	taken := make(map[uint32]bool)
	for _, b := range s.buses {
		taken[b.slot] = true
	}
	for _, o := range options {
		if o.Slot == 0 || o.Slot >= MaxIfaces || taken[o.Slot] {
			return nil, fmt.Errorf("attach %s: %w: %d", o.Interface, ErrBusSlot, o.Slot)
		}
		taken[o.Slot] = true
		if o.Hook != "" && o.Hook != HookTCX && o.Hook != HookClsact {
			return nil, fmt.Errorf("attach %s: %w: %q is none", o.Interface, ErrHookKind, o.Hook)
		}
		a := &attachment{bus: newBus(o), opts: o, pins: s.busPins(o.Slot)}
		p.all = append(p.all, a)
		if err := s.prepare(a); err != nil {
			return nil, fmt.Errorf("attach %s: %w", o.Interface, err)
		}
	}
	return p, nil
}

// lock takes the lock on the pins and clears away what a killed process has left.
func (s *Set) lock() (unlock func(), err error) {
	if unlock, err = lockFolder(s.root); err != nil {
		return nil, err
	}
	if err := removeStale(s.root); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// Attach sets the hooks, or replaces the programs at those that are set, as [Set.Attach] says. With an error everything is as it
// was, and p is spent. Without one the buses belong to the set, and Undo can still take it back.
func (p *Prepared) Attach() (_ []*Bus, err error) {
	if p.set.moving != nil {
		return nil, errors.Join(ErrMoving, p.Undo())
	}
	unlock, err := lockFolder(p.set.root)
	if err != nil {
		return nil, errors.Join(err, p.Undo())
	}
	defer unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, p.undo())
		}
	}()
	// Interfaces go and come, and another process may have set a hook since Prepare.
	for _, a := range p.all {
		if err := a.lookFor(); err != nil {
			return nil, fmt.Errorf("attach %s: %w", a.opts.Interface, err)
		}
		if a.tmp != "" {
			continue // there were no pins
		}
		if err := a.openAnchor(); err != nil {
			return nil, fmt.Errorf("attach %s: %w", a.opts.Interface, err)
		}
	}
	// New hooks come before those that already filter, the names last.
	for _, step := range []func(*attachment) error{
		func(a *attachment) error { return a.attach(p.set.root) }, (*attachment).update, (*attachment).publish,
	} {
		for _, a := range p.all {
			if err := step(a); err != nil {
				return nil, fmt.Errorf("attach %s: %w", a.opts.Interface, err)
			}
		}
	}
	former, err := formerFolders(p.set.root)
	if err != nil {
		return nil, err
	}
	var buses []*Bus
	for _, a := range p.all {
		a.placed()
		a.bus.absent = a.at.index == 0 && len(former) > 0
		buses = append(buses, a.bus)
	}
	p.set.buses = append(p.set.buses, buses...)
	return buses, nil
}

// Keep makes it final.
func (p *Prepared) Keep() error {
	var errs []error
	for _, a := range p.all {
		a.done()
		errs = append(errs, a.closeOld())
	}
	p.all = nil
	return errors.Join(errs...)
}

// Undo takes back what Attach has done, as far as it is still there: a program that somebody has meanwhile put in the place of ours
// stays. The buses are closed and may not be used any more.
func (p *Prepared) Undo() error {
	if len(p.all) == 0 {
		return nil
	}
	unlock, err := lockFolder(p.set.root)
	if err != nil {
		return err
	}
	defer unlock()
	return p.undo()
}

func (p *Prepared) undo() error {
	var errs []error
	for _, a := range p.all {
		p.set.forget(a.bus)
		errs = append(errs, a.undo(), a.bus.close(), a.closeOld())
	}
	p.all = nil
	return errors.Join(errs...)
}

// forget takes a bus out of the set's list.
func (s *Set) forget(b *Bus) {
	for i, x := range s.buses {
		if x == b {
			s.buses = append(s.buses[:i:i], s.buses[i+1:]...)
			return
		}
	}
}

// Reassert puts the programs of this set's buses back where another process has put its own in their place. Not beside
// [Set.Reattach].
func (s *Set) Reassert() error {
	var errs []error
	for _, b := range s.buses {
		at := b.at.Load()
		if at.index == 0 || b.anchor == nil {
			continue
		}
		if err := b.anchor.replace(place{b.opts.Netns, at.index}, b.prog); err != nil {
			errs = append(errs, fmt.Errorf("put back program of %s: %w", b.name, err))
		}
	}
	return errors.Join(errs...)
}
