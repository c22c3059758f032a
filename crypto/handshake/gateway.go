// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto"
	"fmt"

	"github.com/cellward/cellward/crypto/edhoc"
)

// GatewayConfig configures the gateway's side of one handshake.
type GatewayConfig struct {
	Name      string // own name
	Signer    crypto.Signer
	Node      Party                  // the owner of the control identifier on which message_1 came
	Ephemeral edhoc.EphemeralFactory // nil: in software
}

// Gateway is the gateway's side of one handshake. It is not safe for concurrent use.
type Gateway struct {
	r       *edhoc.Responder
	request *Request
	granted *Grant
}

// NewGateway prepares a handshake. No key is made before Message1.
func NewGateway(c GatewayConfig) (*Gateway, error) {
	cfg, err := config(c.Name, c.Signer, c.Node, c.Ephemeral)
	if err != nil {
		return nil, fmt.Errorf("prepare handshake: %w", err)
	}
	g := &Gateway{}
	cfg.ProcessEAD = func(message int, field []edhoc.EAD) error {
		if message != 3 {
			return nil
		}
		value, err := only(field)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRequest, err)
		}
		g.request, err = parseRequest(value)
		return err
	}
	if g.r, err = edhoc.NewResponder(cfg); err != nil {
		return nil, fmt.Errorf("prepare handshake: %w", err)
	}
	return g, nil
}

// Message1 takes message_1 and makes message_2. Nothing is authenticated yet: anyone can send a message_1, so the caller
// limits how often this is called. An error of our own keys ends the handshake.
func (g *Gateway) Message1(msg []byte) ([]byte, error) {
	if _, err := g.r.Message1(msg); err != nil {
		return nil, err
	}
	reply, err := g.r.Message2()
	if err != nil {
		_ = g.r.Close()
		return nil, err
	}
	return reply, nil
}

// Message3 verifies message_3: from then on the node is authenticated, and its request may be acted on.
func (g *Gateway) Message3(msg []byte) (*Request, error) {
	if _, err := g.r.Message3(msg); err != nil {
		return nil, err
	}
	r := *g.request
	return &r, nil
}

// Agree derives the secret for what is granted, once. The caller makes epoch, floor and secret durable, and lets the
// epoch into agent and filter, before it asks for message_4.
func (g *Gateway) Agree(grant Grant) (*Agreement, error) {
	if g.r.State() != edhoc.StateCompleted || g.granted != nil {
		return nil, fmt.Errorf("agree: %w", ErrOrder)
	}
	if err := grant.answers(g.request); err != nil {
		return nil, fmt.Errorf("agree: %w", err)
	}
	s, err := g.r.Session()
	if err != nil {
		return nil, fmt.Errorf("agree: %w", err)
	}
	defer s.Close()
	a, err := derive(s, grant, g.request.BindingHash)
	if err != nil {
		return nil, fmt.Errorf("agree: %w", err)
	}
	g.granted = &grant
	return a, nil
}

// Message4 makes message_4 with what was agreed.
func (g *Gateway) Message4() ([]byte, error) {
	if g.granted == nil {
		return nil, fmt.Errorf("message_4: %w", ErrOrder)
	}
	value, err := g.granted.encode()
	if err != nil {
		return nil, fmt.Errorf("message_4: %w", err)
	}
	return g.r.Message4(item(value))
}

// Sent is the last message that was made: a repeated message_1 or message_3 is answered by it.
func (g *Gateway) Sent() []byte { return g.r.Sent() }

// Close ends the handshake and wipes it. An agreement that was handed out lives on.
func (g *Gateway) Close() error { return g.r.Close() }
