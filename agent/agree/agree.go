// SPDX-License-Identifier: Apache-2.0

// Package agree is the gateway's part in agreeing an epoch offline, by an offer and a reply (HPKE, RFC 9180, with a key that the
// gateway's TPM holds): what is computed, signed and asked of the TPM. It keeps no state and reads no files, so that the running
// agent and `cellward keys` on a stopped one do the same.
//
// It may import agent/epoch, agent/policy, agent/station and crypto/...
package agree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
)

var (
	// ErrUnknownNode says that the binding has no such node.
	ErrUnknownNode = errors.New("binding has no such node")
	// ErrNoEpoch says that there is nothing to retire.
	ErrNoEpoch = errors.New("node has no such epoch")
	// ErrNoOffer says that no pending offer belongs to a reply.
	ErrNoOffer = errors.New("no pending offer belongs to this reply")
)

// NewOffer makes an offer of an epoch to a node. Its private key is made in the gateway's TPM for this offer alone, under the
// value that the counter of offers shows. The caller makes it durable before it leaves the gateway.
func NewOffer(ctx context.Context, s *station.Station, node policy.ResolvedNode, number uint32) (*epoch.Offer, error) {
	batch, err := s.Counters.Offers.Value()
	if err != nil {
		return nil, fmt.Errorf("read counter of offers: %w", err)
	}
	key, err := s.TPM.CreateExchangeKey(ctx, s.Counters.Offers.Policy(batch))
	if err != nil {
		return nil, fmt.Errorf("make offer key: %w", err)
	}
	kid := identity.Kid(node.Identity.KID)
	o, err := offer.New(s.Signer, key.PublicKey(), offer.Params{Node: kid, Epoch: number, Binding: node.BindingHash})
	if err != nil {
		return nil, err
	}
	return &epoch.Offer{ID: o.ID, Node: kid, Epoch: number, Created: time.Now().Unix(), Bytes: o.Bytes(), Key: key.PEM(), Batch: batch}, nil
}

// Answered is a reply with the pending offer that it answers.
type Answered struct {
	Node    policy.ResolvedNode
	Pending *epoch.Offer

	offer *offer.Offer
	reply []byte
}

// Match finds the pending offer that a reply answers: the one among the signer's that the reply names by its hash. It checks the
// reply's signature.
func Match(set *policy.Set, pending []*epoch.Offer, gateway *identity.PublicKey, reply []byte) (*Answered, error) {
	kid, err := identity.SignerKid(reply)
	if err != nil {
		return nil, fmt.Errorf("read reply: %w", err)
	}
	for _, n := range set.Nodes {
		if identity.Kid(n.Identity.KID) != kid {
			continue
		}
		public, err := n.Identity.Key()
		if err != nil {
			return nil, err
		}
		hash, err := offer.Answered(public, reply)
		if err != nil {
			return nil, err
		}
		for _, p := range pending {
			o, err := offer.Parse(gateway, p.Bytes)
			if err != nil {
				return nil, fmt.Errorf("read pending offer %x: %w", p.ID, err)
			}
			if o.Hash() != hash {
				continue
			}
			if o.Binding != n.BindingHash {
				return nil, fmt.Errorf("accept reply of node %s: %w", n.Name, offer.ErrBinding)
			}
			return &Answered{Node: n, Pending: p, offer: o, reply: reply}, nil
		}
		return nil, fmt.Errorf("%w: signed by node %s", ErrNoOffer, n.Name)
	}
	return nil, fmt.Errorf("%w: it is signed by %s", ErrUnknownNode, kid)
}

// Open has the TPM agree the secret and opens the reply. The caller makes the epoch durable and ends the offer in one step, or
// frees the epoch's secret. The secret lies where in keeps those of its epochs; nothing else of in is looked at, so others may be
// at work on it.
func (a *Answered) Open(s *station.Station, in *epoch.State) (e *epoch.Epoch, err error) {
	public, err := a.Node.Identity.Key()
	if err != nil {
		return nil, err
	}
	key, err := s.TPM.ParseExchangeKey(a.Pending.Key, s.Counters.Offers.Policy(a.Pending.Batch))
	if err != nil {
		return nil, fmt.Errorf("take up offer key: %w", err)
	}
	secretmem.Do(func() {
		var got *offer.Accepted
		if got, err = a.offer.Accept(public, key, a.reply, nil); err != nil {
			return
		}
		defer got.PRK.Wipe()
		var prk *secretmem.Box[schedule.PRK]
		if prk, err = in.Keep(&got.PRK); err != nil {
			return
		}
		e = &epoch.Epoch{
			Number: a.offer.Epoch, PRK: prk, Base: got.FirstCounter, Agreed: time.Now().Unix(), Method: epoch.MethodHPKE,
			BindingHash: a.offer.Binding, Starts: []epoch.Start{{F: got.FirstCounter, Random: got.Start}},
		}
	})
	return e, err
}

// CloseBatch ends the offers that were made while the counter of offers showed batch, none of which may be pending any more: the
// TPM refuses their private keys from here on, whoever kept them. It does nothing for a batch that is closed already, so whoever
// comes next does it when a crash came between. Batch 0 is none.
func CloseBatch(s *station.Station, batch uint64) error {
	if batch == 0 {
		return nil
	}
	shown, err := s.Counters.Offers.Value()
	if err == nil && shown == batch {
		_, err = s.Counters.Offers.Increment()
	}
	if err != nil {
		return fmt.Errorf("close batch of offers: %w", err)
	}
	return nil
}
