// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cellward/cellward/loader"
)

// takeFormer opens the rings of sets that the tables have come from, now that every program of this agent is in its place. It is called
// with all rights.
func (a *Agent) takeFormer() (err error) {
	if m := a.maps.Migrated(); m != nil {
		a.log.Warn("tables were those of another layout and are migrated", "event", "tables_migrated", "from", m.From.String(), "counts_dropped", m.Dropped)
	}
	a.former, err = a.maps.Former()
	return err
}

// closeFormer lets go of what was not read, and leaves it pinned for the next agent.
func (a *Agent) closeFormer() error {
	var errs []error
	for _, f := range a.former {
		errs = append(errs, f.Close())
	}
	a.former = nil
	return errors.Join(errs...)
}

// readFormer deals with all that the filter has handed over in rings of another layout: it came in before everything in the rings of this
// one, and nothing is added to it any more. The position is kept in the rings, so that an agent that is killed here has read each record
// at most twice, as everywhere, and the window decides.
func (a *Agent) readFormer(saves *saver) error {
	if len(a.former) == 0 {
		return nil
	}
	for _, f := range a.former {
		known := slices.ContainsFunc(a.buses, func(b *loader.Bus) bool { return b.Slot() == f.Slot })
		var err error
		if known && f.Readable {
			if err = a.readFormerBus(f, saves); err != nil && !errors.Is(err, loader.ErrRingCorrupt) {
				return err // it stays where it is, for the next agent
			}
		}
		// What is left then is of an interface that is not filtered any more, in records that this build cannot read, or behind one that is
		// damaged. None of it may keep the agent from going on.
		candidates, control, derr := f.Discard()
		if n := candidates + control; n > 0 || err != nil || derr != nil {
			a.mu.Lock()
			if int(f.Slot) < len(a.core.tables.Counters) {
				a.core.tables.Counters[f.Slot].Add(loader.AgentUnknownStream, n)
			}
			a.mu.Unlock()
			a.log.Error("frames in a ring of another layout could not be read", "event", "former_frames_lost", "slot", f.Slot, "layout", f.Layout.String(),
				"candidates", candidates, "start_records", control, "reason", fmt.Sprint(errors.Join(err, derr)))
		}
	}
	err := a.closeFormer()
	return errors.Join(err, a.maps.DropFormer())
}

func (a *Agent) readFormerBus(f *loader.FormerBus, saves *saver) error {
	var batch, starts [BatchSize]loader.Record
	for again, n := !a.inherited, 1; n > 0; again = false {
		n = 0
		var err error
		if f.Candidates != nil {
			if n, err = f.Candidates.Peek(batch[:]); err != nil {
				return fmt.Errorf("take batch: %w", err)
			}
		}
		if f.Control != nil {
			if _, err := a.drainStarts(f.Control, starts[:], saves); err != nil {
				return err
			}
		}
		if n == 0 {
			return nil
		}
		a.mu.Lock()
		err = a.core.process(batch[:n], again)
		a.mu.Unlock()
		if err != nil {
			return fmt.Errorf("process batch: %w", err)
		}
		f.Candidates.Release()
	}
	return nil
}

// moveIn puts tables of this layout into effect in place of those of the predecessor, which has ended, and does what an agent does at its
// start. Until here the predecessor could have gone on as if nothing had been; from here on, whatever fails, the next start finds the new
// tables, filled, and programs that go by the old ones or by the new ones: closed either way.
func (s *succession) moveIn(ctx context.Context) error {
	a := s.Agent
	if err := a.maps.Commit(); err != nil {
		return err
	}
	var err error
	if a.buses, err = s.prepared.Attach(); err != nil {
		s.prepared = nil // has taken itself back
		return fmt.Errorf("attach filter: %w", err)
	}
	if err := a.takeFormer(); err != nil {
		return err
	}
	return s.settleIn(ctx)
}

// settleIn is what follows on Attach.
func (s *succession) settleIn(ctx context.Context) (err error) {
	if err := s.givePins(); err != nil {
		return err
	}
	if s.links, err = keepLinks(s.log, s.maps, nil, s.buses); err != nil {
		return err
	}
	if err := s.dropPrivileges(ctx); err != nil {
		return err
	}
	return s.confine()
}
