// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/bpf/can"
)

// ProbeFilter loads the filter with maps of its own, as Attach would, and lets go of it again: nothing is attached or
// pinned. It tells more than the kernel's version could: that this kernel knows every map, flag and helper that the
// filter uses, that its verifier accepts the program, and that this process may do all that.
func ProbeFilter() (Program, error) {
	spec, err := loadFilter()
	if err != nil {
		return Program{}, fmt.Errorf("read filter: %w", err)
	}
	ring := uint32(os.Getpagesize())
	for _, name := range []string{can.FilterMapCandidates, can.FilterMapControl, can.FilterMapRefusedFrames} {
		spec.Maps[name].MaxEntries = ring
	}
	if err := configure(spec, 1, ring); err != nil {
		return Program{}, fmt.Errorf("configure filter: %w", err)
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return Program{}, fmt.Errorf("load filter: %w", err)
	}
	defer c.Close()
	// The rings must be mappable too, and so must the tables.
	if r, err := NewRing(c.Maps[can.FilterMapCandidates]); err != nil {
		return Program{}, err
	} else if err := r.close(); err != nil {
		return Program{}, err
	}
	t, err := mapTable[Window](c.Maps[can.FilterMapWindows])
	if err != nil {
		return Program{}, err
	}
	if err := t.close(); err != nil {
		return Program{}, err
	}
	for _, prog := range c.Programs {
		info, err := prog.Info()
		if err != nil {
			return Program{}, fmt.Errorf("ask for filter: %w", err)
		}
		var p Program
		p.describe(info)
		return p, nil
	}
	return Program{}, errors.New("load filter: there is no program in it")
}

// ProbeTCX asks the kernel to attach a program that does nothing to an interface that cannot exist. A kernel with tcx
// (6.6) looks for the interface and says that there is none; one without gives ebpf.ErrNotSupported.
func ProbeTCX() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress})
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil
	case err != nil:
		return fmt.Errorf("attach to no interface: %w", err)
	default:
		return errors.Join(errors.New("attach to no interface: the kernel did"), l.Close())
	}
}

// ProbeClsact attaches a program that does nothing through clsact and cls_bpf, in a network namespace of its own that ends with the
// call. ebpf.ErrNotSupported means a kernel without one of the two. Needs CAP_SYS_ADMIN; the kernel may load modules.
func ProbeClsact() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer prog.Close()
	return inScratchNetns(func(l *Links) error {
		lo, err := l.ByName("lo")
		if err != nil {
			return err
		}
		return inTC(nil, func(t tcConn) error {
			_, err := t.addQdisc(lo.Index)
			if err == nil {
				err = t.setFilter(lo.Index, clsactPriority, clsactHandle, "cellward_probe", prog, netlink.Create|netlink.Excl)
			}
			return clsactError(err)
		})
	})
}

// clsactError names the error by which the kernel says that it has no clsact or no cls_bpf: it knows no such kind.
func clsactError(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", ebpf.ErrNotSupported, err)
	}
	return err
}

// ProbeLinkKind makes an interface of a kind ("vcan", "vxcan") in a network namespace of its own, which ends with the
// call. A kernel without the kind, module included, gives ErrLinkKind. Needs CAP_SYS_ADMIN; the kernel may load a module.
func ProbeLinkKind(kind string) error {
	return inScratchNetns(func(l *Links) error {
		if kind == "vxcan" {
			return l.AddVXCAN("probe0", "probe1", nil)
		}
		return l.Add(kind, "probe0")
	})
}

// ProbeTUN makes a TUN device that looks like CAN in a network namespace of its own, which ends with the call.
func ProbeTUN() error {
	ns, err := NewNetns()
	if err != nil {
		return err
	}
	t, err := NewTUN(ns, "probe0")
	if err == nil {
		err = t.Close()
	}
	return errors.Join(err, ns.Close())
}

func inScratchNetns(f func(*Links) error) error {
	ns, err := NewNetns()
	if err != nil {
		return err
	}
	err = ns.Do(func() error {
		l, err := DialLinks()
		if err != nil {
			return err
		}
		return errors.Join(f(l), l.Close())
	})
	return errors.Join(err, ns.Close())
}
