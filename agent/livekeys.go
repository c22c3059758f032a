// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
)

// ErrNotDurable says that something was not done, or not for good, because the state could not be written.
var ErrNotDurable = errors.New("state could not be written")

// batchRetry is how often a batch of offers that the TPM did not close is tried again.
const batchRetry = 10 * time.Second

// keyManager agrees and retires keys while the agent runs, one request at a time, in a goroutine of its own. The TPM may take its
// time, or not answer at all: nothing of what is asked of it is done under Agent.mu. What was agreed is made durable by the saver,
// like all state, and handed to the pipeline between two batches; that takes no longer than deriving the keys of one start.
type keyManager struct {
	agent   *Agent
	station *station.Station
	saves   *saver

	ctx      context.Context // ends with the agent
	cancel   context.CancelFunc
	requests chan func()
	done     chan struct{}
	// unclosed says that the offers' counter is still to be moved.
	unclosed bool
	// over says that another process goes on with the keys.
	over bool
	// answers are replies that have brought an epoch since this process began, the latest last.
	answers []answer
}

// manageKeys starts to serve requests about keys.
func (a *Agent) manageKeys(ctx context.Context, saves *saver) *keyManager {
	m := &keyManager{agent: a, station: a.opts.Station, saves: saves, requests: make(chan func()), done: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancel(ctx)
	go m.run()
	a.keys.Store(m)
	return m
}

// close lets the request in hand end and refuses all others.
func (m *keyManager) close() {
	m.agent.keys.Store(nil)
	m.cancel()
	<-m.done
}

func (m *keyManager) run() {
	defer close(m.done)
	if m.station == nil {
		return
	}
	// A crash may have come between an agreement and the end of its offer.
	m.unclosed = true
	retry := time.NewTicker(batchRetry)
	defer retry.Stop()
	m.closeBatch()
	for {
		select {
		case <-m.ctx.Done():
			return
		case f := <-m.requests:
			f()
			if m.over {
				return
			}
		case <-retry.C:
			m.closeBatch()
		}
	}
}

// hold waits for the request in hand and lets no other begin until release is called; with over none begins any more. ctx ends the
// wait, with no hold. An agent that ends does not wait for release: none begins any more then, either.
func (m *keyManager) hold(ctx context.Context) (release func(over bool), err error) {
	held, end := make(chan struct{}), make(chan bool, 1)
	select {
	case m.requests <- func() {
		close(held)
		select {
		case m.over = <-end:
		case <-m.ctx.Done():
			// Who holds may be waiting for the loop, which has ended and waits for this goroutine.
			m.over = true
		}
	}:
		<-held
		var once sync.Once
		return func(over bool) { once.Do(func() { end <- over }) }, nil
	case <-m.done: // nobody works on keys
		return func(bool) {}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// do has f done in the manager's goroutine. A client that leaves is not waited for any more, but what has been begun ends.
func do[T any](ctx context.Context, a *Agent, f func(*keyManager) (T, error)) (v T, err error) {
	m := a.keys.Load()
	if m == nil || m.station == nil {
		return v, fmt.Errorf("work on keys: %w", errStopping)
	}
	finished := make(chan struct{})
	select {
	case m.requests <- func() { defer close(finished); v, err = f(m) }:
		<-finished
		return v, err
	case <-m.done:
		return v, fmt.Errorf("work on keys: %w", errStopping)
	case <-ctx.Done():
		return v, fmt.Errorf("wait for an earlier request about keys: %w", context.Cause(ctx))
	}
}

// between runs f between two batches.
func (m *keyManager) between(f func(a *Agent) error) error {
	m.agent.mu.Lock()
	defer m.agent.mu.Unlock()
	return f(m.agent)
}

// durable makes the state as f leaves it durable; f runs between two batches. If it could not be written, undo does, too.
func (m *keyManager) durable(f func(a *Agent) error, undo func(a *Agent)) error {
	var seq uint64
	put := false
	err := m.between(func(a *Agent) error {
		if err := f(a); err != nil {
			return err
		}
		seq, put = a.save(m.saves)
		return nil
	})
	if err != nil || put && m.saves.wait(seq) {
		return err
	}
	return m.between(func(a *Agent) error {
		undo(a)
		// What is written next is without it, also if the failed write has left more than its error says.
		a.core.dirty = true
		if cause := a.saveError(); cause != nil {
			return fmt.Errorf("%w: %w", ErrNotDurable, cause)
		}
		return ErrNotDurable
	})
}

// offer makes an offer of a node's next epoch.
func (m *keyManager) offer(name string) (*agree.Offered, error) {
	var node policy.ResolvedNode
	var number uint32
	err := m.between(func(a *Agent) (err error) {
		var ok bool
		if node, ok = a.opts.Set.Node(name); !ok {
			return fmt.Errorf("make offer: %w: %q", agree.ErrUnknownNode, name)
		}
		if err := a.state.MayOffer(); err != nil {
			return fmt.Errorf("make offer: %w", err)
		}
		number, err = a.state.AddNode(identity.Kid(node.Identity.KID)).NextEpoch()
		return err
	})
	if err != nil {
		return nil, err
	}
	o, err := agree.NewOffer(m.ctx, m.station, node, number)
	if err != nil {
		return nil, err
	}
	err = m.durable(func(a *Agent) error {
		a.state.Batch = o.Batch
		return a.state.AddOffer(o)
	}, func(a *Agent) { a.state.CloseOffer(o.ID) })
	if err != nil {
		return nil, fmt.Errorf("keep offer: %w", err)
	}
	m.agent.log.Info("epoch is offered", "event", "epoch_offered", "node", name, "epoch", number)
	return agree.DescribeOffer(name, o, ViaAgent), nil
}

// accept takes a node's reply: once the epoch is durable, agent and filter take it up, and its offer ends.
func (m *keyManager) accept(reply []byte) (_ *agree.Accepted, err error) {
	var set *policy.Set
	var pending []*epoch.Offer
	_ = m.between(func(a *Agent) error {
		set, pending = a.opts.Set, slices.Clone(a.state.Offers)
		return nil
	})
	taken := false
	defer func() {
		if taken {
			m.answered(set, reply)
		} else {
			m.refusedReply(set, reply, err)
		}
	}()
	answered, err := agree.Match(set, pending, m.station.Public, reply)
	if err != nil {
		return nil, err
	}
	// What TPM and HPKE have left goes before the answer. The saver sees to it once the epoch is durable.
	defer func() {
		if err != nil {
			m.saves.eraser.ask()
		}
		m.waitErased()
	}()
	e, err := answered.Open(m.station, m.agent.state)
	if err != nil {
		return nil, err
	}
	name := answered.Node.Name
	err = m.durable(func(a *Agent) error { return a.agree(name, e, answered.Pending) }, func(a *Agent) {
		a.state.Node(answered.Pending.Node).Retire(e.Number)
		a.state.Offers = append(a.state.Offers, answered.Pending)
	})
	if err != nil {
		e.PRK.Free()
		return nil, fmt.Errorf("accept reply of node %s: %w", name, err)
	}
	if err := m.between(func(a *Agent) error { return a.takeUp(name, e) }); err != nil {
		return nil, fmt.Errorf("take up epoch %d of node %s: %w", e.Number, name, err)
	}
	taken = true
	m.agent.log.Info("epoch is agreed and taken up", "event", "epoch_agreed", "node", name, "epoch", e.Number, "first_counter", e.Base)
	m.agent.reportNode(kind.KeyAgreed, name, e.Number, e.Base)
	m.unclosed = true
	if err := m.closeBatch(); err != nil {
		return nil, fmt.Errorf("epoch %d of node %s is agreed and taken up, but its offer could not be retired, which is tried again: %w", e.Number, name, err)
	}
	return &agree.Accepted{Node: name, Epoch: e.Number, FirstCounter: e.Base, Via: ViaAgent}, nil
}

// waitErased waits until memory is cleared of what secrets have left that came or went; not while the agent ends.
func (m *keyManager) waitErased() { _ = m.saves.eraser.wait(m.ctx) }

// reportNode reports what has become of a node's keys.
func (a *Agent) reportNode(k kind.Kind, name string, number uint32, counter uint64) {
	a.mu.Lock()
	subject := a.nodeSubject(name)
	a.mu.Unlock()
	a.monitor.report(event.Record{Kind: k, Subject: subject, Epoch: number, Counter: counter})
}

// node finds a node of the pipeline, and checks that the binding is still the one that an epoch was agreed under.
func (a *Agent) node(name string, binding [32]byte) (*node, error) {
	r, ok := a.opts.Set.Node(name)
	i := slices.IndexFunc(a.core.nodes, func(n *node) bool { return n.name == name })
	if !ok || i < 0 {
		return nil, fmt.Errorf("%w: %q", agree.ErrUnknownNode, name)
	}
	if r.BindingHash != binding {
		return nil, offer.ErrBinding
	}
	return a.core.nodes[i], nil
}

// agree puts a new epoch into the state in the place of its offer. Nothing is accepted under it yet.
func (a *Agent) agree(name string, e *epoch.Epoch, pending *epoch.Offer) error {
	n, err := a.node(name, e.BindingHash)
	if err != nil {
		return err
	}
	if err := n.state.Agree(e, n.verified); err != nil {
		return err
	}
	// The third epoch has ended the oldest. Its node has given that up before: it keeps the newest one that it has agreed, and
	// the reply is signed by its key.
	for _, l := range slices.Clone(n.live) {
		if !slices.Contains(n.state.Epochs, l.state) {
			n.retire(l.state.Number)
		}
	}
	a.state.CloseOffer(pending.ID)
	// Frames may be accepted under it as soon as this is durable. The ceilings stay where the node's counters are: they are raised by
	// its start under the new epoch, and until then it may go on under the old one, also after a reboot of the gateway.
	e.Used = true
	return nil
}

// farAhead is how far a counter may be ahead of a window before its words would read as those of a later turn (replay.Options).
const farAhead = 1 << 40

// takeUp makes a durable epoch acceptable in agent and filter, beside the one that the node sends under. That one ends after the
// overlap, once a frame of the new one has verified (core.tick).
func (a *Agent) takeUp(name string, e *epoch.Epoch) error {
	n, err := a.node(name, e.BindingHash)
	if err == nil && !slices.Contains(n.state.Epochs, e) {
		err = agree.ErrNoEpoch // retired, or refused by new documents, meanwhile
	}
	if err == nil {
		err = n.accept(a.core.engine, e, a.now(), time.Now().UnixNano())
	}
	if err != nil {
		if st := a.state.Node(a.kid(name)); st != nil && st.Retire(e.Number) {
			a.core.dirty = true
		}
		return err
	}
	for _, s := range n.streams {
		if h := s.window.Highest(); e.Base > h && e.Base-h > farAhead {
			if err := s.openWindow(e.Base); err != nil {
				n.retire(e.Number)
				a.core.dirty = true
				return err
			}
		}
		s.begins(e.Base)
	}
	return nil
}

// kid is the key id of a node of the binding; zeros are nobody's.
func (a *Agent) kid(name string) identity.Kid {
	n, _ := a.opts.Set.Node(name)
	return n.Identity.KID
}

// closeBatch ends the offers' batch if none is pending.
func (m *keyManager) closeBatch() error {
	if !m.unclosed {
		return nil
	}
	var batch uint64
	pending := 0
	_ = m.between(func(a *Agent) error {
		batch, pending = a.state.Batch, len(a.state.Offers)
		return nil
	})
	if pending > 0 {
		m.unclosed = false // whoever ends the last one closes the batch
		return nil
	}
	err := agree.CloseBatch(m.station, batch)
	m.unclosed = err != nil
	if err != nil {
		m.agent.log.Warn("offers that have ended are still opened by the TPM", "event", "retire_failed", "error", err.Error())
	}
	return err
}

// rotateOffers discards all pending offers.
func (m *keyManager) rotateOffers() (*agree.Rotated, error) {
	var was []*epoch.Offer
	err := m.durable(func(a *Agent) error {
		was, a.state.Offers = a.state.Offers, nil
		return nil
	}, func(a *Agent) { a.state.Offers = was })
	if err != nil {
		return nil, fmt.Errorf("discard offers: %w", err)
	}
	m.unclosed = true
	err = m.closeBatch()
	if herr := m.saves.hardware.wait(m.ctx, m.saves.hardware.ask(true)); herr != nil {
		err = errors.Join(err, herr)
	}
	if err != nil {
		return nil, fmt.Errorf("%d pending offers are discarded; the TPM has not retired all of them yet, which is tried again: %w", len(was), err)
	}
	return &agree.Rotated{Discarded: len(was), Via: ViaAgent}, nil
}

// retire ends epochs of a node: the filter refuses them and their keys are wiped before anything is written, so nothing opens under
// them from here on, whatever disk and TPM do. Then the state is written, and then the TPM refuses older copies of it.
func (m *keyManager) retire(name string, number uint32) (*agree.Retired, error) {
	r := &agree.Retired{Node: name, Via: ViaAgent}
	err := m.durable(func(a *Agent) error {
		if _, ok := a.opts.Set.Node(name); !ok {
			return fmt.Errorf("%w: %q", agree.ErrUnknownNode, name)
		}
		r.Retired = a.retireEpochs(name, number)
		if len(r.Retired) == 0 {
			return fmt.Errorf("%w: node %s, epoch %d", agree.ErrNoEpoch, name, number)
		}
		return nil
	}, func(*Agent) {})
	if len(r.Retired) > 0 {
		m.agent.log.Info("epochs are retired", "event", "epoch_retired", "node", name, "epochs", r.Retired)
		for _, number := range r.Retired {
			m.agent.reportNode(kind.KeyRetired, name, number, 0)
		}
	}
	if errors.Is(err, ErrNotDurable) {
		return nil, fmt.Errorf("epochs %v of node %s are refused from now on and their keys wiped, but a restart would take them up again; the agent goes on trying: %w", r.Retired, name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("retire epoch: %w", err)
	}
	err = m.saves.hardware.wait(m.ctx, m.saves.hardware.ask(true))
	m.waitErased()
	if err != nil {
		return nil, fmt.Errorf("epochs %v of node %s are refused from now on and their keys wiped, and the state says so, but the TPM still opens older copies of it; the agent goes on trying: %w", r.Retired, name, err)
	}
	return r, nil
}

// retireEpochs ends the epoch of a number, or all of a node if it is 0, and returns which.
func (a *Agent) retireEpochs(name string, number uint32) (retired []uint32) {
	wanted := func(e *epoch.Epoch) bool { return number == 0 || e.Number == number }
	st := a.state.Node(a.kid(name))
	if st == nil {
		return nil
	}
	for _, e := range slices.Clone(st.Epochs) {
		if !wanted(e) {
			continue
		}
		retired = append(retired, e.Number)
		for _, n := range a.core.nodes {
			if n.state == st {
				n.retire(e.Number)
			}
		}
		st.Retire(e.Number) // also one that was agreed and not yet taken up
	}
	return retired
}
