// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// anchor is what holds a bus's program at its interface's ingress, and goes on holding it without this process.
type anchor interface {
	// kind is HookTCX or HookClsact.
	kind() string
	// holds returns the program that it holds at an interface, or false if it is not there. The kernel is asked about the
	// interface and not about the anchor, because interface indexes of two network namespaces may be equal.
	holds(at place) (ebpf.ProgramID, bool, error)
	// replace puts another program in place of the one that it holds there, in one step: each frame is judged by one of the two.
	replace(at place, p *ebpf.Program) error
	// Close lets go of file descriptors only.
	Close() error
}

// place is an interface.
type place struct {
	ns    *Netns
	index int
}

// tcxAnchor is a tcx link.
type tcxAnchor struct{ link.Link }

// attachTCX sets the program in front of whatever else is attached: a program before ours could end the chain and let a
// protected identifier through. ebpf.ErrNotSupported means a kernel without tcx.
func attachTCX(at place, p *ebpf.Program) (tcxAnchor, error) {
	var l link.Link
	err := at.ns.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{
			Interface: at.index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
		})
		return err
	})
	return tcxAnchor{l}, err
}

// openTCX opens a link that an earlier run has pinned; os.ErrNotExist means that there is none.
func openTCX(pins string) (tcxAnchor, error) {
	l, err := link.LoadPinnedLink(filepath.Join(pins, linkPin), nil)
	if err != nil {
		return tcxAnchor{}, fmt.Errorf("open pinned link: %w", err)
	}
	return tcxAnchor{l}, nil
}

func (tcxAnchor) kind() string { return HookTCX }

func (a tcxAnchor) holds(at place) (ebpf.ProgramID, bool, error) {
	info, err := a.Info()
	if err != nil {
		return 0, false, fmt.Errorf("ask for link: %w", err)
	}
	var attached []link.AttachedProgram
	err = at.ns.Do(func() (err error) {
		attached, err = queryTCX(at.index)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("ask for programs at the hook: %w", err)
	}
	for _, p := range attached {
		if id, ok := p.LinkID(); ok && id == info.ID {
			return p.ID, true, nil
		}
	}
	return 0, false, nil
}

func (a tcxAnchor) replace(_ place, p *ebpf.Program) error { return a.Update(p) }

// detachTCX ends the link that is pinned in a folder, if there is one.
func detachTCX(pins string) error {
	a, err := openTCX(pins)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Also a process that still holds the link loses it; a link without an interface has nothing to lose (ENOLINK).
	err = a.Detach()
	if errors.Is(err, unix.ENOLINK) {
		err = nil
	}
	if err := errors.Join(err, a.Close()); err != nil {
		return fmt.Errorf("detach link: %w", err)
	}
	return nil
}
