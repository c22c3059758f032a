// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/secretmem"
	"github.com/cellward/cellward/loader"
)

// Times of the agent's own housekeeping.
const (
	tickEvery          = time.Second
	defaultReportEvery = 10 * time.Second
)

// Options for Run. Set, Store and Log are required.
type Options struct {
	Set   *policy.Set
	Store *Store
	Log   *slog.Logger
	// Engine names the engine that opens batches; empty: the fastest that this CPU runs and that can be trusted.
	Engine string
	// ReportEvery is the interval of the lines about refused frames; 10 s if 0.
	ReportEvery time.Duration
	// Version is what status says about the build.
	Version string
}

// Agent is a running gateway pipeline. Its methods are safe for concurrent use with Run.
type Agent struct {
	opts   Options
	log    *slog.Logger
	engine aead.Engine
	keys   *aead.KeyMemory
	state  *epoch.State
	maps   *loader.Set
	buses  []*loader.Bus
	core   *core
	ring   *ring.Producer
	// readers hands the ring out; it is there before the first Status.
	readers *ring.Server
	report  *reporter
	began   time.Time
	// resumed says that the tables held what an earlier run has left.
	resumed bool

	// mu is held for the length of a batch or a tick, and by whoever reads what they change.
	mu sync.Mutex

	failMu sync.Mutex
	failed error // the last failure to save, for status
}

// Run starts the pipeline and returns when ctx ends (nil, after a clean stop) or when it cannot go on. The filter stays
// attached either way: protected identifiers stay closed, and what comes in meanwhile waits in the pinned rings.
func Run(ctx context.Context, opts Options) (err error) {
	if opts.ReportEvery == 0 {
		opts.ReportEvery = defaultReportEvery
	}
	keys := new(aead.KeyMemory)
	selected, err := aead.Select(aead.Options{Engine: opts.Engine, Keys: keys})
	if err != nil {
		return err
	}
	for _, r := range selected.Refused {
		opts.Log.Error("engine is not trusted and not used", "event", "engine_refused", "engine", r.Name, "error", r.Err.Error())
	}
	a := &Agent{opts: opts, log: opts.Log, engine: selected.Engine, keys: keys, report: newReporter(opts.Log), began: time.Now()}
	state, missing, err := opts.Store.Load()
	if err != nil {
		return err
	}
	a.state = state
	defer a.state.Wipe()
	for _, m := range missing {
		a.log.Error("epoch is not accepted; agree a new one", "event", "epoch_refused", "kid", m.Node.String(), "epoch", m.Epoch, "reason", "its secret is missing")
	}
	if err := a.openTables(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.maps.Close()) }()
	if err := a.openRing(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.ring.Close()) }()
	if err := a.resume(); err != nil {
		return err
	}
	defer a.core.wipe()
	if err := a.attach(); err != nil {
		return err
	}
	a.reportKeyMemory()
	// What the TPM and the libraries have left on the way to here.
	secretmem.Collect()
	servers, err := a.serve()
	if err != nil {
		return err
	}
	defer func() {
		a.ring.Finish()
		err = errors.Join(err, servers())
	}()
	a.log.Info("agent is running", "policy", opts.Set.Policy.Name, "binding", opts.Set.Binding.Name, "engine", a.engine.Name(),
		"streams", len(opts.Set.Streams), "interfaces", len(a.buses), "resumed", a.resumed)
	return a.loop(ctx)
}

func (a *Agent) openTables() error {
	layout, err := layoutOf(a.opts.Set)
	if err != nil {
		return err
	}
	a.maps, err = loader.Open(loader.Options{Root: a.opts.Set.Binding.Gateway.BPFFS, BindingHash: layout})
	if err != nil {
		return fmt.Errorf("open shared tables: %w", err)
	}
	return nil
}

// resume lays the pipeline over the tables, takes up the epochs, and makes durable that they are in use.
func (a *Agent) resume() error {
	a.resumed = !a.maps.Fresh()
	a.core = newCore(a.engine, a.opts.Set, a.state, Tables{
		Windows: a.maps.Windows(), Epochs: a.maps.Epochs(), Starts: a.maps.Starts(), Counters: a.maps.AgentCounters(),
	}, a.ring)
	refused, err := a.core.resume(a.state, a.opts.Set, !a.resumed, a.now(), time.Now().UnixNano(), a.limit())
	if err != nil {
		return fmt.Errorf("resume epochs: %w", err)
	}
	for _, r := range refused {
		a.log.Error("epoch is not accepted; agree a new one", "event", "epoch_refused", "node", r.node, "epoch", r.epoch, "reason", r.reason)
	}
	for _, s := range a.core.streams {
		a.report.losses(s)
	}
	// What was refused is durably gone, copies of the folder from before are refused by the hardware, and the windows are
	// filled: only now may a later run rely on the tables. Then the epochs are marked as used, with ceilings, before the first
	// frame is accepted. A kill between any two of these steps leaves either new tables, for which all of this is done again,
	// or filled ones.
	if err := a.opts.Store.Advance(a.state); err != nil {
		return err
	}
	a.maps.MarkReady()
	a.core.markUsed()
	if err := a.opts.Store.Save(a.state); err != nil {
		return err
	}
	a.core.ceilings.settled(a.core.ceilings.wanted)
	return nil
}

// limit is the age in ns beyond which no key is accepted.
func (a *Agent) limit() int64 {
	return int64(a.opts.Set.Policy.KeyManagement.RotationPolicy.Interval + a.opts.Set.Binding.Gateway.Grace)
}

// attach protects the identifiers and then sets the hooks: an identifier is closed from the moment its filter runs.
func (a *Agent) attach() error {
	for i := range a.opts.Set.Streams {
		s := &a.opts.Set.Streams[i]
		role := loader.RoleSample
		if s.Role == policy.RoleHeartbeat {
			role = loader.RoleHeartbeat
		}
		err := a.maps.Streams().Set(
			loader.StreamKey{Iface: uint32(s.Interface.Index), CANID: uint32(s.CANID)},
			loader.Stream{Slot: uint32(s.Slot), StreamID: s.ID, Node: uint32(s.Node), Carrier: loader.CarrierCANFD, Role: role, WindowSize: uint16(s.WindowSize)})
		if err != nil {
			return fmt.Errorf("protect %s on %s: %w", s.CANID, s.Interface.Name, err)
		}
	}
	var buses []loader.BusOptions
	for _, i := range a.opts.Set.Interfaces {
		buses = append(buses, loader.BusOptions{Interface: i.Name, Slot: uint32(i.Index), Candidates: a.opts.Set.Binding.Gateway.CandidateRing})
	}
	var err error
	if a.buses, err = a.maps.Attach(buses...); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// FailClosed attaches the filter without any epoch, for a gateway that cannot open its state: whatever is wrong with it, protected
// identifiers reach nobody unverified. Where an earlier run has attached the filter, it is left as it is.
func FailClosed(set *policy.Set) (err error) {
	a := &Agent{opts: Options{Set: set}}
	if err := a.openTables(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.maps.Close()) }()
	if !a.maps.Fresh() {
		return nil
	}
	return a.attach()
}

func (a *Agent) openRing() error {
	var streams []ring.Stream
	longest := 0
	for i := range a.opts.Set.Streams {
		s := &a.opts.Set.Streams[i]
		streams = append(streams, ringStream(s))
		longest = max(longest, s.MaxBody)
	}
	var err error
	a.ring, err = ring.NewProducer(ring.Config{Streams: streams, Slots: a.opts.Set.Binding.Gateway.Ring.Slots, BodyMax: longest})
	return err
}

// serve opens the sockets for readers and for status; the function that it returns closes them.
func (a *Agent) serve() (func() error, error) {
	g := a.opts.Set.Binding.Gateway
	var gid uint32
	if g.Ring.Group != "" {
		group, err := user.LookupGroup(g.Ring.Group)
		if err != nil {
			return nil, fmt.Errorf("find group of ring readers: %w", err)
		}
		id, err := strconv.ParseUint(group.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read id of group %s: %w", g.Ring.Group, err)
		}
		gid = uint32(id)
	}
	if err := os.MkdirAll(filepath.Dir(g.Ring.Socket), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of ring socket: %w", err)
	}
	readers, err := ring.Serve(a.ring, ring.ServerConfig{Socket: g.Ring.Socket, Group: gid})
	if err != nil {
		return nil, err
	}
	a.readers = readers
	status, err := control.Serve(g.Control.Socket, g.Ring.Group, map[string]func() any{
		control.StatusPath: func() any { return a.Status() },
	})
	if err != nil {
		return nil, errors.Join(err, readers.Close())
	}
	return func() error { return errors.Join(status.Close(), readers.Close()) }, nil
}

// loop drains, opens, commits and publishes until ctx ends, and then stops cleanly.
func (a *Agent) loop(ctx context.Context) error {
	var rings []*loader.Ring
	for _, b := range a.buses {
		rings = append(rings, b.Candidates(), b.Control())
	}
	poller, err := loader.NewPoller(loader.PollerOptions{}, rings...)
	if err != nil {
		return err
	}
	defer poller.Close()
	stop := context.AfterFunc(ctx, poller.Wake)
	defer stop()
	saves := newSaver(a.opts.Store, a.saveReport, func() {
		a.log.Info("secrets that have ended are erased from memory", "event", "secrets_erased", "erasure", secretmem.Erasure)
	})
	a.core.ceilings.save = func() bool {
		seq, ok := a.save(saves)
		return ok && saves.wait(seq)
	}
	err = a.serveRings(ctx, poller, saves)
	saves.close()
	if err != nil {
		return err
	}
	return a.stop()
}

// serveRings takes batches from the interfaces in turn. Start records are looked at after a batch was taken and before it is
// opened: a node sends its first sample 50 ms behind its start, so the start is always there first.
func (a *Agent) serveRings(ctx context.Context, poller *loader.Poller, saves *saver) error {
	var batch, starts [BatchSize]loader.Record
	again := make([]bool, len(a.buses))
	for i := range again {
		again[i] = true
	}
	nextTick, nextReport := time.Now(), time.Now()
	for {
		idle := true
		for i, b := range a.buses {
			n, err := b.Candidates().Peek(batch[:])
			if err != nil {
				return fmt.Errorf("take batch of %s: %w", b.Name(), err)
			}
			started, err := a.drainStarts(b, starts[:], saves)
			if err != nil {
				return err
			}
			if n > 0 {
				a.mu.Lock()
				err = a.core.process(batch[:n], again[i])
				if a.core.ceilings.soon {
					a.save(saves)
				}
				a.mu.Unlock()
				if err != nil {
					return fmt.Errorf("process batch of %s: %w", b.Name(), err)
				}
			}
			again[i] = false
			b.Candidates().Release()
			idle = idle && n == 0 && started == 0
		}
		if now := time.Now(); !now.Before(nextTick) {
			nextTick = now.Add(tickEvery)
			full := !now.Before(nextReport)
			if full {
				nextReport = now.Add(a.opts.ReportEvery)
			}
			a.tick(full, saves)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !idle {
			continue
		}
		switch err := poller.Wait(nextTick); {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, loader.ErrWoken):
		default:
			return fmt.Errorf("wait for records: %w", err)
		}
	}
}

// drainStarts judges all start records of a bus.
func (a *Agent) drainStarts(b *loader.Bus, batch []loader.Record, saves *saver) (total int, err error) {
	for {
		n, err := b.Control().Peek(batch)
		if err != nil {
			return total, fmt.Errorf("take start records of %s: %w", b.Name(), err)
		}
		if n == 0 {
			b.Control().Release()
			return total, nil
		}
		a.mu.Lock()
		a.core.startRecords(batch[:n], a.now())
		if a.core.dirty {
			a.save(saves)
		}
		a.mu.Unlock()
		b.Control().Release()
		total += n
	}
}

// tick does what is due once a second; report says that the lines about refused frames are due as well.
func (a *Agent) tick(report bool, saves *saver) {
	a.ring.Beat()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.core.tick(a.now(), time.Now().UnixNano(), a.limit()) {
		a.log.Error("key is beyond its hard limit and is not accepted any more", "event", "key_expired", "node", e.node,
			"epoch", e.epoch, "age_s", e.age/1e9)
	}
	if a.core.dirty || a.core.ceilings.soon || a.saveError() != nil {
		a.save(saves)
	}
	if report {
		for _, b := range a.buses {
			a.report.counts(b.Name(), a.counts(b))
		}
		a.report.deleted(a.core.gaps)
		a.core.gaps = a.core.gaps[:0]
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
	for _, b := range a.buses {
		a.report.counts(b.Name(), a.counts(b))
	}
	a.report.deleted(a.core.gaps)
	a.core.exact()
	a.core.note()
	if err := a.opts.Store.Advance(a.state); err != nil {
		// Without the hardware the folder is not retired, but the ceilings are still exact.
		if serr := a.opts.Store.Save(a.state); serr != nil && !errors.Is(serr, ErrRetire) {
			return fmt.Errorf("stop cleanly: %w", errors.Join(err, serr))
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

func (a *Agent) saveError() error {
	a.failMu.Lock()
	defer a.failMu.Unlock()
	return a.failed
}

// saveReport takes note of how a write went; nil is good.
func (a *Agent) saveReport(err error) {
	a.failMu.Lock()
	again := a.failed != nil && err != nil && a.failed.Error() == err.Error()
	a.failed = err
	a.failMu.Unlock()
	if err == nil || again {
		return // it is tried every second, and status goes on saying so
	}
	if errors.Is(err, ErrRetire) {
		a.log.Error("what was retired is still opened by the TPM", "event", "retire_failed", "error", err.Error())
		return
	}
	a.log.Error("state could not be written", "event", "state_write_failed", "error", err.Error())
}

// now reads CLOCK_BOOTTIME in ns, the clock of the filter's time stamps.
func (a *Agent) now() int64 { return bootTime() }
