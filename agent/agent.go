// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/notify"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/secretmem"
	"github.com/cellward/cellward/loader"
)

// tickEvery is the time between two looks at everything that comes with time.
const tickEvery = time.Second

// Options for Run. Set, Store and Log are required.
type Options struct {
	Set   *policy.Set
	Store *Store
	Log   *slog.Logger
	// Engine names the engine that opens batches; empty: the fastest that this CPU runs and that can be trusted.
	Engine string
	// Events takes the lines of events for a destination of type stderr; nil: nobody does.
	Events io.Writer
	// Version is what status says about the build.
	Version string
	// Hook is loader.HookTCX or loader.HookClsact; empty: tcx where the kernel has it.
	Hook string
	// RequireInterfaces makes an interface that is missing at the start an error. Else the others are protected, and the missing
	// one when it appears: refusing to start would leave them all open.
	RequireInterfaces bool
	// Documents are the paths of the documents that Set was made from. Each value on Reload makes the agent read them again.
	Documents DocumentPaths
	Reload    <-chan os.Signal
	// Station is what keys are agreed with while the agent runs; nil: they are not.
	Station *station.Station
	// Privileges says what rights are given up once the filter is attached; nil: none.
	Privileges *Privileges
	// Before are events from before Run.
	Before []event.Record
	// Notify tells the service manager of start, progress and stop; nil: nobody is told.
	Notify *notify.Notifier
	// Metrics makes the control socket's page of metrics for the agent, and returns what ends with the agent. nil: there is none.
	Metrics func(*Agent) (http.Handler, io.Closer, error)
	// Upgrade has RunGateway take over from the agent that runs, if one does. With UnlessSame it returns nil at once if that one runs
	// the same file as this process.
	Upgrade, UnlessSame bool
}

// Agent is a running gateway pipeline. Its methods are safe for concurrent use with Run.
type Agent struct {
	opts   Options
	log    *slog.Logger
	engine aead.Engine
	// keyMem is where the engine keeps expanded keys.
	keyMem *aead.KeyMemory
	state  *epoch.State
	maps   *loader.Set
	at     *placement
	buses  []*loader.Bus
	former []*loader.FormerBus // that are not read yet
	links  *linkKeeper
	core   *core
	ring   *ring.Producer
	// readers hands the ring out; it is there before the first Status.
	readers *ring.Server
	monitor *monitor
	began   time.Time
	// resumed says that the tables held what an earlier run has left, inherited that the run goes on in this process.
	resumed, inherited bool

	// mu is held for the length of a batch or a tick, and by whoever reads what they change.
	mu sync.Mutex

	// changing is held by whoever brings new documents, from the look at them to the end. changes hands them to the loop, and
	// ended says that it takes none any more.
	changing sync.Mutex
	changes  chan *handover
	ended    chan struct{}
	// handedOver, which changing guards, says that a successor has taken over.
	handedOver bool
	// batons hands a successor to the loop. openedAs is the user that this process was started by.
	batons   chan *baton
	openedAs int
	// executable is the file that this process runs: device and inode.
	executable [2]uint64
	control    *control.Server
	scrapes    io.Closer // of metrics
	// documents is what status says of changes; mu guards it.
	documents DocumentsStatus

	// wakeMu guards the poller against those who wake it while it is exchanged.
	wakeMu sync.Mutex
	poller *loader.Poller

	// counted and linked are what the filters had counted, and how the buses were, at the last look; mu guards them.
	counted *counted
	linked  map[*loader.Bus]LinkStatus
	// watched ends what watch has begun.
	watched func()

	failMu sync.Mutex
	failed error // the last failure to save, for status
	// unretired is why the hardware still opens what was retired; nil: it does not.
	unretired error

	// keys works on keys while the loop runs; due remembers which keys were said to be due.
	keys  atomic.Pointer[keyManager]
	due   map[dueKey]int64
	saves SaveStatus
}

// Run starts the pipeline and returns when ctx ends (nil, after a clean stop) or when it cannot go on. The filter stays
// attached either way: protected identifiers stay closed, and what comes in meanwhile waits in the pinned rings.
func Run(ctx context.Context, opts Options) (err error) {
	a, err := newAgent(opts)
	if err != nil {
		return err
	}
	// Last of all: what went wrong on the way is said, too.
	defer func() { err = errors.Join(err, a.monitor.close()) }()
	state, missing, err := opts.Store.Load()
	if err != nil {
		return err
	}
	a.state = state
	defer a.state.Wipe()
	for _, id := range missing {
		a.log.Error("epoch is not accepted; agree a new one", "event", "epoch_refused", "kid", id.Node.String(), "epoch", id.Epoch, "reason", "its secret is missing")
		a.monitor.report(event.Record{Kind: kind.EpochRefused, Epoch: id.Epoch, Detail: fmt.Sprintf("identity %s: its secret is missing", id.Node)})
	}
	if err := a.openTables(true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.closeFormer(), a.maps.Close()) }()
	if a.ring, err = ring.NewProducer(ringConfig(opts.Set)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.ring.Close()) }()
	if err := a.resume(); err != nil {
		return err
	}
	defer func() { a.core.wipe() }() // new documents exchange it
	if err := a.attach(); err != nil {
		return err
	}
	if err := a.takeFormer(); err != nil {
		return err
	}
	if err := a.givePins(); err != nil {
		return err
	}
	// With all rights still: listening to error frames may need some.
	if a.links, err = keepLinks(a.log, a.maps, nil, a.buses); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.links.close()) }()
	if err := a.openOthers(); err != nil {
		return err
	}
	if err := a.dropPrivileges(ctx); err != nil {
		return err
	}
	if err := a.monitor.openLog(); err != nil {
		return err
	}
	a.reportKeyMemory()
	// What the TPM and the libraries have left on the way to here.
	secretmem.Collect()
	a.opts.Store.secretsChanged() // that was the erasure for what the start has changed
	a.monitor.show(a)             // before anybody reads
	if err := a.serve(); err != nil {
		return err
	}
	defer func() { err = a.endService(err) }()
	if err := a.confine(); err != nil {
		return err
	}
	return a.inService(ctx)
}

// newAgent chooses the engine, and begins to take down what is to become an event. Its monitor is the caller's to close.
func newAgent(opts Options) (*Agent, error) {
	keyMem := new(aead.KeyMemory)
	selected, err := aead.Select(aead.Options{Engine: opts.Engine, Keys: keyMem})
	if err != nil {
		return nil, err
	}
	file, err := executable()
	if err != nil {
		return nil, err
	}
	m, err := newMonitor(&opts)
	if err != nil {
		return nil, err
	}
	for _, r := range selected.Refused {
		opts.Log.Error("engine is not trusted and not used", "event", "engine_refused", "engine", r.Name, "error", r.Err.Error())
		m.report(event.Record{Kind: kind.EngineRefused, Detail: fmt.Sprintf("%s: %v", r.Name, r.Err)})
	}
	for _, r := range opts.Before {
		m.report(r)
	}
	return &Agent{
		executable: file, opts: opts, log: opts.Log, engine: selected.Engine, keyMem: keyMem, monitor: m, began: time.Now(),
		changes: make(chan *handover, 1), ended: make(chan struct{}), batons: make(chan *baton, 1), openedAs: os.Geteuid(),
	}, nil
}

// inService runs an agent that has its sockets, until ctx ends or another process has taken over.
func (a *Agent) inService(ctx context.Context) error {
	if a.opts.Reload != nil {
		go a.reload(a.opts.Reload)
	}
	a.watched = a.watch()
	a.monitor.report(event.Record{Kind: kind.AgentStarted, Detail: fmt.Sprintf("version %s, policy %s, binding %s, engine %s, resumed %t, taken over %t",
		a.opts.Version, a.opts.Set.Policy.Name, a.opts.Set.Binding.Name, a.engine.Name(), a.resumed, a.inherited)})
	a.log.Info("agent is running", "policy", a.opts.Set.Policy.Name, "binding", a.opts.Set.Binding.Name, "engine", a.engine.Name(),
		"streams", len(a.opts.Set.Streams), "interfaces", len(a.buses), "resumed", a.resumed)
	return a.loop(ctx)
}

// endService ends what inService and serve have begun; err is how it went.
func (a *Agent) endService(err error) error {
	if a.watched != nil {
		a.watched()
	}
	a.monitor.part() // while those who follow can be told
	// Whoever brings documents now is told that it is too late, and has let go of tables and rings before they are closed.
	close(a.ended)
	a.changing.Lock()
	a.ring.Finish()
	a.changing.Unlock()
	if errors.Is(err, errHandedOver) {
		a.control.Release()
		return errors.Join(a.scrapes.Close(), a.readers.Release())
	}
	return errors.Join(err, a.control.Close(), a.scrapes.Close(), a.readers.Close())
}

// openTables opens the pinned tables and finds the places of streams and nodes in them. Tables that are of other documents, or
// that an agent was killed over before it had filled them, are renewed: nothing in them says what it would say here. The filter
// goes on with them and refuses everything until the epochs are taken up. Tables of another layout are migrated where the caller has the
// lock of the state folder, by which nobody else goes by their windows.
func (a *Agent) openTables(migrate bool) (err error) {
	a.maps, err = loader.Open(loader.Options{Root: a.opts.Set.Binding.Gateway.BPFFS, Migrate: migrate})
	if err != nil {
		return fmt.Errorf("open shared tables: %w", err)
	}
	hash, err := a.place()
	if err != nil {
		return errors.Join(err, a.maps.Close())
	}
	if a.maps.Fresh() || a.maps.Binding() != hash {
		if a.log != nil && !a.maps.Fresh() {
			a.log.Warn("tables are of other documents; what lies below the ceilings counts as seen", "event", "tables_renewed")
		}
		a.maps.Renew()
	}
	return nil
}

// place finds the places of streams and nodes and returns the hash of what they mean.
func (a *Agent) place() (hash [32]byte, err error) {
	table, err := a.maps.Streams().All()
	if err != nil {
		return hash, err
	}
	if a.at, err = placeAmong(a.opts.Set, table); err != nil {
		return hash, fmt.Errorf("place streams in the filter's tables: %w", err)
	}
	return a.at.hash(a.opts.Set)
}

// resume lays the pipeline over the tables, takes up the epochs, and makes durable that they are in use.
func (a *Agent) resume() error {
	a.resumed = !a.maps.Fresh()
	hash, err := a.at.hash(a.opts.Set)
	if err != nil {
		return err
	}
	a.core = newCore(a.engine, a.opts.Set, a.at, a.state, Tables{
		Windows: a.maps.Windows(), Epochs: a.maps.Epochs(), Starts: a.maps.Starts(), Counters: a.maps.AgentCounters(),
	}, a.ring)
	a.core.notes = a.monitor.table()
	refused, err := a.core.resume(a.state, a.opts.Set, !a.resumed, a.now(), time.Now().UnixNano(), a.limit())
	if err != nil {
		return fmt.Errorf("resume epochs: %w", err)
	}
	for _, r := range refused {
		a.log.Error("epoch is not accepted; agree a new one", "event", "epoch_refused", "node", r.node, "epoch", r.epoch, "reason", r.reason)
		a.monitor.report(event.Record{Kind: kind.EpochRefused, Subject: a.nodeSubject(r.node), Epoch: r.epoch, Detail: r.reason})
	}
	for _, s := range a.core.streams {
		a.tellLosses(s)
	}
	// What was refused is durably gone, copies of the folder from before are refused by the hardware, and the windows are
	// filled: only now may a later run rely on the tables. Then the epochs are marked as used, with ceilings, before the first
	// frame is accepted. A kill between any two of these steps leaves either new tables, for which all of this is done again,
	// or filled ones.
	if err := a.opts.Store.Advance(a.state); err != nil {
		return err
	}
	a.maps.SetBinding(hash)
	a.maps.MarkReady()
	a.core.markUsed()
	if err := a.opts.Store.Save(a.state); err != nil {
		return err
	}
	a.core.ceilings.settled(a.core.ceilings.wanted)
	return nil
}

// limit is the age in ns beyond which no key is accepted.
func (a *Agent) limit() int64 { return int64(hardLimit(a.opts.Set)) }

// attach protects the identifiers and then sets the hooks: an identifier is closed from the moment its filter runs.
func (a *Agent) attach() error {
	for i := range a.opts.Set.Streams {
		s := &a.opts.Set.Streams[i]
		err := a.maps.Streams().Set(streamKey(s), a.at.entry(s))
		if err != nil {
			return fmt.Errorf("protect %s on %s: %w", s.CANID, s.Interface.Name, err)
		}
	}
	var err error
	if a.buses, err = a.maps.Attach(a.busOptions()...); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// busOptions are those of all interfaces of the documents.
func (a *Agent) busOptions() (buses []loader.BusOptions) {
	for _, i := range a.opts.Set.Interfaces {
		o := busOptions(a.opts.Set, i)
		o.Hook, o.MayBeAbsent = a.opts.Hook, !a.opts.RequireInterfaces
		buses = append(buses, o)
	}
	return buses
}

func busOptions(set *policy.Set, i policy.Interface) loader.BusOptions {
	return loader.BusOptions{Interface: i.Name, Slot: uint32(i.Index), Candidates: set.Binding.Gateway.CandidateRing}
}

// openOthers takes out what the documents do not have: identifiers and interfaces that they had when an earlier agent ran, or that
// an agent was about to take in or out when it was killed. It comes last, when all that they do have is closed; and it is what
// a reboot would come to.
func (a *Agent) openOthers() error {
	if err := a.deleteOthers(); err != nil {
		return err
	}
	pinned, err := a.maps.Pinned()
	if err != nil {
		return err
	}
	for _, slot := range pinned {
		if slices.ContainsFunc(a.opts.Set.Interfaces, func(i policy.Interface) bool { return uint32(i.Index) == slot }) {
			continue
		}
		if err := a.maps.Detach(slot); err != nil {
			return err
		}
		a.log.Warn("interface is not filtered any more", "event", "interface_removed", "slot", slot)
	}
	return nil
}

// deleteOthers takes out of the filter's table what is no stream of the set.
func (a *Agent) deleteOthers() error {
	table, err := a.maps.Streams().All()
	if err != nil {
		return err
	}
	for i := range a.opts.Set.Streams {
		delete(table, streamKey(&a.opts.Set.Streams[i]))
	}
	for key, s := range table {
		if err := a.maps.Streams().Delete(key); err != nil {
			return err
		}
		a.log.Warn("identifier is protected no more", "event", "identifier_opened", "slot", key.Iface, "id", policy.CANID(key.CANID).String(), "stream", s.StreamID)
	}
	return nil
}

// FailClosed attaches the filter by opts.Hook, for a gateway that cannot open its state: whatever is wrong with it, protected
// identifiers reach nobody unverified. Tables are taken as they are, those of a boot without any epoch. It returns the names of
// the interfaces that are absent: one that appears later is open until FailClosed or Run has been called again.
func FailClosed(opts Options) (absent []string, err error) {
	opts.RequireInterfaces = false // a missing interface must not keep the others open
	a := &Agent{opts: opts}
	if err := a.openTables(false); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.maps.Close()) }()
	// Also over tables that an earlier run has filled: its filter is where its interfaces were, and they may have been made anew.
	if err := a.attach(); err != nil {
		return nil, err
	}
	for _, b := range a.buses {
		if b.Index() == 0 {
			absent = append(absent, b.Name())
		}
	}
	return absent, nil
}

// serve opens the sockets for readers and for status.
func (a *Agent) serve() error {
	g := a.opts.Set.Binding.Gateway
	readers, err := serveRing(a.ring, g.Ring, false)
	if err != nil {
		return err
	}
	a.readers = readers
	listener, err := control.Listen(g.Control.Socket, g.Ring.Group)
	if err == nil {
		err = a.serveControl(listener)
	}
	if err != nil {
		return errors.Join(err, readers.Close())
	}
	return nil
}

// serveControl answers at the control socket.
func (a *Agent) serveControl(listener *net.UnixListener) error {
	pages, metrics, err := a.metrics()
	if err != nil {
		return err
	}
	a.control, err = control.ServeListener(listener, a.opts.Set.Binding.Gateway.Control.Socket, map[string]func() any{
		control.StatusPath: func() any { return a.Status() },
		control.KeysPath:   func() any { return a.Keys() },
		FaultPath:          func() any { _, f := a.monitor.status(); return f },
	}, a.actions(), map[string]control.Stream{control.UpgradePath: a.takeSuccessor}, append(pages,
		control.Page{Path: EventsPath, Lines: a.monitor.follow.serve}, control.Page{Path: FramesPath, Lines: a.monitor.writeFrames})...)
	if err != nil {
		return errors.Join(err, metrics.Close())
	}
	a.scrapes = metrics
	return nil
}

// actions are what the control socket does on request.
func (a *Agent) actions() map[string]control.Action {
	all := a.keyActions()
	all[DocumentsPath] = a.takeDocuments
	all[FaultClearPath] = a.clearFault
	return all
}

// serveRing hands a ring out. replace takes the socket over from the ring that was handed out before.
func serveRing(p *ring.Producer, r policy.Ring, replace bool) (*ring.Server, error) {
	gid, err := readersGroup(r)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(r.Socket), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of ring socket: %w", err)
	}
	return ring.Serve(p, ring.ServerConfig{Socket: r.Socket, Group: gid, Replace: replace})
}

// loop drains, opens, commits and publishes until ctx ends, and then stops cleanly.
func (a *Agent) loop(ctx context.Context) error {
	poller, err := newPoller(a.buses)
	if err != nil {
		return err
	}
	// Sockets and signals are answered already, and wake the loop: it looks at what they have brought before it waits first.
	a.wakeMu.Lock()
	a.poller = poller
	a.wakeMu.Unlock()
	defer func() {
		a.wakeMu.Lock()
		defer a.wakeMu.Unlock()
		_ = a.poller.Close()
		a.poller = nil
	}()
	stop := context.AfterFunc(ctx, a.wake)
	defer stop()
	saves := newSaver(a.opts.Store, a.saveReport, a.retireReport, a.eraseReport)
	a.core.ceilings.save = func() bool {
		seq, ok := a.save(saves)
		return ok && saves.wait(seq)
	}
	if a.inherited {
		// What the conversation with the predecessor has left.
		saves.eraser.ask()
	}
	keys := a.manageKeys(ctx, saves)
	if a.opts.Store.stale() {
		saves.hardware.ask(false) // what a predecessor has left to be retired
	}
	a.opts.Notify.Ready(a.readyText())
	err = a.serveRings(ctx, saves)
	if !errors.Is(err, errHandedOver) {
		a.opts.Notify.Stopping()
	}
	if err == nil {
		// At once: a TPM that does not answer may hold up what follows for longer than a service manager waits.
		a.mu.Lock()
		a.core.exact()
		a.save(saves)
		a.mu.Unlock()
	}
	keys.close()
	saves.close()
	if err != nil {
		return err
	}
	return a.stop()
}

// readyText is what the service manager shows of an agent in service.
func (a *Agent) readyText() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("policy %s, binding %s: %d interfaces, %d streams", a.opts.Set.Policy.Name, a.opts.Set.Binding.Name,
		len(a.buses), len(a.opts.Set.Streams))
}

func newPoller(buses []*loader.Bus) (*loader.Poller, error) {
	var rings []*loader.Ring
	for _, b := range buses {
		rings = append(rings, b.Candidates(), b.Control())
	}
	return loader.NewPoller(loader.PollerOptions{}, rings...)
}

// wake ends a wait of the loop.
func (a *Agent) wake() {
	a.wakeMu.Lock()
	defer a.wakeMu.Unlock()
	if a.poller != nil {
		a.poller.Wake()
	}
}

// serveRings takes batches from the interfaces in turn. Start records are looked at after a batch was taken and before it is
// opened: a node sends its first sample 50 ms behind its start, so the start is always there first.
func (a *Agent) serveRings(ctx context.Context, saves *saver) error {
	if err := a.readFormer(saves); err != nil {
		return err
	}
	var batch, starts [BatchSize]loader.Record
	// What lies in a bus's ring when it is looked at first may have been dealt with by an agent that was killed.
	known := make(map[*loader.Bus]bool)
	for _, b := range a.buses {
		known[b] = a.inherited
	}
	nextTick := time.Now()
	for {
		idle := true
		for _, b := range a.buses {
			n, err := b.Candidates().Peek(batch[:])
			if err != nil {
				return fmt.Errorf("take batch of %s: %w", b.Name(), err)
			}
			started, err := a.drainStarts(b.Control(), starts[:], saves)
			if err != nil {
				return fmt.Errorf("%s: %w", b.Name(), err)
			}
			if n > 0 {
				a.mu.Lock()
				err = a.core.process(batch[:n], !known[b])
				if a.core.ceilings.soon {
					a.save(saves)
				}
				a.mu.Unlock()
				if err != nil {
					return fmt.Errorf("process batch of %s: %w", b.Name(), err)
				}
			}
			known[b] = true
			b.Candidates().Release()
			idle = idle && n == 0 && started == 0
		}
		if idle {
			a.mu.Lock()
			a.core.wake()
			a.mu.Unlock()
		}
		if now := time.Now(); !now.Before(nextTick) {
			nextTick = now.Add(tickEvery)
			a.tick(saves)
		}
		select {
		case h := <-a.changes:
			h.done <- a.change(h, saves)
			continue
		case b := <-a.batons:
			if a.passOn(b, saves) {
				return errHandedOver
			}
			continue
		default:
		}
		if ctx.Err() != nil {
			return nil
		}
		if !idle {
			continue
		}
		switch err := a.poller.Wait(nextTick); {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, loader.ErrWoken):
		default:
			return fmt.Errorf("wait for records: %w", err)
		}
	}
}

// drainStarts judges all start records of a ring.
func (a *Agent) drainStarts(r *loader.Ring, batch []loader.Record, saves *saver) (total int, err error) {
	for {
		n, err := r.Peek(batch)
		if err != nil {
			return total, fmt.Errorf("take start records: %w", err)
		}
		if n == 0 {
			r.Release()
			return total, nil
		}
		a.mu.Lock()
		a.core.startRecords(batch[:n], a.now())
		if a.core.dirty {
			a.save(saves)
		}
		a.mu.Unlock()
		r.Release()
		total += n
	}
}

// tick does what is due once a second.
func (a *Agent) tick(saves *saver) {
	a.ring.Beat()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opts.Notify.Alive()
	for _, e := range a.core.tick(a.now(), time.Now().UnixNano(), a.limit()) {
		a.log.Error("key is beyond its hard limit and is not accepted any more", "event", "key_expired", "node", e.node,
			"epoch", e.epoch, "age_s", e.age/1e9)
		a.monitor.report(event.Record{Kind: kind.EpochExpired, Subject: a.nodeSubject(e.node), Epoch: e.epoch})
	}
	a.tellLinks()
	a.core.overdue(a.now(), a.works)
	a.tellFailures()
	a.reportDue(a.now(), time.Now().UnixNano())
	if a.core.dirty || a.core.ceilings.soon || a.saveError() != nil {
		a.save(saves)
	}
	if a.retireError() != nil {
		saves.hardware.again()
	}
}

// counts adds the filter's and the agent's verdicts of an interface.
func (a *Agent) counts(b *loader.Bus) loader.Counts {
	sum := b.FilterCounts()
	a.core.tables.Counters[b.Slot()].AddTo(&sum)
	return sum
}

// stop leaves what a later agent needs to go on without a loss, even after a reboot.
func (a *Agent) stop() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tellCounts(true)
	a.monitor.report(event.Record{Kind: kind.AgentStopped})
	a.core.exact()
	a.core.note()
	if err := a.opts.Store.Advance(a.state); err != nil {
		// Without the hardware the folder is not retired, but the ceilings are exact.
		if !errors.Is(err, ErrRetire) {
			return fmt.Errorf("stop cleanly: %w", err)
		}
		a.log.Error("state folder could not be retired in the hardware", "event", "retire_failed", "error", err.Error())
	}
	a.log.Info("agent has stopped; protected identifiers stay closed", "uptime_s", int(time.Since(a.began).Seconds()))
	return nil
}

// save hands the state as it is now to the saver.
func (a *Agent) save(saves *saver) (seq uint64, ok bool) {
	a.core.dirty, a.core.ceilings.soon = false, false
	a.core.note()
	e, err := a.state.Encode()
	if err != nil {
		a.saveReport(err)
		return 0, false
	}
	return saves.put(e, slices.Clone(a.core.ceilings.wanted), a.core.ceilings.settled), true
}

// retireReport takes note of how the hardware's part of a retirement went; nil is good.
func (a *Agent) retireReport(err error) {
	a.failMu.Lock()
	again := a.unretired != nil && err != nil && a.unretired.Error() == err.Error()
	a.unretired = err
	a.failMu.Unlock()
	if err == nil || again {
		return // it is tried every second, and status goes on saying so
	}
	a.log.Error("what was retired is still opened by the TPM", "event", "retire_failed", "error", err.Error())
	a.monitor.report(event.Record{Kind: kind.RetireFailed, Detail: err.Error()})
}

func (a *Agent) retireError() error {
	a.failMu.Lock()
	defer a.failMu.Unlock()
	return a.unretired
}

func (a *Agent) saveError() error {
	a.failMu.Lock()
	defer a.failMu.Unlock()
	return a.failed
}

// saveReport takes note of how a write went; nil is good.
func (a *Agent) saveReport(err error) {
	a.failMu.Lock()
	again := a.failed != nil && err != nil && a.failed.Error() == err.Error()
	recovered := a.failed != nil && err == nil
	a.failed = err
	a.saves.count(err)
	a.failMu.Unlock()
	if recovered {
		a.monitor.report(event.Record{Kind: kind.StateWritten})
	}
	if err == nil || again {
		return // it is tried every second, and status goes on saying so
	}
	a.log.Error("state could not be written", "event", "state_write_failed", "error", err.Error())
	a.monitor.report(event.Record{Kind: kind.StateWriteFailed, Detail: err.Error()})
}

// eraseReport says that memory is free of secrets that have ended, and of what was left on the way of new ones.
func (a *Agent) eraseReport() {
	a.log.Info("secrets that have ended are erased from memory", "event", "secrets_erased", "erasure", secretmem.Erasure)
}

// now reads CLOCK_BOOTTIME in ns, the clock of the filter's time stamps.
func (a *Agent) now() int64 { return bootTime() }
