// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/takeover"
	"github.com/cellward/cellward/loader"
)

// Bounds of a take-over. The data path stands still for passTime at most, and the rings hold what comes in meanwhile; the rest is done
// beside it.
const (
	greetTime   = 10 * time.Second // for a message to which nothing but a look belongs
	prepareTime = time.Minute      // for the successor to load programs
	quietTime   = 20 * time.Second // for requests about keys, and the TPM, to come to an end
	passTime    = 10 * time.Second
)

// errHandedOver ends the loop of an agent whose successor has taken over.
var errHandedOver = errors.New("another agent has taken over")

// ErrNoUpgrade says that a running agent is not taken over from; it goes on as if nobody had asked.
var ErrNoUpgrade = errors.New("the running agent does not hand over")

// baton is a successor on its way to the loop.
type baton struct {
	conn  *takeover.Conn
	pid   int
	keys  func(over bool) // lets the key manager go on, or end
	done  chan struct{}
	err   error // why the successor has not taken over; nil: it has
	pause time.Duration
}

// takeSuccessor is the control socket's stream for a successor. Whatever becomes of it before it has said Taken, the agent goes on as
// if nothing had been.
func (a *Agent) takeSuccessor(raw *net.UnixConn, peer unix.Ucred) {
	conn := takeover.NewConn(raw)
	defer func() { _ = conn.Close() }()
	// All keys go over this connection. The agent is not dumpable, so that other processes of its user cannot read them: nor can they
	// here, unless nobody else has ever been.
	if peer.Uid != 0 && (a.openedAs == 0 || int(peer.Uid) != os.Geteuid()) {
		conn.Refuse(fmt.Errorf("%w: only root may ask for it", ErrNoUpgrade))
		return
	}
	b := &baton{conn: conn, pid: int(peer.Pid), done: make(chan struct{})}
	if err := a.handOver(b); err != nil {
		conn.Refuse(err)
		if errors.Is(err, takeover.ErrUnchanged) {
			return
		}
		a.log.Error("agent was not taken over from and goes on", "event", "upgrade_failed", "successor", b.pid, "error", err.Error(), "paused_us", b.pause.Microseconds())
		return
	}
}

// handOver leads the conversation up to the point at which the loop has to stop.
func (a *Agent) handOver(b *baton) error {
	if !a.changing.TryLock() {
		return fmt.Errorf("%w: new documents or another successor are being looked at", ErrNoUpgrade)
	}
	defer a.changing.Unlock()
	if a.handedOver {
		return ErrEnding // between Taken and the end of the loop the socket still answers
	}
	select {
	case <-a.ended:
		return ErrEnding
	default:
	}
	if err := a.greet(b.conn); err != nil {
		return err
	}
	if err := b.conn.SetDeadline(time.Now().Add(prepareTime)); err != nil {
		return err
	}
	if _, err := b.conn.Receive(takeover.KindPrepared, &takeover.Prepared{}, 0); err != nil {
		return err
	}
	release, err := a.quiet(b)
	if err != nil {
		return err
	}
	a.batons <- b // has room for the one that can be on its way
	a.wake()
	select {
	case <-b.done:
	case <-a.ended:
		select { // the loop may have taken it all the same
		case <-b.done:
		default:
			b.err = ErrEnding
		}
	}
	release(b.err == nil)
	if b.err != nil {
		return b.err
	}
	a.handedOver = true
	// Here, where the end of the process waits for it (endService).
	a.log.Info("agent has handed over and ends", "event", "upgraded", "successor", b.pid, "paused_us", b.pause.Microseconds())
	return nil
}

// greet looks at who comes and hands the lock of the state folder to one that fits.
func (a *Agent) greet(conn *takeover.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return err
	}
	var hello takeover.Hello
	if _, err := conn.Receive(takeover.KindHello, &hello, 0); err != nil {
		return err
	}
	set := a.opts.Set // only the loop changes it, and only for whoever holds changing
	switch {
	case hello.Version != takeover.Version:
		return fmt.Errorf("%w: it speaks version %d of the take-over, the successor %d; stop it and start the new one", ErrNoUpgrade, takeover.Version, hello.Version)
	case hello.Policy != set.PolicySum || hello.Binding != set.BindingSum:
		return fmt.Errorf("%w: the successor's documents are not those in effect; bring them into effect first (cellward apply)", ErrNoUpgrade)
	case hello.IfOther && [2]uint64{hello.Device, hello.Inode} == a.executable:
		return takeover.ErrUnchanged
	case a.opts.Station == nil:
		return fmt.Errorf("%w: it has no state folder of its own", ErrNoUpgrade)
	}
	return conn.Send(takeover.KindWelcome, takeover.Welcome{Program: a.opts.Version}, a.opts.Station.Dir.Lock())
}

// executable names the file that this process runs, also when another one has its name by now.
func executable() (file [2]uint64, err error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		return file, fmt.Errorf("look at own program: %w", err)
	}
	return [2]uint64{uint64(st.Dev), st.Ino}, nil
}

// quiet ends all work on keys, in this process and in the TPM, and keeps more from beginning, while the data path goes on. Of a TPM that
// is at work nobody knows what it will show in the end.
func (a *Agent) quiet(b *baton) (release func(over bool), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), quietTime)
	defer cancel()
	m := a.keys.Load()
	if m == nil {
		return nil, ErrEnding
	}
	if b.keys, err = m.hold(ctx); err != nil {
		return nil, fmt.Errorf("%w: a request about keys is being worked on: %w", ErrNoUpgrade, err)
	}
	if err := m.saves.hardware.hold(ctx); err != nil {
		b.keys(false)
		return nil, fmt.Errorf("%w: the TPM is retiring keys: %w", ErrNoUpgrade, err)
	}
	return func(over bool) {
		if !over {
			m.saves.hardware.release()
		}
		b.keys(over)
	}, nil
}

// passOn stops the loop between two batches, hands everything over, and waits for the successor to take it. It reports whether that has
// happened. If not, everything is as it was: the successor may have been anywhere, so what it may have touched is set again.
//
// What a kill -9 of this process leaves, at any point: the tables and the state folder as they are after a kill between two batches,
// and the filter, with its old programs or the new ones, closed. The successor cannot say Taken any more and ends, and with it the last
// holder of the folder's lock, so the next start finds all of it. After Taken it is the successor's run.
func (a *Agent) passOn(b *baton, saves *saver) (over bool) {
	begun := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.core.wake()
	resume := a.links.pause()
	b.err = a.pass(b, saves)
	b.pause = time.Since(begun)
	defer close(b.done)
	if b.err != nil {
		resume(func() {
			if err := errors.Join(a.core.reassert(), a.maps.Reassert()); err != nil {
				a.log.Error("filter could not be set as it was before the successor", "event", "upgrade_failed", "error", err.Error())
			}
		})
		return false
	}
	resume(nil)
	b.keys(true)
	// The manager hears it from the main process while that is still this one.
	a.opts.Notify.Successor(b.pid)
	a.monitor.takenOver(b.pid)
	// Readers read to the end. Those that follow have the new ring, or will have it before it has a sample; the others find it at
	// the socket.
	a.ring.Finish()
	if err := a.readers.Release(); err != nil {
		a.log.Error("ring could not be closed", "event", "ring_close_failed", "error", err.Error())
	}
	return true
}

// pass is the last part of the conversation.
func (a *Agent) pass(b *baton, saves *saver) error {
	if err := a.settle(saves); err != nil {
		return err
	}
	state, err := a.portable()
	if err != nil {
		return err
	}
	a.tellCounts(false)
	state.Counted, state.Refused = a.seen().handOver(a.core)
	faults, release := a.monitor.hold()
	state.Faults = faults
	taken := false
	defer func() { release(taken) }()
	defer state.Wipe()
	readers, err := a.readers.HandOver()
	if err != nil {
		return err
	}
	defer readers.Close()
	status, err := a.control.HandOver()
	if err != nil {
		return err
	}
	defer status.Close()
	// Those that come after this moment, or do not follow, are let go and find the new ring at the socket.
	followers, err := a.readers.Followers(takeover.MaxFollowers)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range followers {
			_ = f.Close()
		}
	}()
	if err := b.conn.SetDeadline(time.Now().Add(passTime)); err != nil {
		return err
	}
	if err := b.conn.Send(takeover.KindState, state, append([]*os.File{readers, status}, followers...)...); err != nil {
		return err
	}
	if taken, err = b.conn.Settle(); taken {
		return nil
	}
	return fmt.Errorf("the successor has not taken over: %w", err)
}

// settle makes the file say what the memory says, and waits until nothing is being written any more.
func (a *Agent) settle(saves *saver) error {
	if a.core.dirty || a.core.ceilings.soon || a.saveError() != nil {
		if _, ok := a.save(saves); !ok {
			return fmt.Errorf("%w: its state cannot be written: %w", ErrNoUpgrade, a.saveError())
		}
	}
	if !saves.idle() {
		return fmt.Errorf("%w: its state cannot be written: %w", ErrNoUpgrade, a.saveError())
	}
	return nil
}

// portable is everything that the successor cannot find in the tables. The caller wipes it.
func (a *Agent) portable() (_ *takeover.State, err error) {
	a.core.note()
	s := &takeover.State{Vaults: a.opts.Station.HandOver(), Manager: os.Getenv("NOTIFY_SOCKET")}
	if us, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil {
		s.WatchdogUS = us
	}
	if s.Epochs, s.Secrets, s.Surplus, err = a.opts.Store.HandOver(a.state); err != nil {
		s.Wipe()
		return nil, err
	}
	now, wall := a.now(), time.Now().UnixNano()
	for _, n := range a.core.nodes {
		for _, l := range n.live {
			s.Live = append(s.Live, takeover.LiveEpoch{
				Node: n.state.Kid, Number: l.state.Number, Age: l.age(now, wall), Promoted: l.promoted, Frames: l.frames, Failed: l.failed,
			})
		}
	}
	for _, t := range a.core.streams {
		s.Streams = append(s.Streams, takeover.Stream{ID: t.ID, Epoch: t.epoch, Lowest: t.lowest, Times: t.times.Snapshot()})
	}
	return s, nil
}

// reassert makes filter and notes say of the node's epochs what this process knows of them.
func (c *core) reassert() error {
	var errs []error
	for _, n := range c.nodes {
		for _, l := range n.live {
			pinned := n.known.Epoch(l.slot)
			if pinned.Owner() != l.state.Number {
				pinned.Reset(l.state.Number)
				for _, s := range l.starts {
					pinned.Put(loader.Start{First: s.F, Random: s.Random})
				}
			}
			errs = append(errs, n.table.Publish(l.slot, l.state.Number, l.state.Base))
		}
	}
	return errors.Join(errs...)
}
