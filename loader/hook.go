// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The kinds of hook at which the filter sits, both at tc ingress: a tcx link (kernels from 6.6), and a cls_bpf filter in
// direct-action mode at a clsact qdisc. tcx judges before clsact.
const (
	HookTCX    = "tcx_ingress"
	HookClsact = "clsact_ingress"
)

// Hook is tc ingress of one CAN interface and what runs there, first to last.
type Hook struct {
	Interface Link
	Programs  []Program
}

// Program is a loaded program as the kernel describes it. All but ID, Hook and Link is empty where Err says why: it takes
// CAP_SYS_ADMIN to look at a program by its id.
type Program struct {
	ID   uint32
	Hook string // HookTCX or HookClsact; empty: not told
	Link uint32 // id of the link that attached it; 0: attached without one, or not attached

	Name         string
	Tag          string        // the kernel's hash of the program's instructions
	Loaded       time.Duration // since boot
	Instructions uint32        // that the verifier has walked; 0: not told
	JITed        bool
	MapIDs       []uint32
	BTFID        uint32

	Err error
}

// Hooks lists the ingress hooks of all CAN interfaces in the caller's network namespace: tcx by BPF_PROG_QUERY, which needs
// CAP_NET_ADMIN, where the kernel has it, and the BPF filters at clsact over rtnetlink.
func Hooks() ([]Hook, error) {
	links, err := DialLinks()
	if err != nil {
		return nil, err
	}
	all, err := links.All()
	if err := errors.Join(err, links.Close()); err != nil {
		return nil, err
	}
	var hooks []Hook
	for _, l := range all {
		if l.Type != ARPHRDCAN {
			continue
		}
		h, err := hookOf(l)
		if err != nil {
			return nil, err
		}
		hooks = append(hooks, h)
	}
	return hooks, nil
}

func hookOf(l Link) (Hook, error) {
	h := Hook{Interface: l}
	attached, err := queryTCX(l.Index)
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return h, fmt.Errorf("ask for programs at the hook of %s: %w", l.Name, err)
	}
	for _, a := range attached {
		p := programByID(a.ID)
		p.Hook = HookTCX
		if id, ok := a.LinkID(); ok {
			p.Link = uint32(id)
		}
		h.Programs = append(h.Programs, p)
	}
	err = inTC(nil, func(t tcConn) error {
		filters, err := t.filters(l.Index, tcParentIngress)
		for _, f := range filters {
			if f.program != 0 {
				p := programByID(f.program)
				p.Hook = HookClsact
				h.Programs = append(h.Programs, p)
			}
		}
		return err
	})
	if err != nil {
		return h, fmt.Errorf("ask for filters of %s: %w", l.Name, err)
	}
	return h, nil
}

// queryTCX lists what is attached at an interface's tcx ingress, first to last. ebpf.ErrNotSupported means a kernel without tcx.
func queryTCX(index int) ([]link.AttachedProgram, error) {
	q, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	// A kernel without tcx calls the kind of attachment invalid, which might also mean another argument.
	if errors.Is(err, unix.EINVAL) {
		if perr := ProbeTCX(); errors.Is(perr, ebpf.ErrNotSupported) {
			return nil, perr
		}
	}
	if err != nil {
		return nil, err
	}
	return q.Programs, nil
}

func programByID(id ebpf.ProgramID) Program {
	p := Program{ID: uint32(id)}
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		p.Err = fmt.Errorf("open program %d: %w", id, err)
		return p
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		p.Err = fmt.Errorf("ask for program %d: %w", id, err)
		return p
	}
	p.describe(info)
	return p
}

func (p *Program) describe(info *ebpf.ProgramInfo) {
	p.Name, p.Tag = info.Name, info.Tag
	p.Loaded, _ = info.LoadTime()
	p.Instructions, _ = info.VerifiedInstructions()
	_, err := info.JitedSize()
	p.JITed = err == nil
	ids, _ := info.MapIDs()
	for _, id := range ids {
		p.MapIDs = append(p.MapIDs, uint32(id))
	}
	if id, ok := info.BTFID(); ok {
		p.BTFID = uint32(id)
	}
}
