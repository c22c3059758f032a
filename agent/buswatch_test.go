// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"maps"
	"testing"

	"github.com/cellward/cellward/agent/event/kind"
)

// TestLinkEvents: what lasts is an event at each look, what comes and goes between two looks is one each time.
func TestLinkEvents(t *testing.T) {
	up := LinkStatus{State: LinkUp, Ifindex: 4, Attached: true, Controller: "error_active", Changes: LinkChanges{Up: 1}}
	with := func(s LinkStatus, change func(*LinkStatus)) LinkStatus {
		change(&s)
		return s
	}
	for _, c := range []struct {
		name  string
		was   *LinkStatus // nil: the first look
		is    LinkStatus
		wants map[kind.Kind]uint64
	}{
		{"first look", nil, up, nil},
		{"first look at one that is missing", nil, LinkStatus{State: LinkAbsent}, map[kind.Kind]uint64{kind.LinkDown: 1}},
		{"bus-off since the agent began", nil, with(up, func(s *LinkStatus) { s.Changes.BusOff, s.Changes.Recovered = 1, 1 }),
			map[kind.Kind]uint64{kind.BusOff: 1, kind.BusRecovered: 1}},
		{"nothing", &up, up, nil},
		{"bus-off between two looks", &up, with(up, func(s *LinkStatus) { s.Changes.BusOff, s.Changes.Recovered = 3, 3 }),
			map[kind.Kind]uint64{kind.BusOff: 3, kind.BusRecovered: 3}},
		{"bus-off that stands", &up, with(up, func(s *LinkStatus) { s.Controller, s.Changes.BusOff, s.Changes.Recovered = "bus_off", 2, 1 }),
			map[kind.Kind]uint64{kind.BusOff: 2, kind.BusRecovered: 1}},
		{"bus-off that has stood", &LinkStatus{State: LinkUp, Ifindex: 4, Attached: true, Controller: "bus_off", Changes: LinkChanges{BusOff: 9}},
			LinkStatus{State: LinkUp, Ifindex: 4, Attached: true, Controller: "bus_off", Changes: LinkChanges{BusOff: 9}}, map[kind.Kind]uint64{kind.BusOff: 1}},
		{"error passive for a moment", &up, with(up, func(s *LinkStatus) { s.Changes.Passive, s.Changes.Recovered = 1, 1 }),
			map[kind.Kind]uint64{kind.BusPassive: 1, kind.BusRecovered: 1}},
		{"down for a moment", &up, with(up, func(s *LinkStatus) { s.Changes.Down, s.Changes.Up = 1, 2 }),
			map[kind.Kind]uint64{kind.LinkDown: 1, kind.LinkUp: 1}},
		{"down", &up, with(up, func(s *LinkStatus) { s.State, s.Changes.Down = LinkDown, 1 }), map[kind.Kind]uint64{kind.LinkDown: 1}},
		{"filter set again", &up, with(up, func(s *LinkStatus) { s.Reattached = 1 }), map[kind.Kind]uint64{kind.HookLost: 1}},
		{"made anew", &up, with(up, func(s *LinkStatus) { s.Ifindex, s.Reattached, s.Changes.Down, s.Changes.Up = 5, 1, 1, 2 }),
			map[kind.Kind]uint64{kind.LinkDown: 1, kind.LinkUp: 1}},
		{"no filter", &up, with(up, func(s *LinkStatus) { s.Attached = false }), map[kind.Kind]uint64{kind.HookLost: 1}},
	} {
		var was LinkStatus
		if c.was != nil {
			was = *c.was
		}
		if got := linkEventsOf(was, c.was != nil, c.is); !maps.Equal(got, c.wants) {
			t.Errorf("%s: %v, want %v", c.name, got, c.wants)
		}
	}
}
