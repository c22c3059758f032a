// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"path/filepath"
)

// Migrated says what became of a set of another layout.
type Migrated struct {
	From LayoutName
	// Dropped are the counts that were not zero and that this layout has no name for.
	Dropped []string
}

// OpenBeside is Open for the successor of an agent that runs. A set of another layout is migrated in steps, and the running agent goes
// on with it until the last: OpenBeside makes new maps beside the old ones and looks whether everything in those has its place in them;
// the caller loads its programs ([Set.Prepare]), has the running agent stand still, calls [Set.Recopy], takes over for good, calls
// [Set.Commit] and attaches. Until Commit nothing that anybody else sees has changed, and a process that is killed leaves the old set.
//
// Values are copied member by member, by the names and types that the kernel holds for either map (BTF). What has no place in the new
// layout is refused with ErrMigrate, unless it is zero or only a count.
func OpenBeside(opts Options) (*Set, error) {
	own, err := ownLayout()
	if err != nil {
		return nil, err
	}
	return open(opts, own, true)
}

// migrate makes the set out of one of another layout.
func (s *Set) migrate(want metaEntry, beside bool) error {
	m, err := planMigration(s.root, s.own, want)
	if err != nil {
		return err
	}
	s.moving = m
	if err := m.make(); err != nil {
		return err
	}
	for _, name := range sharedMaps() {
		// The set and its way here are closed each for itself.
		if s.maps[name], err = m.made[filepath.Join(mapsFolder, name)].Clone(); err != nil {
			delete(s.maps, name)
			return migrated(err)
		}
	}
	if err := s.mapTables(); err != nil {
		return err
	}
	if err := m.copy(); err != nil {
		return err
	}
	if beside {
		return nil
	}
	return s.commit()
}

// Moving reports whether the set is still beside the one in effect: it takes [Set.Commit].
func (s *Set) Moving() bool { return s.moving != nil }

// Migrated says where the set has come from; nil: it was of this build's layout.
func (s *Set) Migrated() *Migrated { return s.gone }

// Recopy makes the set say what the one in effect says by now. It is called when nobody goes by that one any more.
func (s *Set) Recopy() error {
	if s.moving == nil {
		return nil
	}
	return s.moving.copy()
}

// Commit puts the set into effect. From here on the former one is not, whatever becomes of this process.
func (s *Set) Commit() error {
	if s.moving == nil {
		return nil
	}
	unlock, err := lockFolder(s.root)
	if err != nil {
		return err
	}
	defer unlock()
	return s.commit()
}

func (s *Set) commit() error {
	m := s.moving
	if err := m.commit(); err != nil {
		return err
	}
	s.gone, s.moving = &Migrated{From: m.from, Dropped: m.dropped}, nil
	return m.close()
}

// mapPins is where the maps of a bus lie.
func (s *Set) mapPins(slot uint32) string {
	if s.moving != nil {
		return filepath.Join(s.root, besideFolder, filepath.Base(s.busPins(slot)))
	}
	return s.busPins(slot)
}

// ErrMoving says that a set is not in effect yet.
var ErrMoving = errors.New("set is not in effect")
