// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/notify"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/takeover"
	"github.com/cellward/cellward/loader"
)

// ErrTables says that the pinned tables are not those of the agent to be taken over from.
var ErrTables = errors.New("pinned tables are not those of the running agent and these documents")

// succession is a successor on its way.
type succession struct {
	*Agent
	conn     *takeover.Conn
	prepared *loader.Prepared
	station  *station.Station
	state    takeover.State
	sockets  []*os.File // of ring and control, and behind them of the readers that follow
	from     int
}

// succeed takes over from the agent that runs, and is the agent from then on. control.ErrNotRunning: there is none. Up to the message
// Taken any error leaves that one as it was.
func succeed(ctx context.Context, opts Options) (err error) {
	raw, peer, err := control.OpenStream(ctx, opts.Set.Binding.Gateway.Control.Socket, control.UpgradePath)
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	s := &succession{conn: takeover.NewConn(raw), from: int(peer.Pid)}
	taken := false
	defer func() {
		if errors.Is(err, takeover.ErrUnchanged) {
			opts.Log.Info("the running agent is the same program and goes on", "event", "upgrade_unchanged", "agent", s.from)
			err = nil
		}
		if err != nil && !taken {
			err = fmt.Errorf("take over: %w", errors.Join(err, s.undo()))
			s.conn.Refuse(err)
		}
		err = errors.Join(err, s.conn.Close(), s.close())
	}()
	// What listens there is the agent, and the user whom it has become is the one whom this process becomes.
	if p := opts.Privileges; p != nil && peer.Uid != 0 && peer.Uid != p.user.UID {
		return fmt.Errorf("the agent runs as user %d, this one would as %s", peer.Uid, p.user)
	}
	if s.Agent, err = newAgent(opts); err != nil {
		return err
	}
	s.inherited, s.resumed = true, true
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.receive(); err != nil {
		return err
	}
	if err := s.take(ctx); err != nil {
		return err
	}
	stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.conn.Send(takeover.KindTaken, takeover.Taken{}); err != nil {
		return err
	}
	taken = true
	return s.run(ctx)
}

// prepare does everything that can be done beside the predecessor.
func (s *succession) prepare(ctx context.Context) error {
	if err := s.bound(ctx, greetTime); err != nil {
		return err
	}
	facts, err := loader.Facts()
	if err != nil {
		return err
	}
	set := s.opts.Set
	hello := takeover.Hello{Version: takeover.Version, Program: s.opts.Version, Policy: set.PolicySum, Binding: set.BindingSum, Layout: facts.Layout,
		Device: s.executable[0], Inode: s.executable[1], IfOther: s.opts.UnlessSame}
	if err := s.conn.Send(takeover.KindHello, hello); err != nil {
		return err
	}
	lock, err := s.conn.Receive(takeover.KindWelcome, &takeover.Welcome{}, 1)
	if err != nil {
		return err
	}
	if s.station, err = adoptGateway(set.Binding, s.opts.Privileges, lock[0]); err != nil {
		return err
	}
	if err := s.findTables(); err != nil {
		return err
	}
	if s.ring, err = ring.NewProducer(ringConfig(set)); err != nil {
		return err
	}
	if s.prepared, err = s.maps.Prepare(s.busOptions()...); err != nil {
		return err
	}
	if err := s.bound(ctx, quietTime+2*passTime); err != nil {
		return err
	}
	return s.conn.Send(takeover.KindPrepared, takeover.Prepared{})
}

// bound bounds what follows of the conversation. If ctx has ended it says so: what that has cut short would begin anew.
func (s *succession) bound(ctx context.Context, d time.Duration) error {
	if err := s.conn.SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// adoptGateway is OpenGateway with the lock of the agent that has the folder.
func adoptGateway(b *policy.Binding, p *Privileges, lock *os.File) (*station.Station, error) {
	var owner uint32
	if p != nil {
		owner = p.user.UID
	}
	st, err := station.AdoptFolder(stationOptions(b, owner), lock)
	if err != nil {
		return nil, fmt.Errorf("open gateway: %w", err)
	}
	return checkIdentity(st, b)
}

// findTables opens the tables that the predecessor goes by, or makes some of this build's layout beside them.
func (s *succession) findTables() (err error) {
	s.maps, err = loader.OpenBeside(loader.Options{Root: s.opts.Set.Binding.Gateway.BPFFS})
	if err != nil {
		return fmt.Errorf("open shared tables: %w", err)
	}
	hash, err := s.place()
	if err != nil {
		return err
	}
	if s.maps.Fresh() || s.maps.Binding() != hash {
		return ErrTables
	}
	return nil
}

// receive waits for everything that the predecessor knows, and checks it.
func (s *succession) receive() error {
	readers, status, followers, err := s.conn.ReceiveState(&s.state)
	if err != nil {
		return err
	}
	s.sockets = append([]*os.File{readers, status}, followers...)
	if err := s.station.Adopt(s.state.Vaults); err != nil {
		return err
	}
	s.opts.Station, s.opts.Store = s.station, NewStore(s.station.Epochs, s.station.Offline)
	s.Agent.state, err = s.opts.Store.Adopt(s.state.Epochs, s.state.Secrets, s.state.Surplus)
	return err
}

// take does what the predecessor would notice if it looked, and sees to it that nothing is left that could fail.
//
// Where the tables have another layout the predecessor's go on being those in effect, and its programs stay in their places, until it has
// ended (moveIn): they cannot be put back once frames lie in rings that it does not know.
func (s *succession) take(ctx context.Context) error {
	if err := s.maps.Recopy(); err != nil {
		return err
	}
	if err := s.layOut(); err != nil {
		return err
	}
	if s.maps.Moving() {
		return nil
	}
	var err error
	if s.buses, err = s.prepared.Attach(); err != nil {
		s.prepared = nil // has taken itself back
		return fmt.Errorf("attach filter: %w", err)
	}
	return s.settleIn(ctx)
}

// layOut lays the pipeline over the tables with what was handed over. Nothing has to be made durable: windows and starts are those of
// the tables, the ceilings those of the file, and the generation of the state goes on.
func (s *succession) layOut() error {
	a := s.Agent
	a.core = newCore(a.engine, a.opts.Set, a.at, a.state, Tables{
		Windows: a.maps.Windows(), Epochs: a.maps.Epochs(), Starts: a.maps.Starts(), Counters: a.maps.AgentCounters(),
	}, a.ring)
	refused, err := a.core.resume(a.state, a.opts.Set, false, a.now(), time.Now().UnixNano(), a.limit())
	if err != nil {
		return fmt.Errorf("resume epochs: %w", err)
	}
	for _, r := range refused {
		a.log.Error("epoch is not accepted; agree a new one", "event", "epoch_refused", "node", r.node, "epoch", r.epoch, "reason", r.reason)
		a.monitor.report(event.Record{Kind: kind.EpochRefused, Subject: a.nodeSubject(r.node), Epoch: r.epoch, Detail: r.reason})
	}
	a.core.notes = a.monitor.table()
	a.core.dirty = len(refused) > 0
	if err := a.core.carryOn(&s.state); err != nil {
		return err
	}
	if err := a.monitor.adopt(s.state.Faults); err != nil {
		return err
	}
	a.monitor.show(a)
	return nil
}

// carryOn takes up what the predecessor has seen and the tables do not say.
func (c *core) carryOn(from *takeover.State) error {
	now := bootTime()
	for _, n := range c.nodes {
		for _, l := range n.live {
			for _, x := range from.Live {
				if x.Node != n.state.Kid || x.Number != l.state.Number {
					continue
				}
				// Whatever the wall clock says by now, a key is not younger than it was.
				l.ageAtLoad, l.loaded = max(l.ageAtLoad, x.Age), now
				l.promoted, l.frames, l.failed = max(0, min(x.Promoted, now)), x.Frames, x.Failed
			}
		}
	}
	byID := make(map[uint32]takeover.Stream, len(from.Streams))
	for _, t := range from.Streams {
		byID[t.ID] = t
	}
	for i, t := range c.streams {
		c.ceilings.wanted[i] = c.state.Ceilings[t.ID]
		x, ok := byID[t.ID]
		if ok && x.Epoch > t.epoch {
			t.epoch, t.lowest = x.Epoch, x.Lowest
		} else if ok && x.Epoch == t.epoch {
			t.lowest = min(t.lowest, x.Lowest)
		}
		if ok {
			if err := t.times.Restore(x.Times, now); err != nil {
				return fmt.Errorf("take over stream %d: %w", t.ID, err)
			}
		}
	}
	c.ceilings.settled(c.ceilings.wanted)
	return nil
}

// run is the agent, from Taken on. Nobody else runs any more, so whatever fails now ends the agent as it would any.
func (s *succession) run(ctx context.Context) (err error) {
	a := s.Agent
	s.state.Wipe()
	if a.maps.Moving() {
		if err := s.moveIn(ctx); err != nil {
			return err
		}
	}
	err = s.prepared.Keep()
	s.prepared = nil
	if err != nil {
		a.log.Error("former programs could not be let go", "event", "upgrade_leftover", "error", err.Error())
	}
	for _, b := range a.buses {
		b.Candidates().Resume()
		b.Control().Resume()
		b.RefusedFrames().Resume()
	}
	a.seen().inherit(a.core, &s.state)
	a.monitor.takeOver(s.station)
	g := a.opts.Set.Binding.Gateway
	gid, err := readersGroup(g.Ring)
	if err != nil {
		return err
	}
	sockets := s.sockets
	s.sockets = nil
	// Before the loop begins: the ring is in the hands of those that follow when the first sample is published in it, so that a kill
	// right behind the take-over, too, costs them nothing but what was committed and not published.
	readers := ring.ServerConfig{Socket: g.Ring.Socket, Group: gid, Listener: sockets[0], Followers: sockets[2:]}
	if a.readers, err = ring.Serve(a.ring, readers); err != nil {
		return errors.Join(err, sockets[1].Close())
	}
	listener, err := control.Adopt(sockets[1], g.Control.Socket)
	if err == nil {
		err = a.serveControl(listener)
	}
	if err != nil {
		return errors.Join(err, a.readers.Close())
	}
	defer func() { err = a.endService(err) }()
	if s.state.Manager != "" {
		if a.opts.Notify, err = notify.Inherit(a.log, s.state.Manager, time.Duration(s.state.WatchdogUS)*time.Microsecond); err != nil {
			return err
		}
		defer a.opts.Notify.Close()
	}
	a.log.Info("agent has taken over", "event", "taken_over", "from", s.from)
	return a.inService(ctx)
}

// undo takes back what the predecessor would notice.
func (s *succession) undo() error {
	if s.prepared == nil {
		return nil
	}
	if s.links != nil {
		err := s.links.close()
		s.links = nil
		return errors.Join(err, s.prepared.Undo())
	}
	return s.prepared.Undo()
}

// close gives everything back that this process holds.
func (s *succession) close() error {
	var errs []error
	if s.Agent != nil {
		errs = append(errs, s.monitor.close())
	}
	s.state.Wipe()
	for _, f := range s.sockets {
		errs = append(errs, f.Close())
	}
	if a := s.Agent; a != nil {
		if a.core != nil {
			a.core.wipe()
		}
		if a.state != nil {
			a.state.Wipe()
		}
		if a.links != nil {
			errs = append(errs, a.links.close())
		}
		errs = append(errs, a.closeFormer())
		if a.ring != nil {
			errs = append(errs, a.ring.Close())
		}
		if a.maps != nil {
			errs = append(errs, a.maps.Close())
		}
	}
	if s.station != nil {
		errs = append(errs, s.station.Close())
	}
	return errors.Join(errs...)
}
