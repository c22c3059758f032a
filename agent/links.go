// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cellward/cellward/loader"
)

// States of an interface, as LinkStatus.State has them.
const (
	LinkUp     = "up"
	LinkDown   = "down"
	LinkAbsent = "absent"
)

// Times of the link keeper.
const (
	linkTick  = time.Second      // retries, states of controllers that are not well, lines that were held back
	linkGuard = 10 * time.Second // looks whether all hooks are still set; only a kernel object removed by hand escapes the events
)

// LinkStatus is what is known of an interface as a network device.
type LinkStatus struct {
	State   string    `json:"state"` // LinkUp, LinkDown or LinkAbsent: no CAN interface has the name
	Since   time.Time `json:"since"` // of State
	Ifindex int       `json:"ifindex,omitempty"`
	MTU     uint32    `json:"mtu,omitempty"`
	// Controller is the error state of the CAN controller, as loader.CANState names it; empty where nothing has told one.
	Controller      string    `json:"controller,omitempty"`
	ControllerSince time.Time `json:"controller_since,omitzero"`
	// Attached says that the filter is at the interface, by Hook.
	Attached bool   `json:"attached"`
	Hook     string `json:"hook,omitempty"`
	// Reattached counts how often the filter was attached anew since this agent began, LastReattachUS is how long the last time took
	// from the kernel's event to the hook.
	Reattached     uint64 `json:"reattached"`
	LastReattachUS int64  `json:"last_reattach_us,omitempty"`
	// Error says why the filter is not attached although there is an interface.
	Error string `json:"error,omitempty"`
	// Changes counts since this agent began, so that what comes and goes between two looks is not missed.
	Changes LinkChanges `json:"changes"`
}

// LinkChanges counts what has become of an interface and its controller.
type LinkChanges struct {
	Down      uint64 `json:"down"` // from up to down or absent
	Up        uint64 `json:"up"`   // to up
	BusOff    uint64 `json:"bus_off"`
	Passive   uint64 `json:"passive"`
	Recovered uint64 `json:"recovered"` // to error active, from bus-off or error passive
}

// linkKeeper keeps the filter where the buses' interfaces are: it watches them, attaches the filter to what was made anew at once,
// and notes their states. It works beside the data path, which nothing here waits for: rings stay when interfaces go, so what
// came in through an earlier interface is read before what comes in through the next one, without anybody's doing.
type linkKeeper struct {
	log   *slog.Logger
	set   *loader.Set
	netns *loader.Netns // nil: the agent's own
	buses []*keptBus

	controller chan controllerReport
	requests   chan func() // run by the keeper's goroutine
	quit       chan struct{}
	wg         sync.WaitGroup

	mu sync.Mutex // guards the list of buses and the statuses

	watchMu sync.Mutex
	watcher *loader.LinkWatcher
}

// keptBus is one bus. All but status belongs to the keeper's goroutine.
type keptBus struct {
	bus    *loader.Bus
	status LinkStatus

	link     loader.Link // as seen last; Index 0: absent
	attached bool
	detached bool // by an operator: left alone
	unwell   bool // the controller was bus-off or error passive and has not been error active since
	errors   *loader.CANErrors
	lines    map[string]*heldLine
}

// heldLine keeps a line that could be caused again and again, by whoever disturbs the bus, to one a second.
type heldLine struct {
	last  time.Time
	held  int
	level slog.Level
	msg   string
	attrs []any
}

type controllerReport struct {
	bus   *keptBus
	from  *loader.CANErrors
	state loader.CANState
}

// keepLinks begins to keep the buses of a set, which must stay open until close.
func keepLinks(log *slog.Logger, set *loader.Set, netns *loader.Netns, buses []*loader.Bus) (*linkKeeper, error) {
	w, err := loader.WatchLinks(netns)
	if err != nil {
		return nil, err
	}
	first, err := w.Next()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	k := &linkKeeper{log: log, set: set, netns: netns, controller: make(chan controllerReport), requests: make(chan func()), quit: make(chan struct{}), watcher: w}
	now := time.Now()
	for _, b := range buses {
		k.buses = append(k.buses, newKeptBus(b, now))
	}
	k.take(first, now)
	for _, b := range k.buses {
		switch {
		case b.link.Index == 0:
			k.say(b, slog.LevelError, "interface is missing; it is protected when it appears", "link_missing")
		case !b.link.Up():
			k.say(b, slog.LevelWarn, "interface is down", "link_down")
		}
	}
	events := make(chan linkEvents)
	k.wg.Go(func() { k.watch(events) })
	k.wg.Go(func() { k.run(events) })
	return k, nil
}

func newKeptBus(b *loader.Bus, now time.Time) *keptBus {
	return &keptBus{
		bus: b, attached: b.Index() != 0, lines: make(map[string]*heldLine),
		status: LinkStatus{State: LinkAbsent, Since: now, Attached: b.Index() != 0, Hook: b.Hook()},
	}
}

// add keeps one more bus from now on.
func (k *linkKeeper) add(bus *loader.Bus) {
	k.do(func() {
		now := time.Now()
		b := newKeptBus(bus, now)
		k.mu.Lock()
		k.buses = append(k.buses, b)
		k.mu.Unlock()
		// What happens to the interface from here on comes as an event; what it is now is asked for. One that cannot be asked
		// for is looked at again by the guard.
		var l loader.Link
		err := k.netns.Do(func() error {
			links, err := loader.DialLinks()
			if err != nil {
				return err
			}
			l, err = links.ByName(bus.Name())
			return errors.Join(err, links.Close())
		})
		if err == nil {
			k.present(b, l, now)
		}
	})
}

// drop keeps a bus no longer. When it returns nobody here uses it.
func (k *linkKeeper) drop(bus *loader.Bus) {
	k.do(func() {
		i := slices.IndexFunc(k.buses, func(b *keptBus) bool { return b.bus == bus })
		if i < 0 {
			return
		}
		k.flush(k.buses[i], true)
		k.closeErrors(k.buses[i])
		k.mu.Lock()
		k.buses = slices.Delete(k.buses, i, i+1)
		k.mu.Unlock()
	})
}

// do has the keeper's goroutine run f and waits for it. A keeper that has ended uses no bus any more.
func (k *linkKeeper) do(f func()) {
	done := make(chan struct{})
	select {
	case k.requests <- func() { f(); close(done) }:
		<-done
	case <-k.quit:
		k.wg.Wait()
	}
}

// pause keeps the keeper from touching any bus until resume is called, which has it run last first, if that is not nil. Events wait.
func (k *linkKeeper) pause() (resume func(last func())) {
	held, end, ended := make(chan struct{}), make(chan func(), 1), make(chan struct{})
	go func() {
		defer close(ended)
		k.do(func() {
			close(held)
			if last := <-end; last != nil {
				last()
			}
		})
	}()
	select {
	case <-held:
	case <-ended: // the keeper has ended
	}
	return func(last func()) {
		end <- last
		<-ended
	}
}

// linkEvents are events and when they came.
type linkEvents struct {
	all []loader.LinkEvent
	at  time.Time
}

// close ends all goroutines. The filter stays where it is.
func (k *linkKeeper) close() error {
	close(k.quit)
	k.watchMu.Lock()
	err := k.watcher.Close()
	k.watchMu.Unlock()
	k.wg.Wait()
	return err
}

func (k *linkKeeper) ending() bool {
	select {
	case <-k.quit:
		return true
	default:
		return false
	}
}

// watch hands events on. A watch that breaks is begun anew: its first events are the whole state.
func (k *linkKeeper) watch(events chan<- linkEvents) {
	for !k.ending() {
		all, err := k.watcher.Next()
		if err == nil {
			select {
			case events <- linkEvents{all, time.Now()}:
			case <-k.quit:
			}
			continue
		}
		if errors.Is(err, os.ErrClosed) {
			return
		}
		k.log.Error("interfaces cannot be watched; trying again", "event", "link_watch_failed", "error", err.Error())
		for again := false; !again; {
			select {
			case <-time.After(linkTick):
			case <-k.quit:
				return
			}
			w, err := loader.WatchLinks(k.netns)
			if err != nil {
				continue
			}
			again = true
			k.watchMu.Lock()
			_ = k.watcher.Close() // broken already
			k.watcher = w
			if k.ending() {
				_ = w.Close()
			}
			k.watchMu.Unlock()
		}
	}
}

func (k *linkKeeper) run(events <-chan linkEvents) {
	tick := time.NewTicker(linkTick)
	defer tick.Stop()
	guard := time.NewTicker(linkGuard)
	defer guard.Stop()
	for {
		select {
		case <-k.quit:
			for _, b := range k.buses {
				k.flush(b, true)
				k.closeErrors(b)
			}
			return
		case e := <-events:
			k.take(e.all, e.at)
		case f := <-k.requests:
			f()
		case r := <-k.controller:
			if r.bus.errors == r.from { // not of an interface that is gone
				k.controllerState(r.bus, r.state, time.Now())
			}
		case now := <-tick.C:
			for _, b := range k.buses {
				k.flush(b, false)
				if b.link.Index != 0 && !b.attached {
					k.attach(b, now)
				}
				k.askController(b, now)
			}
		case now := <-guard.C:
			for _, b := range k.buses {
				if b.link.Index != 0 {
					k.attach(b, now)
				}
			}
		}
	}
}

// take deals with events in their order.
func (k *linkKeeper) take(events []loader.LinkEvent, at time.Time) {
	for _, e := range events {
		for _, b := range k.buses {
			switch {
			case e.Change == loader.LinkFilterRemoved:
				if b.link.Index != 0 && b.link.Index == e.Link.Index {
					k.attach(b, at)
				}
			case e.Change == loader.LinkRemoved && e.Link.Index == b.link.Index && b.link.Index != 0:
				k.gone(b, at, "interface was removed")
			case e.Change == loader.LinkPresent && e.Link.Name == b.bus.Name():
				k.present(b, e.Link, at)
			case e.Change == loader.LinkPresent && e.Link.Index == b.link.Index && b.link.Index != 0:
				// The filter stays with it until an interface of the right name appears: closed is the safe side.
				k.gone(b, at, "interface was renamed to "+e.Link.Name)
			}
		}
	}
}

// gone notes that no interface has the bus's name any more.
func (k *linkKeeper) gone(b *keptBus, at time.Time, why string) {
	b.link, b.attached, b.unwell = loader.Link{}, false, false
	k.closeErrors(b)
	k.note(b, func(s *LinkStatus) {
		if s.State == LinkUp {
			s.Changes.Down++
		}
		*s = LinkStatus{State: LinkAbsent, Since: at, Reattached: s.Reattached, LastReattachUS: s.LastReattachUS, Changes: s.Changes}
	})
	k.say(b, slog.LevelError, why, "link_removed")
}

// present takes note of an interface with the bus's name, as the kernel has just described it.
func (k *linkKeeper) present(b *keptBus, l loader.Link, at time.Time) {
	if l.Type != loader.ARPHRDCAN { // a device on its way to become one, or a mistake: an event tells when it is
		return
	}
	was := b.link
	b.link = l
	anew := was.Index != l.Index
	if anew {
		// The hook comes before everything else: until it is set the bus is open.
		if b.attached = b.bus.Index() == l.Index; !b.attached {
			k.attach(b, at)
		}
		k.openErrors(b)
	}
	state := LinkDown
	if l.Up() {
		state = LinkUp
	}
	k.note(b, func(s *LinkStatus) {
		switch {
		case s.State == state:
		case state == LinkUp:
			s.Changes.Up++
		case s.State == LinkUp:
			s.Changes.Down++
		}
		if s.State != state {
			s.State, s.Since = state, at
		}
		s.Ifindex, s.MTU = l.Index, l.MTU
	})
	if !anew && was.Up() != l.Up() {
		if l.Up() {
			k.say(b, slog.LevelInfo, "interface is up", "link_up")
		} else {
			k.say(b, slog.LevelWarn, "interface is down", "link_down")
		}
	}
	if !anew && !was.Up() && l.Up() && l.CANState == loader.CANStateUnknown {
		// Setting an interface up starts its controller anew; where no driver tells so, what was told before is void.
		k.controllerState(b, loader.CANStateUnknown, at)
	}
	if l.MTU < loader.CANFDMTU && (anew || was.MTU != l.MTU) {
		k.say(b, slog.LevelError, "MTU is too small for CAN FD: no sealed frame comes in", "link_mtu", "mtu", l.MTU)
	} else if !anew && was.MTU != l.MTU {
		k.say(b, slog.LevelInfo, "MTU has changed", "link_mtu", "mtu", l.MTU)
	}
	if l.CANState != loader.CANStateUnknown {
		k.controllerState(b, l.CANState, at)
	}
}

// attach makes sure that the filter is at the interface that has the bus's name now.
func (k *linkKeeper) attach(b *keptBus, since time.Time) {
	if b.detached {
		return
	}
	changed, err := k.set.Reattach(b.bus)
	now := time.Now()
	switch {
	case errors.Is(err, loader.ErrNoLink), errors.Is(err, loader.ErrNotCAN):
		b.attached = false // gone again: its event is on the way
	case errors.Is(err, loader.ErrDetached):
		b.attached, b.detached = false, true
		k.say(b, slog.LevelError, "filter was detached: the bus is open, and stays so until the agent is started anew", "link_detached")
	case err != nil:
		b.attached = false
		k.say(b, slog.LevelError, "filter cannot be attached: the bus is open; trying again", "link_attach_failed", "error", err.Error())
	default:
		b.attached = true
	}
	k.note(b, func(s *LinkStatus) {
		s.Attached, s.Hook, s.Error = b.attached, b.bus.Hook(), ""
		if err != nil {
			s.Error = err.Error()
		}
		if changed {
			s.Reattached++
			s.LastReattachUS = now.Sub(since).Microseconds()
		}
	})
	if changed {
		k.say(b, slog.LevelWarn, "filter was attached to the interface", "link_reattached", "hook", b.bus.Hook(), "ifindex", b.bus.Index(),
			"took_us", now.Sub(since).Microseconds())
	}
}

// controllerState notes and reports a controller's state if it is another than before.
func (k *linkKeeper) controllerState(b *keptBus, state loader.CANState, at time.Time) {
	changed := false
	k.note(b, func(s *LinkStatus) {
		if changed = s.Controller != state.String(); !changed {
			return
		}
		s.Controller, s.ControllerSince = state.String(), at
		switch state {
		case loader.CANBusOff:
			b.unwell = true
			s.Changes.BusOff++
		case loader.CANErrorPassive:
			b.unwell = true
			s.Changes.Passive++
		case loader.CANErrorActive:
			if b.unwell {
				s.Changes.Recovered++
			}
			b.unwell = false
		case loader.CANStateUnknown:
			b.unwell = false
		}
	})
	if !changed {
		return
	}
	switch state {
	case loader.CANBusOff:
		k.say(b, slog.LevelError, "controller is bus-off: it neither sends nor receives", "bus_off")
	case loader.CANErrorPassive, loader.CANErrorWarning:
		k.say(b, slog.LevelWarn, "controller counts errors on the bus", "bus_"+state.String())
	case loader.CANErrorActive:
		k.say(b, slog.LevelInfo, "controller is well", "bus_error_active")
	}
}

// askController asks for the state of a controller that is not well: the kernel announces no way back but the one from bus-off,
// and not every driver sends an error frame for it.
func (k *linkKeeper) askController(b *keptBus, now time.Time) {
	if s := b.link.CANState; s == loader.CANStateUnknown || k.statusOf(b).Controller == loader.CANErrorActive.String() {
		return
	}
	var l loader.Link
	err := k.netns.Do(func() error {
		links, err := loader.DialLinks()
		if err != nil {
			return err
		}
		l, err = links.ByIndex(b.link.Index)
		return errors.Join(err, links.Close())
	})
	if err == nil && l.CANState != loader.CANStateUnknown {
		k.controllerState(b, l.CANState, now)
	}
}

// openErrors listens to the error frames of a bus's interface. Without them bus-off is still known from rtnetlink.
func (k *linkKeeper) openErrors(b *keptBus) {
	k.closeErrors(b)
	c, err := loader.OpenCANErrors(k.netns, b.bus.Name(), b.link.Index)
	if err != nil {
		k.say(b, slog.LevelWarn, "error frames cannot be received", "link_errors_unseen", "error", err.Error())
		return
	}
	b.errors = c
	k.wg.Go(func() {
		for {
			e, err := c.Receive()
			if err != nil {
				return // closed, or the interface is gone
			}
			if s := e.State(); s != loader.CANStateUnknown {
				select {
				case k.controller <- controllerReport{b, c, s}:
				case <-k.quit:
					return
				}
			}
		}
	})
}

func (k *linkKeeper) closeErrors(b *keptBus) {
	if b.errors != nil {
		_ = b.errors.Close() // nothing was written
		b.errors = nil
	}
}

// say writes a line, at most one a second of each event and interface; what is held back is written later, as its count and last
// words.
func (k *linkKeeper) say(b *keptBus, level slog.Level, msg, event string, attrs ...any) {
	line := b.lines[event]
	if line == nil {
		line = &heldLine{}
		b.lines[event] = line
	}
	line.level, line.msg, line.attrs = level, msg, append([]any{"event", event, "interface", b.bus.Name()}, attrs...)
	line.held++
	if time.Since(line.last) >= linkTick {
		k.write(line)
	}
}

func (k *linkKeeper) write(line *heldLine) {
	k.log.Log(context.Background(), line.level, line.msg, append(line.attrs, "count", line.held)...)
	line.held, line.last = 0, time.Now()
}

func (k *linkKeeper) flush(b *keptBus, all bool) {
	for _, line := range b.lines {
		if line.held > 0 && (all || time.Since(line.last) >= linkTick) {
			k.write(line)
		}
	}
}

func (k *linkKeeper) note(b *keptBus, f func(*LinkStatus)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&b.status)
}

func (k *linkKeeper) statusOf(b *keptBus) LinkStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	return b.status
}

// status returns what is known of the interface of a slot.
func (k *linkKeeper) status(slot uint32) LinkStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.buses {
		if b.bus.Slot() == slot {
			return b.status
		}
	}
	return LinkStatus{}
}
