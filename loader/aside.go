// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/cellward/cellward/bpf/can"
)

// readAside reads what migrations have pinned beside the set in effect. An agent may be at work on it, so what is gone meanwhile is
// left out.
func (i *inspector) readAside(folders []string) error {
	if slices.Contains(folders, besideFolder) {
		i.Migration = MigrationPrepared
	}
	if slices.Contains(folders, nextFolder) {
		i.Migration = MigrationCommitted
	}
	former, err := formerFolders(i.Root)
	if err != nil {
		return err
	}
	for _, name := range former {
		slots, err := pinnedSlots(filepath.Join(i.Root, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		slices.Sort(slots)
		for _, slot := range slots {
			f := PinnedFormer{Folder: name, Slot: slot}
			folder := filepath.Join(i.Root, name, fmt.Sprint(busPrefix, slot))
			for ring, fill := range map[string]*RingFill{can.FilterMapCandidates: &f.Candidates, can.FilterMapControl: &f.Control} {
				if err := readFill(filepath.Join(folder, ring), fill); err != nil {
					return err
				}
			}
			i.Former = append(i.Former, f)
		}
	}
	return i.readAsideIDs(folders)
}

// readFill reads how full a pinned ring is; one that is not there is empty.
func readFill(pin string, fill *RingFill) error {
	m, err := ebpf.LoadPinnedMap(pin, &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect pinned map %s: %w", pin, err)
	}
	*fill, err = fillOf(m, pin)
	return errors.Join(err, m.Close())
}

// readAsideIDs lists the maps that are pinned in the folders of migrations, and those that a committed one is about to replace.
func (i *inspector) readAsideIDs(folders []string) error {
	own := make(map[uint32]bool)
	for _, id := range i.MapIDs {
		own[id] = true
	}
	for _, b := range i.Buses {
		for _, id := range b.MapIDs {
			own[id] = true
		}
	}
	if i.Migration == MigrationCommitted {
		folders = append(slices.Clone(folders), ".")
	}
	for _, folder := range folders {
		pins, err := filepath.Glob(filepath.Join(i.Root, folder, "*", "*"))
		if err != nil {
			return fmt.Errorf("inspect pins: %w", err)
		}
		for _, pin := range pins {
			if !slices.Contains(sharedMaps(), filepath.Base(pin)) && !slices.Contains(busMaps(), filepath.Base(pin)) {
				continue
			}
			id, err := pinnedMapID(pin)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if !own[id] && !slices.Contains(i.AsideIDs, id) {
				i.AsideIDs = append(i.AsideIDs, id)
			}
		}
	}
	return nil
}
