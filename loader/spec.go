// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// layout is what a build knows of the maps that it pins.
type layout struct {
	spec *ebpf.CollectionSpec
	hash [32]byte

	// version is that of the rings' records and of everything else that the name of a member does not tell.
	version uint32
	// asBefore says of members that layouts of other builds may lack why zero in them means what those builds have meant.
	asBefore map[string]string

	step func(name string) // of tests: is called in front of each step of a migration that is seen outside; nil: nobody asks
}

// ownLayout returns the layout of this build.
func ownLayout() (*layout, error) {
	spec, err := loadFilter()
	if err != nil {
		return nil, fmt.Errorf("read filter: %w", err)
	}
	hash, err := layoutHash(spec)
	if err != nil {
		return nil, err
	}
	return &layout{spec: spec, hash: hash, version: layoutVersion, asBefore: newMembers()}, nil
}

func (l *layout) reach(step string) {
	if l.step != nil {
		l.step(step)
	}
}
