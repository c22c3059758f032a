// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/loader"
)

// Errors of new documents. Nothing was changed.
var (
	// ErrNotWhileRunning says that the documents change what cannot be changed in a running agent.
	ErrNotWhileRunning = errors.New("not while the agent runs; stop it and start it with the new documents")
	// ErrNotConfirmed says that the documents end epochs or open identifiers, and that nobody has said that this is meant.
	ErrNotConfirmed = errors.New("to be confirmed (cellward apply --confirm)")
	// ErrEnding says that the agent is about to end.
	ErrEnding = errors.New("the agent is about to end")
)

// handover is everything that the loop needs to go on by other documents.
type handover struct {
	set   *policy.Set
	at    *placement
	hash  [32]byte
	added []*loader.Bus
	// observed is what events and faults of the new documents need; nil where nobody listens.
	observed *observed
	ring     *ring.Producer // nil: the present one stays
	done     chan error

	// saved is the number of the save after which what ended is durably gone; saves is where to wait for it.
	saved  uint64
	put    bool
	saves  *saver
	paused time.Duration
}

// apply brings other documents into effect, or says why not; with dryRun it says what would change. Only one call at a time gets
// through.
//
// What can fail, and what takes time, is done beside the running loop and touches nothing that it uses: new places in the tables
// are emptied, new interfaces attached, a new ring made. The loop then changes over between two batches (change). Until it has,
// everything can be taken back.
func (a *Agent) apply(ctx context.Context, set *policy.Set, dryRun, confirm bool) (*Change, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	select {
	case <-a.ended:
		return nil, ErrEnding
	default:
	}
	x := a.difference(set)
	x.DryRun = dryRun
	switch {
	case len(x.Refused) > 0:
		return x, fmt.Errorf("%w: %s", ErrNotWhileRunning, strings.Join(x.Refused, "; "))
	case dryRun:
		return x, nil
	case len(x.Confirm) > 0 && !confirm:
		return x, fmt.Errorf("%w: %s", ErrNotConfirmed, strings.Join(x.Confirm, "; "))
	}
	h, err := a.prepare(set, x)
	if err != nil {
		return x, err
	}
	a.changes <- h // has room for the one that can be on its way
	a.wake()
	select {
	case err = <-h.done:
	case <-a.ended:
		// The loop may have taken it all the same.
		select {
		case err = <-h.done:
		default:
			err = ErrEnding
		}
	}
	if err != nil {
		return x, errors.Join(err, a.takeBack(h))
	}
	x.Applied, x.PausedUS = true, h.paused.Microseconds()
	// The data path goes on meanwhile. Whoever asked may have gone, which changes nothing.
	if ctx.Err() == nil {
		x.Saved = h.put && h.saves.wait(h.saved)
	}
	return x, nil
}

// difference compares the documents with those in effect.
func (a *Agent) difference(set *policy.Set) *Change {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := compare(a.opts.Set, set)
	x.noteEpochs(a.core, set, a.now(), time.Now().UnixNano(), int64(hardLimit(set)))
	for _, name := range x.Interfaces.Added {
		if err := attachable(name); err != nil {
			x.refuse("spec.interfaces", "%s: %v", name, err)
		}
	}
	return x
}

// attachable says why the filter cannot be attached to an interface, as far as that is seen before it is tried.
func attachable(name string) error {
	links, err := loader.DialLinks()
	if err != nil {
		return err
	}
	l, err := links.ByName(name)
	if err == nil && l.Type != loader.ARPHRDCAN {
		err = loader.ErrNotCAN
	}
	return errors.Join(err, links.Close())
}

// prepare does everything that can be done before the loop changes over.
func (a *Agent) prepare(set *policy.Set, x *Change) (_ *handover, err error) {
	h := &handover{set: set, done: make(chan error, 1)}
	old := a.opts.Set // only the loop changes it, and only for whoever holds changing
	if h.at, err = placeBeside(old, a.at, set); err != nil {
		return nil, fmt.Errorf("place streams in the filter's tables: %w", err)
	}
	if h.hash, err = h.at.hash(set); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.takeBack(h))
		}
	}()
	// Places that the present documents do not use: neither filter nor loop looks there. What the last user has left goes.
	for _, slot := range h.at.slots {
		if !slices.Contains(a.at.slots, slot) {
			a.maps.ResetStream(slot)
		}
	}
	for _, index := range h.at.nodes {
		if !slices.Contains(a.at.nodes, index) {
			a.maps.ResetNode(index)
		}
	}
	if a.monitor != nil {
		if h.observed, err = a.monitor.observe(set); err != nil {
			return nil, err
		}
	}
	if x.RingReplaced {
		if h.ring, err = ring.NewProducer(ringConfig(set)); err != nil {
			return nil, err
		}
	}
	return h, a.attachAdded(h)
}

// attachAdded protects the identifiers of interfaces that are not filtered yet, and then filters them: all of them, or none.
func (a *Agent) attachAdded(h *handover) (err error) {
	var options []loader.BusOptions
	for _, i := range h.set.Interfaces {
		if !hasInterface(a.opts.Set, i.Index) {
			o := busOptions(h.set, i)
			o.Hook = a.opts.Hook
			options = append(options, o)
			a.core.tables.Counters[i.Index].Reset() // the filter's begin at 0, too
		}
	}
	if len(options) == 0 {
		return nil
	}
	for i := range h.set.Streams {
		s := &h.set.Streams[i]
		if hasInterface(a.opts.Set, s.Interface.Index) {
			continue
		}
		if err := a.maps.Streams().Set(streamKey(s), h.at.entry(s)); err != nil {
			return fmt.Errorf("protect %s on %s: %w", s.CANID, s.Interface.Name, err)
		}
	}
	if h.added, err = a.maps.Attach(options...); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

func hasInterface(set *policy.Set, index uint8) bool {
	return slices.ContainsFunc(set.Interfaces, func(i policy.Interface) bool { return i.Index == index })
}

// takeBack undoes prepare. The interfaces that it opens were open before.
func (a *Agent) takeBack(h *handover) error {
	var errs []error
	for _, b := range h.added {
		errs = append(errs, a.maps.Detach(b.Slot()), a.maps.Release(b))
	}
	h.added = nil
	for i := range h.set.Streams {
		if s := &h.set.Streams[i]; !hasInterface(a.opts.Set, s.Interface.Index) {
			if err := a.maps.Streams().Delete(streamKey(s)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if h.ring != nil {
		errs = append(errs, h.ring.Close())
	}
	return errors.Join(errs...)
}

// change makes the loop go on by other documents, between two batches. With an error everything is as it was.
//
// The order, and what a kill -9 leaves behind each step:
//
//  1. Identifiers get their new entries, each in one step of the kernel. None is open at any instant. The tables have the old hash,
//     which fits neither documents any more if an entry was replaced: the next start renews them, so that everything up to the
//     ceilings counts as seen. If none was replaced, they are still those of the old documents.
//  2. The epochs of nodes that are removed or changed end, first in the filter. The next start by the old documents has them in
//     its state, with windows or with ceilings (see takeOver).
//  3. The hash of the new documents: from here on the tables are theirs. Slots and indexes of what did not change are the same
//     before and after, so their windows go on whatever the start finds.
//  4. Only now identifiers and interfaces that the operator has taken out are opened. The next start takes out what is left.
//
// An attacker on the bus gains nothing from it: at every instant each protected identifier of the old documents is closed, or, in
// step 4, is none any more; a window is empty only under a node without epochs; and nothing that was accepted once is fresh
// anywhere, because windows move to no other slot.
func (a *Agent) change(h *handover, saves *saver) (err error) {
	begun := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() { h.paused = time.Since(begun) }()
	producer, readers := a.ring, a.readers
	out := a.core.out
	if h.ring != nil {
		out = h.ring
	}
	next, err := a.core.successor(h.set, h.at, out)
	if err != nil {
		return fmt.Errorf("lay out new streams: %w", err)
	}
	was := a.core
	kept, removed := a.partBuses(h.set)
	buses := append(kept, h.added...)
	poller, err := newPoller(buses)
	if err != nil {
		return err
	}
	for _, slot := range h.at.slots {
		if !slices.Contains(a.at.slots, slot) {
			a.seen().place(slot)
		}
	}
	undo, err := a.setEntries(h)
	if err != nil {
		return errors.Join(err, poller.Close(), undo())
	}
	if h.ring != nil {
		// The socket is taken over in one step: a reader that comes now gets the new ring, in which nothing is published yet.
		if readers, err = serveRing(h.ring, h.set.Binding.Gateway.Ring, true); err != nil {
			return errors.Join(err, poller.Close(), undo())
		}
		producer = h.ring
	}
	// From here on nothing fails any more that could be taken back.
	if h.observed != nil {
		next.notes = h.observed.table
	}
	ended, err := a.core.takeOver(next)
	if err != nil {
		// Documents that were checked have no such window or period. The account of a stream is then as it was before.
		a.log.Error("account of missing samples could not be changed", "event", "gap_account", "error", err.Error())
	}
	a.maps.SetBinding(h.hash)
	a.core, a.opts.Set, a.at, a.buses = next, h.set, h.at, buses
	for _, n := range ended {
		a.log.Warn("epochs of the node have ended; agree a new one if it is still wanted", "event", "epoch_ended", "node", n.name)
	}
	for _, b := range h.added {
		a.links.add(b)
		a.log.Info("interface is filtered", "event", "interface_added", "interface", b.Name())
	}
	if h.ring != nil {
		a.swapRing(producer, readers)
	}
	if err := a.deleteOthers(); err != nil {
		a.log.Error("identifiers that the documents do not have stay closed", "event", "open_failed", "error", err.Error())
	}
	for _, b := range removed {
		a.links.drop(b)
		if err := a.removeBus(b, was); err != nil {
			a.log.Error("interface that the documents do not have could not be let go", "event", "open_failed", "interface", b.Name(), "error", err.Error())
		}
	}
	// What was refused up to here is told as what it was, of streams that have ended, too, and under the documents that have them.
	for _, b := range buses {
		a.seen().look(b, a.now(), false, was, next)
	}
	if h.observed != nil {
		a.monitor.change(h.observed)
	}
	a.wakeMu.Lock()
	_ = a.poller.Close()
	a.poller = poller
	a.wakeMu.Unlock()
	h.saves = saves
	h.saved, h.put = a.save(saves)
	return nil
}

// partBuses tells the buses that a set has from those that it does not have.
func (a *Agent) partBuses(set *policy.Set) (kept, removed []*loader.Bus) {
	for _, b := range a.buses {
		if hasInterface(set, uint8(b.Slot())) {
			kept = append(kept, b)
		} else {
			removed = append(removed, b)
		}
	}
	return kept, removed
}

// setEntries puts the streams of the new documents into the filter's table where it does not have them so. undo, which is never
// nil, puts back what was there.
func (a *Agent) setEntries(h *handover) (undo func() error, err error) {
	table := a.maps.Streams()
	was, err := table.All()
	if err != nil {
		return func() error { return nil }, err
	}
	var done []loader.StreamKey
	undo = func() error {
		var errs []error
		for _, key := range done {
			if e, ok := was[key]; ok {
				errs = append(errs, table.Set(key, e))
			} else {
				errs = append(errs, table.Delete(key))
			}
		}
		return errors.Join(errs...)
	}
	for i := range h.set.Streams {
		s := &h.set.Streams[i]
		key, e := streamKey(s), h.at.entry(s)
		if was[key] == e {
			continue
		}
		if err := table.Set(key, e); err != nil {
			return undo, fmt.Errorf("protect %s on %s: %w", s.CANID, s.Interface.Name, err)
		}
		done = append(done, key)
	}
	return undo, nil
}

// swapRing hands readers over. Everything published so far lies in the old ring, which is marked as ended before its readers are
// let go: they read it to its end, and those that follow find the new one at the socket, from its first sample on.
func (a *Agent) swapRing(producer *ring.Producer, readers *ring.Server) {
	old, served := a.ring, a.readers
	producer.SetFault(old.Fault())
	producer.Beat()
	a.ring, a.readers = producer, readers
	old.Finish()
	if err := errors.Join(served.Close(), old.Close()); err != nil {
		a.log.Error("ring of the documents before could not be closed", "event", "ring_close_failed", "error", err.Error())
	}
}

// removeBus takes the filter off an interface, gives what lies in its rings the verdicts that are due, and lets it go. was is the core that
// has known it.
func (a *Agent) removeBus(b *loader.Bus, was *core) (err error) {
	defer func() {
		a.seen().look(b, a.now(), true, was)
		a.seen().forget(b.Slot())
		delete(a.linked, b)
		err = errors.Join(err, a.maps.Release(b))
	}()
	if err := a.maps.Detach(b.Slot()); err != nil {
		return err // it goes on filtering, without a stream; the next start tries again
	}
	var batch [BatchSize]loader.Record
	for {
		n, err := b.Candidates().Peek(batch[:])
		if err == nil && n > 0 {
			err = a.core.process(batch[:n], false)
		}
		b.Candidates().Release()
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	for {
		n, err := b.Control().Peek(batch[:])
		if n > 0 {
			a.core.startRecords(batch[:n], a.now())
		}
		b.Control().Release()
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	a.log.Warn("interface is not filtered any more", "event", "interface_removed", "interface", b.Name(), "slot", b.Slot())
	return nil
}
