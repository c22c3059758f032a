// SPDX-License-Identifier: Apache-2.0

// Package keys is what `cellward keys` does: it makes identities and agrees epochs offline, by an offer of the gateway and a
// reply of the node (HPKE, RFC 9180, between keys that TPMs hold). Each call opens the state folder it works on, and with it
// takes its lock. Where a running agent has the gateway's folder locked, the agent is asked to do the same, by its control socket;
// an edge that runs on a node's folder refuses (vault.ErrLocked).
//
// It may import the other packages under agent, and crypto/...
package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/schedule"
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

// Offer makes an offer for a node's next epoch. Its private key is made in the gateway's TPM for this offer alone; the offer is
// durable when Offer returns.
func Offer(ctx context.Context, set *policy.Set, name string) (*agree.Offered, error) {
	o, err := offerIn(ctx, set, name)
	if err == nil || !held(err) {
		return o, err
	}
	var a agent.OfferAnswer
	if err := ask(ctx, set, err, control.OfferPath, agent.OfferRequest{Node: name}, &a); err != nil {
		return nil, err
	}
	a.Bytes = a.Offer
	return &a.Offered, nil
}

func offerIn(ctx context.Context, set *policy.Set, name string) (_ *agree.Offered, err error) {
	node, ok := set.Node(name)
	if !ok {
		return nil, fmt.Errorf("make offer: %w: %q", agree.ErrUnknownNode, name)
	}
	g, err := openGateway(ctx, set)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.state.MayOffer(); err != nil {
		return nil, fmt.Errorf("make offer: %w", err)
	}
	number, err := g.state.AddNode(identity.Kid(node.Identity.KID)).NextEpoch()
	if err != nil {
		return nil, err
	}
	o, err := agree.NewOffer(ctx, g.Station, node, number)
	if err != nil {
		return nil, err
	}
	g.state.Batch = o.Batch
	if err := g.state.AddOffer(o); err != nil {
		return nil, fmt.Errorf("keep offer: %w", err)
	}
	if err := g.store.Save(g.state); err != nil {
		return nil, err
	}
	return agree.DescribeOffer(name, o, agent.ViaFolder), nil
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

// Accept takes a node's reply. The new epoch and the end of its offer become durable in one step, so the offer serves one
// payload: before that the same reply may be taken again, after it none.
func Accept(ctx context.Context, set *policy.Set, msg []byte) (*agree.Accepted, error) {
	x, err := acceptIn(ctx, set, msg)
	if err == nil || !held(err) {
		return x, err
	}
	return asked[agree.Accepted](ctx, set, err, control.AcceptPath, agent.AcceptRequest{Reply: msg})
}

func acceptIn(ctx context.Context, set *policy.Set, msg []byte) (_ *agree.Accepted, err error) {
	g, err := openGateway(ctx, set)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	answered, err := agree.Match(set, g.state.Offers, g.Public, msg)
	if err != nil {
		return nil, err
	}
	e, err := answered.Open(g.Station, g.state)
	if err != nil {
		return nil, err
	}
	if err := g.state.AddNode(answered.Pending.Node).Agree(e, 0); err != nil {
		e.PRK.Free()
		return nil, err
	}
	g.state.CloseOffer(answered.Pending.ID)
	if err := g.store.Save(g.state); err != nil && !errors.Is(err, agent.ErrRetire) {
		return nil, err
	}
	name := answered.Node.Name
	if err := g.closeBatch(); err != nil {
		return nil, fmt.Errorf("epoch %d of node %s is agreed, but its offer could not be retired: %w", e.Number, name, err)
	}
	return &agree.Accepted{Node: name, Epoch: e.Number, FirstCounter: e.Base, Via: agent.ViaFolder}, nil
}

// RotateOffers discards all pending offers and has the TPM refuse their keys. It returns how many there were.
func RotateOffers(ctx context.Context, set *policy.Set) (*agree.Rotated, error) {
	n, err := rotateIn(ctx, set)
	if err == nil || !held(err) {
		return &agree.Rotated{Discarded: n, Via: agent.ViaFolder}, err
	}
	return asked[agree.Rotated](ctx, set, err, control.RotateOffersPath, agent.RotateRequest{})
}

func rotateIn(ctx context.Context, set *policy.Set) (n int, err error) {
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
// every copy of the state folder that holds their secrets, and nothing is accepted under them by an agent that runs. If only the
// TPM's part has failed, the error is agent.ErrRetire; whoever opens the folder next makes up for it.
func Retire(ctx context.Context, set *policy.Set, name string, number uint32) (*agree.Retired, error) {
	retired, err := retireIn(ctx, set, name, number)
	if err == nil || !held(err) {
		return &agree.Retired{Node: name, Retired: retired, Via: agent.ViaFolder}, err
	}
	return asked[agree.Retired](ctx, set, err, control.RetirePath, agent.RetireRequest{Node: name, Epoch: number})
}

func retireIn(ctx context.Context, set *policy.Set, name string, number uint32) (retired []uint32, err error) {
	node, ok := set.Node(name)
	if !ok {
		return nil, fmt.Errorf("retire epoch: %w: %q", agree.ErrUnknownNode, name)
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
		return nil, fmt.Errorf("%w: node %s, epoch %d", agree.ErrNoEpoch, name, number)
	}
	return retired, g.store.Advance(g.state)
}

// List reads what is known of the nodes' keys. It shows no secret.
func List(ctx context.Context, set *policy.Set) (*agent.KeyList, error) {
	l, err := listIn(ctx, set)
	// Members of the socket's group may not open the folder, and may read what the agent says.
	if err == nil || !held(err) && !errors.Is(err, fs.ErrPermission) {
		return l, err
	}
	l = new(agent.KeyList)
	return l, unanswered(err, control.Get(ctx, set.Binding.Gateway.Control.Socket, control.KeysPath, l))
}

func listIn(ctx context.Context, set *policy.Set) (_ *agent.KeyList, err error) {
	g, err := openGateway(ctx, set)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	return agent.ListKeys(set, g.state, time.Now()), nil
}
