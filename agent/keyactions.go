// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/control"
)

// Requests about keys, as the control socket takes them.
type (
	// OfferRequest asks for an offer to a node.
	OfferRequest struct {
		Node string `json:"node"`
	}
	// OfferAnswer is an offer with its message, which travels as base64.
	OfferAnswer struct {
		agree.Offered
		Offer []byte `json:"offer"`
	}
	// AcceptRequest brings a node's reply, as base64.
	AcceptRequest struct {
		Reply []byte `json:"reply"`
	}
	// RetireRequest names epochs to end; 0 means all of the node.
	RetireRequest struct {
		Node  string `json:"node"`
		Epoch uint32 `json:"epoch,omitempty"`
	}
	// RotateRequest has nothing to say.
	RotateRequest struct{}
)

// keyActions are what the control socket offers about keys.
func (a *Agent) keyActions() map[string]control.Action {
	return map[string]control.Action{
		control.OfferPath: action(a, func(m *keyManager, r OfferRequest) (*OfferAnswer, error) {
			o, err := m.offer(r.Node)
			if err != nil {
				return nil, err
			}
			return &OfferAnswer{*o, o.Bytes}, nil
		}),
		control.AcceptPath:       action(a, func(m *keyManager, r AcceptRequest) (*agree.Accepted, error) { return m.accept(r.Reply) }),
		control.RetirePath:       action(a, func(m *keyManager, r RetireRequest) (*agree.Retired, error) { return m.retire(r.Node, r.Epoch) }),
		control.RotateOffersPath: action(a, func(m *keyManager, _ RotateRequest) (*agree.Rotated, error) { return m.rotateOffers() }),
	}
}

// action decodes a request and has it done by the key manager.
func action[Q, A any](a *Agent, f func(*keyManager, Q) (A, error)) control.Action {
	return func(ctx context.Context, body []byte) (any, error) {
		var q Q
		if err := control.Decode(body, &q); err != nil {
			return nil, err
		}
		return do(ctx, a, func(m *keyManager) (A, error) { return f(m, q) })
	}
}
