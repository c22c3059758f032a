// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// Where our filter stands at clsact. Priority 1 comes before all others: a filter before ours could end the chain and let a
// protected identifier through. Among BPF filters of one priority the newest judges first, so somebody can still put one in
// front; Hooks shows it. Someone else's filter with this handle is left alone.
const (
	clsactPriority = 1
	clsactHandle   = 0xCE11
)

// Errors of the clsact hook.
var (
	ErrHookTaken = errors.New("somebody else's filter has the place at the hook")
	ErrElsewhere = errors.New("filter is attached in a network namespace that cannot be found")
)

// clsactAnchor is a cls_bpf filter at the ingress side of a clsact qdisc, for kernels without tcx. The filter itself holds the
// program and through it the maps. There is nothing of it that could be pinned, so what is pinned is a note of where it is; and
// the bus's own candidate rings, which no other program uses, tell it from everybody else's.
type clsactAnchor struct {
	note *ebpf.Map
	slot uint32
	// rings are the ids of the bus's candidate ring and of those that it had in other layouts; none: their pins are gone, and the
	// filter's name must do.
	rings []uint32
	own   ebpf.ProgramID // the program that we have set; 0: none yet

	former hookNote // where the filter was before install
}

// openClsact opens the anchor whose note an earlier run has pinned; os.ErrNotExist means that there is none.
func openClsact(pins string, slot uint32, candidates *ebpf.Map) (*clsactAnchor, error) {
	rings, err := ringsOf(pins, slot, candidates)
	if err != nil {
		return nil, err
	}
	note, err := openNote(pins)
	if err != nil {
		return nil, err
	}
	return &clsactAnchor{note: note, slot: slot, rings: rings}, nil
}

// newClsact makes an anchor that holds nothing yet, with its note pinned in a folder.
func newClsact(pins string, slot uint32, candidates *ebpf.Map) (*clsactAnchor, error) {
	rings, err := ringsOf(pins, slot, candidates)
	if err != nil {
		return nil, err
	}
	note, err := newNote()
	if err != nil {
		return nil, err
	}
	if err := note.Pin(filepath.Join(pins, notePin)); err != nil {
		return nil, errors.Join(fmt.Errorf("pin note of the hook: %w", err), note.Close())
	}
	return &clsactAnchor{note: note, slot: slot, rings: rings}, nil
}

// ringsOf returns the ids of all candidate rings of a bus.
func ringsOf(pins string, slot uint32, candidates *ebpf.Map) ([]uint32, error) {
	ring, err := mapID(candidates)
	if err != nil {
		return nil, err
	}
	former, err := formerRings(filepath.Dir(pins), slot)
	return append(former, ring), err
}

func (*clsactAnchor) kind() string { return HookClsact }

func (a *clsactAnchor) Close() error { return a.note.Close() }

func (a *clsactAnchor) name() string { return fmt.Sprint("cellward_", busPrefix, a.slot) }

// holds looks for the filter. One that runs what this anchor or the note's last writer has set is the bus's, and one that uses its
// rings. To look for those takes CAP_SYS_ADMIN; without it such a filter is somebody else's, and install finds its place taken.
func (a *clsactAnchor) holds(at place) (id ebpf.ProgramID, found bool, err error) {
	err = inTC(at.ns, func(t tcConn) error {
		id, found, err = a.find(t, at.index)
		return err
	})
	return id, found, err
}

func (a *clsactAnchor) find(t tcConn, index int) (ebpf.ProgramID, bool, error) {
	all, err := t.filters(index, tcParentIngress)
	if err != nil {
		return 0, false, err
	}
	for _, f := range all {
		if f.kind != tcKindBPF || f.priority != clsactPriority || f.handle != clsactHandle {
			continue
		}
		if f.program == a.own {
			return f.program, true, nil
		}
		if len(a.rings) == 0 {
			return f.program, f.name == a.name(), nil
		}
		ours, err := programUses(f.program, a.rings)
		if errors.Is(err, unix.EPERM) || err == nil && !ours {
			// Also a ring that no pin leads to any more may be the bus's.
			ours, err = a.noted(f.program)
		}
		return f.program, ours, err
	}
	return 0, false, nil
}

// noted reports whether the note says that a program was set for the bus. The kernel gives the number of a program to another only
// after all others (idr_alloc_cyclic in kernel/bpf/syscall.c), and the note can be written by nobody but the bus's agents.
func (a *clsactAnchor) noted(id ebpf.ProgramID) (bool, error) {
	n, err := readNote(a.note)
	return err == nil && n.Program != 0 && ebpf.ProgramID(n.Program) == id, err
}

// install sets the filter. What it has changed, the function that it returns takes back; a failed install has done so itself.
//
// The note is written before what it speaks of. A process that is killed in between leaves a note of a filter that is not there,
// which misleads nobody, or a filter that the note leads to. Only a kill between the kernel's making the qdisc and the note of
// it leaves something that nobody claims: an empty qdisc, which is better than one day deleting another's.
func (a *clsactAnchor) install(at place, p *ebpf.Program) (undo func() error, err error) {
	id, err := programID(p)
	if err != nil {
		return nil, err
	}
	before, err := readNote(a.note)
	if err != nil {
		return nil, err
	}
	var n hookNote
	ownBefore := a.own
	undo = func() error {
		err := a.removeAt(at.ns, n)
		a.own = ownBefore
		return errors.Join(err, writeNote(a.note, before))
	}
	err = inTC(at.ns, func(t tcConn) error {
		if n, err = noteOf(at.index, id); err != nil {
			return err
		}
		if err := writeNote(a.note, n); err != nil {
			return err
		}
		made, err := t.addQdisc(at.index)
		if err != nil {
			return clsactError(err)
		}
		if made {
			n.MadeQdisc = 1
			if err := writeNote(a.note, n); err != nil {
				return err
			}
		}
		a.own = id
		switch err := t.setFilter(at.index, clsactPriority, clsactHandle, a.name(), p, netlink.Create|netlink.Excl); {
		case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EINVAL):
			// The handle is taken, or the priority is by a filter of another protocol, or of another kind.
			return fmt.Errorf("add filter at priority %d: %w: %w", clsactPriority, ErrHookTaken, err)
		case err != nil:
			return fmt.Errorf("add filter: %w", clsactError(err))
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	a.former = before
	return undo, nil
}

// adopt notes a filter of the bus's that is there already. Who made the qdisc is not known, so it stays.
func (a *clsactAnchor) adopt(at place, id ebpf.ProgramID) error {
	return at.ns.Do(func() error {
		n, err := noteOf(at.index, id)
		if err != nil {
			return err
		}
		return writeNote(a.note, n)
	})
}

// leave removes the filter from the interface at which it was before install, where that still is somewhere: renamed, for
// example. What cannot be removed there must not open the bus here, so no error is returned.
func (a *clsactAnchor) leave() {
	n, err := readNote(a.note)
	f := a.former
	if err != nil || f.Ifindex == 0 || f.Ifindex == n.Ifindex && f.Cookie == n.Cookie {
		return
	}
	_ = a.removeFrom(f)
}

// replace exchanges the program; the kernel swaps one pointer (cls_bpf_change in net/sched/cls_bpf.c).
func (a *clsactAnchor) replace(at place, p *ebpf.Program) error {
	id, err := programID(p)
	if err != nil {
		return err
	}
	err = inTC(at.ns, func(t tcConn) error {
		return t.setFilter(at.index, clsactPriority, clsactHandle, a.name(), p, netlink.Replace)
	})
	if err != nil {
		return fmt.Errorf("replace program of the filter: %w", err)
	}
	a.own = id
	n, err := readNote(a.note)
	if err == nil {
		n.Program = uint32(id)
		err = writeNote(a.note, n)
	}
	return err
}

// remove deletes the filter that the note leads to if it is the bus's, and the qdisc if we made it and nobody else uses it. That
// there is nothing to remove is no error.
func (a *clsactAnchor) remove() error {
	n, err := readNote(a.note)
	if err != nil || n.Ifindex == 0 {
		return err
	}
	return a.removeFrom(n)
}

func (a *clsactAnchor) removeFrom(n hookNote) error {
	ns, closeNS, err := n.netns()
	if errors.Is(err, ErrElsewhere) {
		// The namespace is gone, and the filter with it, unless some program still uses the ring.
		var users []ebpf.ProgramID
		var uerr error
		if len(a.rings) > 0 {
			users, uerr = programsUsing(a.rings)
		}
		if uerr != nil || len(users) > 0 {
			return errors.Join(fmt.Errorf("%w (programs %v)", err, users), uerr)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer closeNS()
	return a.removeAt(ns, n)
}

func (a *clsactAnchor) removeAt(ns *Netns, n hookNote) error {
	index := int(n.Ifindex)
	return inTC(ns, func(t tcConn) error {
		_, found, err := a.find(t, index)
		if err != nil {
			return err
		}
		if found {
			if err := t.deleteFilter(index, clsactPriority, clsactHandle); err != nil {
				return err
			}
		}
		if n.MadeQdisc == 0 {
			return nil
		}
		for _, side := range []uint32{tcParentIngress, tcParentEgress} {
			left, err := t.filters(index, side)
			if err != nil || len(left) > 0 {
				return err
			}
		}
		return t.deleteQdisc(index)
	})
}

// detachClsact removes the filter whose note is pinned in a folder, if there is one.
func detachClsact(pins string, slot uint32) (err error) {
	note, err := openNote(pins)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	a := &clsactAnchor{note: note, slot: slot}
	defer func() { err = errors.Join(err, a.Close()) }()
	if a.rings, err = formerRings(filepath.Dir(pins), slot); err != nil {
		return err
	}
	ring, err := pinnedMapID(filepath.Join(pins, can.FilterMapCandidates))
	if errors.Is(err, os.ErrNotExist) { // whatever is wrong with the pins, it must not keep a bus closed
		a.rings = nil
		return a.remove()
	}
	if err != nil {
		return fmt.Errorf("open the ring that tells the filter from others': %w", err)
	}
	a.rings = append(a.rings, ring)
	return a.remove()
}

func programID(p *ebpf.Program) (ebpf.ProgramID, error) {
	info, err := p.Info()
	if err != nil {
		return 0, fmt.Errorf("ask for program: %w", err)
	}
	id, _ := info.ID()
	return id, nil
}

// programUses reports whether a program uses one of some maps. One that is gone uses none.
func programUses(id ebpf.ProgramID, maps []uint32) (bool, error) {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open program %d: %w", id, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return false, fmt.Errorf("ask for program %d: %w", id, err)
	}
	ids, _ := info.MapIDs()
	return slices.ContainsFunc(ids, func(id ebpf.MapID) bool { return slices.Contains(maps, uint32(id)) }), nil
}

// programsUsing lists the loaded programs that use one of some maps.
func programsUsing(maps []uint32) (users []ebpf.ProgramID, err error) {
	for id := ebpf.ProgramID(0); ; {
		id, err = ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return users, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list programs: %w", err)
		}
		uses, err := programUses(id, maps)
		if err != nil {
			return nil, err
		}
		if uses {
			users = append(users, id)
		}
	}
}
