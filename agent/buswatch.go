// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/loader"
)

// busBehind is how old in ns the last record of a bus may be while more wait: above it nothing is known of what came since.
const busBehind = 500e6

// tellLinks notes what is wrong with the buses, once at each call while it lasts, and what has become well again. mu is held.
func (a *Agent) tellLinks() {
	if a.links == nil {
		return
	}
	now := a.now()
	if a.linked == nil {
		a.linked = make(map[*loader.Bus]LinkStatus)
	}
	for _, b := range a.buses {
		s := a.links.status(b.Slot())
		was, known := a.linked[b]
		a.linked[b] = s
		for k, count := range linkEventsOf(was, known, s) {
			a.core.tell(event.Note{Kind: k, Subject: event.Bus(uint8(b.Slot())), Count: count, Time: now})
		}
	}
}

// works says whether what comes in through a bus can be known to be missing. mu is held.
func (a *Agent) works(index uint8) bool {
	for _, b := range a.buses {
		if uint8(b.Slot()) != index {
			continue
		}
		if b.Candidates().Used() > 0 && a.now()-a.core.reached[index] > busBehind {
			return false
		}
		s := a.linked[b]
		return s.State == LinkUp && s.Controller != loader.CANBusOff.String()
	}
	return false
}

// linkEventsOf says which events there are between two looks at a bus, and how many of each: what has changed, as often as it did, and what is
// wrong and lasts, once. known says that was is a look; before the first one there was none.
func linkEventsOf(was LinkStatus, known bool, s LinkStatus) map[kind.Kind]uint64 {
	if !known {
		was.Changes.Up = s.Changes.Up // it is there for the first time, and not again
	}
	all := make(map[kind.Kind]uint64)
	note := func(k kind.Kind, since, now uint64, lasts bool) {
		n := now - min(since, now) // a bus that is no longer kept has no counts
		if lasts {
			n = max(n, 1)
		}
		if n > 0 {
			all[k] = n
		}
	}
	before, after := was.Changes, s.Changes
	note(kind.LinkDown, before.Down, after.Down, s.State != LinkUp)
	note(kind.LinkUp, before.Up, after.Up, false)
	note(kind.BusOff, before.BusOff, after.BusOff, s.Controller == loader.CANBusOff.String())
	note(kind.BusPassive, before.Passive, after.Passive, s.Controller == loader.CANErrorPassive.String())
	note(kind.BusRecovered, before.Recovered, after.Recovered, false)
	// An interface that was made anew has no filter until it gets one; one that has lost it was tampered with.
	note(kind.HookLost, 0, 0, s.Ifindex != 0 && (!s.Attached || known && s.Ifindex == was.Ifindex && s.Reattached > was.Reattached))
	return all
}
