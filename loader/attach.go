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

// attachment is one bus on its way through Attach.
type attachment struct {
	bus  *Bus
	opts BusOptions
	at   place  // index 0: the interface is absent
	pins string // folder of the pins in the end
	tmp  string // folder of what has to be pinned anew, or what has been moved out of it; empty: nothing

	held     ebpf.ProgramID // what the anchor of an earlier run holds; 0: it holds nothing at this interface
	old      *ebpf.Program  // the same, open
	updated  bool           // the anchor holds our program in its place
	exchange bool           // tmp holds a link for an existing folder of pins
	remove   func() error   // takes back a hook that does not end with its pin
}

// findInterface looks for the interface by its name.
func (a *attachment) findInterface() error {
	return a.opts.Netns.Do(func() error {
		links, err := DialLinks()
		if err != nil {
			return err
		}
		l, err := links.ByName(a.opts.Interface)
		if err := errors.Join(err, links.Close()); err != nil {
			return err
		}
		if l.Type != ARPHRDCAN {
			return fmt.Errorf("%w: link type %d", ErrNotCAN, l.Type)
		}
		a.at = place{a.opts.Netns, l.Index}
		return nil
	})
}

// lookFor is findInterface where the interface may be absent.
func (a *attachment) lookFor() error {
	a.at = place{}
	err := a.findInterface()
	if err != nil && !(a.opts.MayBeAbsent && (errors.Is(err, ErrNoLink) || errors.Is(err, ErrNotCAN))) {
		return err
	}
	return nil
}

// openAnchor opens the anchor that an earlier run has pinned, if it has.
func (a *attachment) openAnchor() error {
	b := a.bus
	tcx, err := openTCX(a.pins)
	switch {
	case err == nil:
		b.anchor = tcx
	case !errors.Is(err, os.ErrNotExist):
		return err
	default:
		clsact, err := openClsact(a.pins, b.slot, b.maps[can.FilterMapCandidates])
		if err == nil {
			b.anchor = clsact
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// Neither: the interface was absent, or somebody has removed the pin, which takes a tcx link off.
	}
	return nil
}

// attach sets the hook where none is. An absent interface gets none.
func (a *attachment) attach(root string) (err error) {
	b := a.bus
	if a.at.index == 0 {
		return nil
	}
	if b.anchor != nil {
		var found bool
		if a.held, found, err = b.anchor.holds(a.at); err != nil {
			return err
		}
		if !found {
			a.held = 0
		}
		if want := a.opts.Hook; want != "" && want != b.anchor.kind() {
			// An anchor that holds nothing here still may elsewhere, and one bus has one anchor.
			return fmt.Errorf("%w: %s, want %s", ErrHookKind, b.anchor.kind(), want)
		}
		if found {
			return nil
		}
	}
	if c, ok := b.anchor.(*clsactAnchor); ok {
		a.remove, err = c.install(a.at, b.prog)
		return err
	}
	if a.opts.Hook != HookClsact {
		err := a.attachTCX(root)
		if !errors.Is(err, ebpf.ErrNotSupported) || a.opts.Hook == HookTCX {
			return err
		}
	}
	return a.attachClsact()
}

func (a *attachment) attachTCX(root string) error {
	b := a.bus
	l, err := attachTCX(a.at, b.prog)
	if err != nil {
		return err
	}
	if b.anchor != nil {
		err = b.anchor.Close() // the pin keeps it until publish exchanges that
	}
	b.anchor = l
	if err != nil {
		return fmt.Errorf("close link of a former interface: %w", err)
	}
	if a.tmp == "" {
		// Maps are pinned, but no link is, or that of an interface that is gone or was made anew.
		if a.tmp, err = os.MkdirTemp(root, tmpPrefix); err != nil {
			return fmt.Errorf("make folder for pins: %w", err)
		}
		a.exchange = true
	}
	if err := l.Pin(filepath.Join(a.tmp, linkPin)); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	return nil
}

// attachClsact pins the note of a filter and then sets it. Unlike a link the note may have its final name before: what it speaks
// of is looked for and not taken for granted.
func (a *attachment) attachClsact() error {
	b := a.bus
	folder := a.tmp
	if folder == "" {
		folder = a.pins
	}
	c, err := newClsact(folder, b.slot, b.maps[can.FilterMapCandidates])
	if err != nil {
		return err
	}
	b.anchor = c
	if c.own, err = programID(b.prog); err != nil {
		return err
	}
	// Somebody may have removed the note of a filter that goes on filtering.
	var found bool
	if a.held, found, err = c.holds(a.at); err != nil {
		return err
	}
	if found {
		return c.adopt(a.at, a.held)
	}
	a.held = 0
	remove, err := c.install(a.at, b.prog)
	unpin := func() error {
		if err := os.Remove(filepath.Join(folder, notePin)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove note of the hook: %w", err)
		}
		return nil
	}
	if err != nil {
		return errors.Join(err, unpin())
	}
	a.remove = func() error { return errors.Join(remove(), unpin()) }
	return nil
}

// update replaces the program of an anchor that an earlier run has set.
func (a *attachment) update() (err error) {
	if a.held == 0 {
		return nil
	}
	if a.old, err = ebpf.NewProgramFromID(a.held); err != nil {
		return fmt.Errorf("open program at the hook: %w", err)
	}
	if err := a.bus.anchor.replace(a.at, a.bus.prog); err != nil {
		return fmt.Errorf("replace program: %w", err)
	}
	a.updated = true
	return nil
}

// publish gives the pins their final names.
func (a *attachment) publish() error {
	switch {
	case a.tmp == "":
	case a.exchange:
		pin := filepath.Join(a.pins, linkPin)
		if err := os.Rename(filepath.Join(a.tmp, linkPin), pin); err != nil {
			return fmt.Errorf("name pinned link: %w", err)
		}
		empty := a.tmp
		a.tmp = pin // undo must know it by this name
		if err := os.Remove(empty); err != nil {
			return fmt.Errorf("remove folder for pins: %w", err)
		}
	default:
		if err := os.Rename(a.tmp, a.pins); err != nil {
			return fmt.Errorf("name pins: %w", err)
		}
		a.tmp = a.pins
	}
	return nil
}

// placed notes where the bus is.
func (a *attachment) placed() {
	if a.at.index != 0 {
		a.bus.at.Store(&attached{index: a.at.index, hook: a.bus.anchor.kind()})
	}
}

// done is placed when nothing is taken back any more: a filter at a former interface goes.
func (a *attachment) done() {
	a.placed()
	if c, ok := a.bus.anchor.(*clsactAnchor); ok && a.at.index != 0 {
		c.leave()
	}
}

func (a *attachment) closeOld() error {
	if a.old == nil {
		return nil
	}
	err := a.old.Close()
	a.old = nil
	return err
}

// putBack puts the former program where ours still is.
func (a *attachment) putBack() error {
	own, err := programID(a.bus.prog)
	if err != nil {
		return err
	}
	held, found, err := a.bus.anchor.holds(a.at)
	if err != nil || !found || held != own {
		return err
	}
	return a.bus.anchor.replace(a.at, a.old)
}

// undo takes back what Attach has done to this bus.
func (a *attachment) undo() error {
	var errs []error
	if a.updated {
		if err := a.putBack(); err != nil {
			errs = append(errs, fmt.Errorf("put back program: %w", err))
		}
	}
	if a.remove != nil {
		errs = append(errs, a.remove())
	}
	if a.tmp != "" {
		if err := os.RemoveAll(a.tmp); err != nil {
			errs = append(errs, fmt.Errorf("remove pins: %w", err))
		}
	}
	return errors.Join(errs...)
}
