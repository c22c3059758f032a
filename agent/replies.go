// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/tpm"
)

// maxAnswers is how many answers are remembered: as many as offers may be pending.
const maxAnswers = epoch.MaxOffers

// answer is a reply that has brought an epoch, by its hash and that of its offer.
type answer struct {
	offer [offer.HashSize]byte
	reply [sha256.Size]byte
}

// refusedReply reports a reply that has brought nothing, if that says something about its node: the reason decides which kind of event
// it is. A TPM that fails, and a state that cannot be written, are not the node's doing.
func (m *keyManager) refusedReply(set *policy.Set, reply []byte, err error) {
	node, signed := replier(set, reply)
	r := event.Record{Kind: kind.HandshakeFailed, Subject: event.Subject{}, Detail: err.Error()}
	if node != nil {
		r.Subject = event.Node(node.Index)
	}
	var broken *tpm.Error
	switch {
	case errors.As(err, &broken), errors.Is(err, ErrNotDurable):
		return
	case errors.Is(err, epoch.ErrRollback):
		r.Kind = kind.NodeRollbackProved
	case errors.Is(err, offer.ErrFloor):
		r.Kind = kind.NodeFloorRefused
	case errors.Is(err, agree.ErrNoOffer):
		for _, a := range m.answers {
			if signed == nil || a.offer != *signed {
				continue
			}
			if a.reply == sha256.Sum256(reply) {
				return // the same once more: nothing new is claimed
			}
			// A node answers an offer once, and its storage remembers that. Who answers twice is two, or was put back.
			r.Kind, r.Detail = kind.OfferConflict, fmt.Sprintf("second reply to offer %x", a.offer[:8])
		}
	}
	m.agent.monitor.report(r)
}

// answered remembers a reply that was accepted.
func (m *keyManager) answered(set *policy.Set, reply []byte) {
	_, signed := replier(set, reply)
	if signed == nil {
		return
	}
	if len(m.answers) == maxAnswers {
		m.answers = m.answers[1:]
	}
	m.answers = append(m.answers, answer{*signed, sha256.Sum256(reply)})
}

// replier returns the node that a reply says to be from, nil if there is none, and the offer that it answers, nil unless the node has
// signed that.
func replier(set *policy.Set, reply []byte) (*policy.ResolvedNode, *[offer.HashSize]byte) {
	kid, err := identity.SignerKid(reply)
	if err != nil {
		return nil, nil
	}
	for i := range set.Nodes {
		n := &set.Nodes[i]
		if identity.Kid(n.Identity.KID) != kid {
			continue
		}
		public, err := n.Identity.Key()
		if err != nil {
			return n, nil
		}
		hash, err := offer.Answered(public, reply)
		if err != nil {
			return n, nil
		}
		return n, &hash
	}
	return nil, nil
}
