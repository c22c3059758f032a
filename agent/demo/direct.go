// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"

	"github.com/cellward/cellward/loader"
)

// newDirectBuses makes buses that are one vxcan pair each: what the edge's namespace sends on an interface, the gateway's
// receives on its own, as the kernel does it, and the other way round.
func newDirectBuses(edge *loader.Netns, names []string) (buses []*Bus, err error) {
	defer func() {
		if err != nil {
			for _, b := range buses {
				err = errors.Join(err, b.close())
			}
			buses = nil
		}
	}()
	for _, name := range names {
		b := &Bus{
			Name: name,
			make: func() error { return newDirectPair(edge, name) },
			remove: func() error {
				err := deleteLink(name)
				if errors.Is(err, loader.ErrNoLink) {
					return nil // it is unplugged, or somebody has made another bus of it
				}
				return err
			},
		}
		buses = append(buses, b)
		if err := b.make(); err != nil {
			return buses, fmt.Errorf("make bus %s: %w", name, err)
		}
	}
	return buses, nil
}

func newDirectPair(edge *loader.Netns, name string) error {
	if err := withLinks(func(l *loader.Links) error { return l.AddVXCAN(name, name, edge) }); err != nil {
		return err
	}
	up := func() error { return withLinks(func(l *loader.Links) error { return setUpFD(l, name) }) }
	return errors.Join(up(), edge.Do(up))
}

// EdgeNetns returns the edge's network namespace. It belongs to the Lab.
func (l *Lab) EdgeNetns() *loader.Netns { return l.edgeNS }
