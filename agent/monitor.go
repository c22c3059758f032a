// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/chain"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/event/sink"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/vault"
)

// Names in the state folder.
const (
	// EventsFolder is the folder of the event log.
	EventsFolder = "events"
	faultsFile   = "faults.json"
	headFile     = "events-head.json"
)

// monitorPoll is the time between two turns: how long evidence waits at most before it counts.
const monitorPoll = event.DefaultPoll

// closeGrace is how long a destination may take at the end.
const closeGrace = 2 * time.Second

// monitor turns what the pipeline notes into events and faults, beside the data path. Its lock comes behind Agent.mu.
type monitor struct {
	log     *slog.Logger
	station *station.Station // nil: nothing is kept
	bootID  [16]byte
	kept    bool // there is a log, or will be
	queues  []*sink.Queue
	ledger  *ledger
	follow  *followers

	saving sync.Mutex // one write of the faults at a time, in the order of what they say

	mu     sync.Mutex
	now    *observed
	totals [kind.NumKinds]uint64
	dirty  bool // faults are to be stored
	failed bool // storing them has failed
	// passed says that faults are another process's by now.
	passed bool
}

// observed is what belongs to one set of documents.
type observed struct {
	set       *policy.Set
	table     *event.Table
	collector *event.Collector
	machine   *fault.Machine
}

// newMonitor makes a monitor of the documents in opts. It holds what it is told until it is run.
func newMonitor(opts *Options) (*monitor, error) {
	m := &monitor{log: opts.Log, station: opts.Station, kept: opts.Station != nil || opts.Upgrade, follow: newFollowers()}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		if m.bootID, err = event.ParseBootID(string(b)); err != nil {
			return nil, err
		}
	}
	m.ledger = newLedger(m.report, m.saveHead)
	var err error
	if m.queues, err = openDestinations(opts.Set.Binding, opts.Privileges, opts.Events); err != nil {
		return nil, err
	}
	if m.now, err = m.observe(opts.Set); err != nil {
		return nil, errors.Join(err, m.closeQueues())
	}
	if err := m.loadFaults(); err != nil {
		return nil, errors.Join(err, m.closeQueues())
	}
	return m, nil
}

// observe lays out what a set needs.
func (m *monitor) observe(set *policy.Set) (*observed, error) {
	hash, err := documentsHash(set)
	if err != nil {
		return nil, err
	}
	d := event.NewDirectory(set)
	o := &observed{set: set, table: event.NewTable(d), machine: fault.New(d)}
	all := []event.Destination{m.follow}
	for _, q := range m.queues {
		all = append(all, q)
	}
	if m.kept {
		all = append(all, m.ledger)
	}
	o.collector = event.NewCollector(event.CollectorOptions{
		Table: o.table, BootID: m.bootID, PolicyHash: hash, Destinations: all, Facts: func(f []event.Fact) { m.take(o, f) },
	})
	return o, nil
}

// documentsHash identifies both documents by what they say.
func documentsHash(set *policy.Set) (sum [32]byte, err error) {
	h := sha256.New()
	for _, d := range []policy.Document{set.Policy, set.Binding} {
		b, err := policy.Marshal(d)
		if err != nil {
			return sum, fmt.Errorf("hash documents: %w", err)
		}
		h.Write(b)
	}
	return [32]byte(h.Sum(nil)), nil
}

// take counts facts and gives them to the faults. mu is held.
func (m *monitor) take(o *observed, facts []event.Fact) {
	for _, f := range facts {
		if f.Kind.Valid() {
			m.totals[f.Kind] += f.Count
		}
	}
	if m.passed {
		return
	}
	m.announce(o, o.machine.Take(facts))
}

// announce reports what has become of faults. mu is held.
func (m *monitor) announce(o *observed, all []fault.Transition) {
	if m.passed {
		return
	}
	for i := range all {
		if all[i].Kind == kind.None {
			continue // suspicion that went away
		}
		r := all[i].Record()
		m.totals[r.Kind] += r.Count
		o.collector.Report(r)
	}
	m.dirty = m.dirty || o.machine.Dirty()
}

// report hands over a record of its own, and its evidence to the faults. Kind, subject and text are enough.
func (m *monitor) report(r event.Record) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Count = max(r.Count, 1)
	m.now.collector.Report(r)
	m.take(m.now, []event.Fact{{Kind: r.Kind, Subject: r.Subject, Count: r.Count, At: bootTime()}})
}

// table returns where the pipeline notes what it sees; nil if nobody wants to know.
func (m *monitor) table() *event.Table {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now.table
}

// change goes on by other documents. Faults of sources that they have, too, stand as they were.
func (m *monitor) change(o *observed) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.collector.Flush()
	absent, err := o.machine.Decode(m.now.machine.Encode(), bootTime())
	if err != nil {
		m.log.Error("faults could not be taken over", "event", "faults_refused", "error", err.Error())
	}
	m.warnAbsent(absent)
	m.now, m.dirty = o, true
}

// openLog opens the event log. It is called by the agent's user, behind the advance of the state's generation.
func (m *monitor) openLog() error {
	if m == nil || m.station == nil {
		return nil
	}
	log, err := m.newLog(1)
	if err != nil {
		return err
	}
	m.ledger.open(log)
	return nil
}

// newLog opens the log where nobody else has it, and then asks the TPM for the generation, as often as tries at most.
func (m *monitor) newLog(tries int) (*chain.Log, error) {
	o := chain.Options{Dir: filepath.Join(m.station.Dir.Path(), EventsFolder)}
	if m.station.Signer != nil {
		o.Signer = chain.Identity{Key: m.station.Signer}
	}
	var err error
	if o.Known, err = m.loadHead(); err != nil {
		return nil, err
	}
	log, err := chain.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	if m.station.Counters == nil {
		return log, nil
	}
	for ; ; tries-- {
		g, err := m.station.Counters.Generation.Value()
		if err == nil {
			log.SetGeneration(g)
			return log, nil
		}
		if tries <= 1 {
			// Without the counter the heads say less; without a log nothing would be said.
			m.report(event.Record{Kind: kind.TPMUnavailable, Detail: err.Error()})
			return log, nil
		}
		time.Sleep(ledgerSettle)
	}
}

// headNote is the last signed head as the state folder has it.
type headNote struct {
	Head string `json:"head"` // chain.Head as text
}

func (m *monitor) loadHead() (*chain.Head, error) {
	b, err := m.station.Dir.ReadFile(headFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var n headNote
	h := chain.Head{}
	if err = json.Unmarshal(b, &n); err == nil {
		h, err = chain.ParseHead(n.Head)
	}
	if err != nil {
		// Whoever has damaged the note gains that a cut of the log is not noticed here, which is why this is said.
		m.report(event.Record{Kind: kind.LogDamaged, Detail: fmt.Sprintf("note of the last signed head in %s: %v", headFile, err)})
		return nil, nil
	}
	return &h, nil
}

func (m *monitor) saveHead(h chain.Head) error {
	b, err := json.Marshal(headNote{h.String()})
	if err != nil {
		return fmt.Errorf("encode head of event log: %w", err)
	}
	return vault.Replace(m.station.Dir, headFile, b)
}

// loadFaults takes up the faults that stood when the last agent ended.
func (m *monitor) loadFaults() error {
	if m.station == nil {
		return nil
	}
	b, err := m.station.Dir.ReadFile(faultsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	unknown, err := m.now.machine.Decode(b, bootTime())
	if err != nil {
		// What stood is not known any more: that is evidence against all that this gateway says.
		m.report(event.Record{Kind: kind.StateRefused, Detail: fmt.Sprintf("%s: %v", faultsFile, err)})
		return nil
	}
	m.warnAbsent(unknown)
	return nil
}

// warnAbsent says which faults nobody sees under these documents.
func (m *monitor) warnAbsent(sources []string) {
	for _, name := range sources {
		m.log.Warn("fault is of a source that the binding does not have: it stands again when the source comes back", "event", "fault_absent", "source", name)
	}
}

// saveFaults stores the faults if they have changed.
func (m *monitor) saveFaults() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	m.mu.Lock()
	if !m.dirty || m.station == nil || m.passed {
		m.mu.Unlock()
		return nil
	}
	b := m.now.machine.Encode()
	m.dirty = false
	m.mu.Unlock()
	err := vault.Replace(m.station.Dir, faultsFile, b)
	m.mu.Lock()
	again := m.failed
	m.failed = err != nil
	m.dirty = m.dirty || err != nil
	m.mu.Unlock()
	if err != nil && !again {
		m.report(event.Record{Kind: kind.StateWriteFailed, Detail: err.Error()})
	}
	return err
}

// turn makes records, lets faults age, and shows their state to readers of the ring.
func (m *monitor) turn(a *Agent) {
	a.mu.Lock()
	if m.over() {
		a.mu.Unlock()
		return
	}
	a.tellCounts(false)
	a.mu.Unlock()
	m.mu.Lock()
	m.now.collector.Turn()
	m.announce(m.now, m.now.machine.Advance(bootTime()))
	m.mu.Unlock()
	a.mu.Lock()
	m.show(a)
	a.mu.Unlock()
	_ = m.saveFaults() // it has reported why not, and is tried again
}

// show sets the ring's fault word, and the flag of the samples to come. a.mu is held.
func (m *monitor) show(a *Agent) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.passed || m.now.set != a.opts.Set {
		return // between two sets of documents, or nobody's any more
	}
	state := m.now.machine.State()
	var record ring.FaultRecord
	if state >= fault.Raised {
		record = faultRecord(m.now.set.Binding, m.now.machine.Views(), a.now())
	}
	a.ring.SetFault(state)
	a.ring.SetFaultRecord(record)
	for _, s := range a.core.streams {
		flags := ring.Flags(0)
		for _, i := range m.now.table.Directory().Sources(event.Stream(s.Slot)) {
			if !s.heartbeat && m.now.machine.Source(i) >= fault.Raised {
				flags = ring.FlagFault
			}
		}
		s.flag(flags)
	}
}

// run takes turns until ctx ends.
func (m *monitor) run(ctx context.Context, a *Agent) {
	tick := time.NewTicker(monitorPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.turn(a)
		}
	}
}

// part makes a record of all that was noted, and lets those go who follow.
func (m *monitor) part() {
	m.mu.Lock()
	m.flush()
	m.mu.Unlock()
	m.follow.close()
}

// flush makes a record of all that was noted. mu is held.
func (m *monitor) flush() {
	m.now.collector.Flush()
	m.announce(m.now, m.now.machine.Advance(bootTime()))
	m.now.collector.Flush()
}

// close makes a record of all that was noted and delivers what the destinations take.
func (m *monitor) close() error {
	m.part()
	if err := m.closeQueues(); err != nil {
		// What a destination has not taken is in the log. It is no reason to have stopped badly.
		m.log.Warn("events could not be delivered before the end", "event", "events_undelivered", "error", err.Error())
	}
	return errors.Join(m.saveFaults(), m.ledger.close())
}

func (m *monitor) closeQueues() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	var errs []error
	for _, q := range m.queues {
		errs = append(errs, q.Close(ctx))
	}
	return errors.Join(errs...)
}

// Events is what `cellward status` shows of events: since the agent was started, how many of each kind there were, and what has
// become of the records.
type Events struct {
	Counts       map[string]uint64 `json:"counts"` // by kind
	Destinations []sink.Stats      `json:"destinations"`
}

// Fault is what `cellward status` shows of the BMS Security Fault.
type Fault struct {
	State  string       `json:"state"` // the ring's fault word: ok, suspect, fault or latched
	Faults []fault.View `json:"faults"`
}

// status returns what is known of events and faults.
func (m *monitor) status() (e Events, f Fault) {
	e.Counts, e.Destinations, f.State, f.Faults = make(map[string]uint64), []sink.Stats{}, fault.OK.String(), []fault.View{}
	if m == nil {
		return e, f
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.totals {
		if n > 0 {
			e.Counts[kind.Kind(k).String()] = n
		}
	}
	if m.station != nil {
		e.Destinations = append(e.Destinations, m.ledger.Stats())
	}
	for _, q := range m.queues {
		e.Destinations = append(e.Destinations, q.Stats())
	}
	f.State, f.Faults = m.now.machine.State().String(), m.now.machine.Views()
	return e, f
}

// watch begins to turn notes into events. The function that it returns ends that.
func (a *Agent) watch() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.mu.Lock()
	a.tellCounts(false) // the first look
	a.monitor.show(a)
	a.mu.Unlock()
	go func() {
		defer close(done)
		a.monitor.run(ctx, a)
	}()
	return func() {
		cancel()
		<-done
	}
}

// nodeSubject is what an event about a node of the documents in effect is about; the gateway, if they do not have it.
func (a *Agent) nodeSubject(name string) event.Subject {
	if n, ok := a.opts.Set.Node(name); ok {
		return event.Node(n.Index)
	}
	return event.Subject{}
}

// tellLosses notes samples that were committed and never published, which only the death of an agent between the two causes.
func (a *Agent) tellLosses(s *stream) {
	if lost := s.shared.Committed.Load() - s.shared.Published.Load(); lost != 0 {
		a.core.tell(event.Note{Kind: kind.LostInCrash, Subject: event.Stream(s.Slot), Count: lost, Time: a.now()})
	}
}

// tellFailures notes what goes on failing, once at each call. mu is held.
func (a *Agent) tellFailures() {
	if a.saveError() != nil {
		a.core.tell(event.Note{Kind: kind.StateWriteFailed, Time: a.now()})
	}
}
