// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Remains are ids of kernel objects that are still there.
type Remains struct {
	Programs, Links, Maps []uint32
}

// None reports whether nothing is left.
func (r Remains) None() bool { return len(r.Programs)+len(r.Links)+len(r.Maps) == 0 }

// Remains asks the kernel for each program, link and map of the inspection by its id and returns those that still exist.
// After Detach some do for as long as a process holds them, and for the instant that the kernel takes to let go. The
// kernel counts ids up and gives none again before 2^31 others. Needs CAP_SYS_ADMIN.
func (i *Inspection) Remains() (r Remains, err error) {
	for _, b := range i.Buses {
		if b.Program.ID != 0 {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(b.Program.ID))
			if r.Programs, err = note(r.Programs, b.Program.ID, p, err); err != nil {
				return r, fmt.Errorf("look for program %d: %w", b.Program.ID, err)
			}
		}
		if b.LinkID != 0 {
			l, err := link.NewFromID(link.ID(b.LinkID))
			if r.Links, err = note(r.Links, b.LinkID, l, err); err != nil {
				return r, fmt.Errorf("look for link %d: %w", b.LinkID, err)
			}
		}
	}
	for _, id := range i.allMaps() {
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if r.Maps, err = note(r.Maps, id, m, err); err != nil {
			return r, fmt.Errorf("look for map %d: %w", id, err)
		}
	}
	return r, nil
}

// note adds an id whose object could be opened, and closes it.
func note(ids []uint32, id uint32, o interface{ Close() error }, err error) ([]uint32, error) {
	if errors.Is(err, os.ErrNotExist) {
		return ids, nil
	}
	if err != nil {
		return ids, err
	}
	return append(ids, id), o.Close()
}

// allMaps lists the ids of all maps: the pinned ones, and those that only the programs use.
func (i *Inspection) allMaps() []uint32 {
	ids := slices.AppendSeq(slices.Clone(i.AsideIDs), maps.Values(i.MapIDs))
	for _, b := range i.Buses {
		ids = slices.AppendSeq(ids, maps.Values(b.MapIDs))
		ids = append(ids, b.Program.MapIDs...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
