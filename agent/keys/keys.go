// SPDX-License-Identifier: Apache-2.0

// Package keys is what `cellward keys` does: it makes identities and agrees epochs offline, by an offer of the gateway and a
// reply of the node (HPKE, RFC 9180, between keys that TPMs hold). Each call opens the state folder it works on, and with it
// takes its lock; an agent or edge that runs on the folder refuses it (vault.ErrLocked).
//
// It may import the other packages under agent, and crypto/...
package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/schedule"
)

var (
	// ErrUnknownNode says that the binding has no such node.
	ErrUnknownNode = errors.New("binding has no such node")
	// ErrNoEpoch says that there is nothing to retire.
	ErrNoEpoch = errors.New("node has no such epoch")
	// ErrNoOffer says that no pending offer belongs to a reply.
	ErrNoOffer = errors.New("no pending offer belongs to this reply")
)

// Identity is what others pin of a station.
type Identity struct {
	KID       string `json:"kid"`
	PublicKey string `json:"publicKey"` // base64 of the DER SubjectPublicKeyInfo, as a binding has it
	Where     string `json:"where"`     // the TPM, or "software"
}

// Init makes the identity of a new gateway or node.
func Init(ctx context.Context, o station.Options) (Identity, error) {
	s, err := station.Init(ctx, o)
	if err != nil {
		return Identity{}, fmt.Errorf("make identity: %w", err)
	}
	where := o.TPM
	if o.Software {
		where = "software"
	}
	id := Identity{KID: s.Public.Kid().String(), PublicKey: s.Public.String(), Where: where}
	return id, s.Close()
}

// Offered is a new offer.
type Offered struct {
	Node  string `json:"node"`
	Epoch uint32 `json:"epoch"`
	// Fingerprint is for an out-of-band check on the node's side.
	Fingerprint string `json:"fingerprint"`
	Bytes       []byte `json:"-"`
}

// Offer makes an offer for a node's next epoch. Its private key is made in the gateway's TPM for this offer alone; the offer is
// durable when Offer returns.
func Offer(ctx context.Context, set *policy.Set, name string) (_ *Offered, err error) {
	node, ok := set.Node(name)
	if !ok {
		return nil, fmt.Errorf("make offer: %w: %q", ErrUnknownNode, name)
	}
	g, err := openGateway(ctx, set)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	s, state := g.Station, g.state
	kid := identity.Kid(node.Identity.KID)
	number, err := state.AddNode(kid).NextEpoch()
	if err != nil {
		return nil, err
	}
	batch, err := s.Counters.Offers.Value()
	if err != nil {
		return nil, fmt.Errorf("read counter of offers: %w", err)
	}
	key, err := s.TPM.CreateExchangeKey(ctx, s.Counters.Offers.Policy(batch))
	if err != nil {
		return nil, fmt.Errorf("make offer key: %w", err)
	}
	o, err := offer.New(s.Signer, key.PublicKey(), offer.Params{Node: kid, Epoch: number, Binding: node.BindingHash})
	if err != nil {
		return nil, err
	}
	err = state.AddOffer(&epoch.Offer{ID: o.ID, Node: kid, Epoch: number, Created: time.Now().Unix(), Bytes: o.Bytes(), Key: key.PEM(), Batch: batch})
	if err != nil {
		return nil, fmt.Errorf("keep offer: %w", err)
	}
	state.Batch = batch
	if err := g.store.Save(state); err != nil {
		return nil, err
	}
	return &Offered{Node: name, Epoch: number, Fingerprint: offer.Fingerprint(o.Bytes()), Bytes: o.Bytes()}, nil
}

// Enrolled is a node's answer to an offer.
type Enrolled struct {
	Node         string `json:"node"`
	Epoch        uint32 `json:"epoch"`
	FirstCounter uint64 `json:"first_counter"`
	Fingerprint  string `json:"offer_fingerprint"`
	Reply        []byte `json:"-"`
}

// Enroll is the node's side: it checks an offer against the gateway's pinned key, takes the new epoch, and returns the reply.
// Floor, secret and counters are durable when Enroll returns: a reply that gets lost costs an epoch and nothing else.
func Enroll(ctx context.Context, set *policy.Set, name string, at station.Options, msg []byte) (_ *Enrolled, err error) {
	pinned, err := set.Binding.Gateway.Identity.Key()
	if err != nil {
		return nil, err
	}
	o, err := offer.Parse(pinned, msg)
	if err != nil {
		return nil, err
	}
	s, err := edge.OpenNode(ctx, set, name, at)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	node, _ := set.Node(name) // OpenNode has looked
	store, err := edge.OpenStore(s.Vault)
	if err != nil {
		return nil, err
	}
	defer store.Wipe()
	e := &Enrolled{Node: name, Epoch: o.Epoch, Fingerprint: offer.Fingerprint(msg)}
	a := edge.Agreement{Gateway: o.Gateway, Epoch: o.Epoch, BindingHash: node.BindingHash, Agreed: time.Now().Unix()}
	e.Reply, err = store.Enroll(a, func(floor uint32, run edge.Run) ([]byte, schedule.PRK, error) {
		e.FirstCounter = run.F
		return o.Answer(s.Signer, node.BindingHash, offer.Reply{Floor: floor, FirstCounter: run.F, Start: run.Random})
	})
	if err != nil {
		return nil, fmt.Errorf("enrol node %s: %w", name, err)
	}
	return e, nil
}

// Accepted is an epoch that a reply has brought.
type Accepted struct {
	Node         string `json:"node"`
	Epoch        uint32 `json:"epoch"`
	FirstCounter uint64 `json:"first_counter"`
}

// Accept takes a node's reply. The new epoch and the end of its offer become durable in one step, so the offer serves one
// payload: before that the same reply may be taken again, after it none.
func Accept(ctx context.Context, set *policy.Set, msg []byte) (_ *Accepted, err error) {
	g, err := openGateway(ctx, set)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	s, state := g.Station, g.state
	node, pending, o, err := match(set, state, s.Public, msg)
	if err != nil {
		return nil, err
	}
	if o.Binding != node.BindingHash {
		return nil, fmt.Errorf("accept reply of node %s: %w", node.Name, offer.ErrBinding)
	}
	public, err := node.Identity.Key()
	if err != nil {
		return nil, err
	}
	key, err := s.TPM.ParseExchangeKey(pending.Key, s.Counters.Offers.Policy(pending.Batch))
	if err != nil {
		return nil, fmt.Errorf("take up offer key: %w", err)
	}
	got, err := o.Accept(public, key, msg, nil)
	if err != nil {
		return nil, err
	}
	defer got.PRK.Wipe()
	prk, err := state.Keep(&got.PRK)
	if err != nil {
		return nil, err
	}
	e := &epoch.Epoch{
		Number: o.Epoch, PRK: prk, Base: got.FirstCounter, Agreed: time.Now().Unix(), Method: epoch.MethodHPKE,
		BindingHash: o.Binding, Starts: []epoch.Start{{F: got.FirstCounter, Random: got.Start}},
	}
	n := state.AddNode(o.Node)
	if err := n.Agree(e, 0); err != nil {
		return nil, err
	}
	state.CloseOffer(pending.ID)
	if err := g.store.Save(state); err != nil && !errors.Is(err, agent.ErrRetire) {
		return nil, err
	}
	if err := g.closeBatch(); err != nil {
		return nil, fmt.Errorf("epoch %d of node %s is agreed, but its offer could not be retired: %w", o.Epoch, node.Name, err)
	}
	return &Accepted{Node: node.Name, Epoch: o.Epoch, FirstCounter: got.FirstCounter}, nil
}

// closeBatch ends the offers that were made under the counter's present value, once none of them is pending: the TPM refuses
// their private keys from here on, whoever kept them. It does nothing for a batch that is closed already, so whoever opens the
// keys next does it when a crash came between.
func (g *gateway) closeBatch() error {
	if len(g.state.Offers) > 0 || g.state.Batch == 0 {
		return nil
	}
	shown, err := g.Counters.Offers.Value()
	if err == nil && shown == g.state.Batch {
		_, err = g.Counters.Offers.Increment()
	}
	if err != nil {
		return fmt.Errorf("close batch of offers: %w", err)
	}
	return nil
}

// RotateOffers discards all pending offers and has the TPM refuse their keys. It returns how many there were.
func RotateOffers(ctx context.Context, set *policy.Set) (n int, err error) {
	g, err := openGateway(ctx, set)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	n = len(g.state.Offers)
	g.state.Offers = nil
	return n, errors.Join(g.store.Advance(g.state), g.closeBatch())
}

// Retire ends epochs of a node: the one with the given number, or all of them if it is 0. When Retire returns the TPM refuses
// every copy of the state folder that holds their secrets. It returns the numbers.
func Retire(ctx context.Context, set *policy.Set, name string, number uint32) (retired []uint32, err error) {
	node, ok := set.Node(name)
	if !ok {
		return nil, fmt.Errorf("retire epoch: %w: %q", ErrUnknownNode, name)
	}
	g, err := openGateway(ctx, set)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if n := g.state.Node(identity.Kid(node.Identity.KID)); n != nil {
		for _, e := range slices.Clone(n.Epochs) {
			if number == 0 || e.Number == number {
				retired = append(retired, e.Number)
				n.Retire(e.Number)
			}
		}
	}
	if len(retired) == 0 {
		return nil, fmt.Errorf("%w: node %s, epoch %d", ErrNoEpoch, name, number)
	}
	return retired, g.store.Advance(g.state)
}

// gateway is the gateway's station with its epochs.
type gateway struct {
	*station.Station
	store *agent.Store
	state *epoch.State
}

func openGateway(ctx context.Context, set *policy.Set) (*gateway, error) {
	s, err := agent.OpenGateway(ctx, set.Binding)
	if err != nil {
		return nil, err
	}
	g := &gateway{Station: s, store: agent.NewStore(s.Epochs, s.Offline)}
	if g.state, _, err = g.store.Load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := g.closeBatch(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *gateway) close() error {
	g.state.Wipe()
	return g.Close()
}

// match finds the pending offer that a reply answers: the one among the signer's that the reply names by its hash.
func match(set *policy.Set, state *epoch.State, gateway *identity.PublicKey, msg []byte) (policy.ResolvedNode, *epoch.Offer, *offer.Offer, error) {
	none := policy.ResolvedNode{}
	kid, err := identity.SignerKid(msg)
	if err != nil {
		return none, nil, nil, fmt.Errorf("read reply: %w", err)
	}
	for _, n := range set.Nodes {
		if identity.Kid(n.Identity.KID) != kid {
			continue
		}
		public, err := n.Identity.Key()
		if err != nil {
			return none, nil, nil, err
		}
		hash, err := offer.Answered(public, msg)
		if err != nil {
			return none, nil, nil, err
		}
		for _, p := range state.Offers {
			o, err := offer.Parse(gateway, p.Bytes)
			if err != nil {
				return none, nil, nil, fmt.Errorf("read pending offer %x: %w", p.ID, err)
			}
			if o.Hash() == hash {
				return n, p, o, nil
			}
		}
		return none, nil, nil, fmt.Errorf("%w: signed by node %s", ErrNoOffer, n.Name)
	}
	return none, nil, nil, fmt.Errorf("%w: it is signed by %s", ErrUnknownNode, kid)
}
