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
		n := func(k kind.Kind) { a.core.tell(event.Note{Kind: k, Subject: event.Bus(uint8(b.Slot())), Time: now}) }
		// A short fall between two calls is seen by its time.
		fell := known && was.State == LinkUp && s.State == LinkUp && !s.Since.Equal(was.Since)
		if s.State != LinkUp || fell {
			n(kind.LinkDown)
		}
		if known && s.State == LinkUp && (fell || was.State != LinkUp) {
			n(kind.LinkUp)
		}
		switch s.Controller {
		case loader.CANBusOff.String():
			n(kind.BusOff)
		case loader.CANErrorPassive.String():
			n(kind.BusPassive)
		case loader.CANErrorActive.String():
			if known && (was.Controller == loader.CANBusOff.String() || was.Controller == loader.CANErrorPassive.String()) {
				n(kind.BusRecovered)
			}
		}
		// An interface that was made anew has no filter until it gets one; one that has lost it was tampered with.
		if s.Ifindex != 0 && (!s.Attached || known && s.Ifindex == was.Ifindex && s.Reattached > was.Reattached) {
			n(kind.HookLost)
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
