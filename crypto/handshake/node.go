// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto"
	"fmt"

	"github.com/cellward/cellward/crypto/edhoc"
)

// NodeConfig configures the node's side of one handshake.
type NodeConfig struct {
	Name      string        // own name, as the gateway's binding has it
	Signer    crypto.Signer // own identity key: P-384 or P-256, in hardware or not
	Gateway   Party
	Ephemeral edhoc.EphemeralFactory // nil: in software
}

// Node is the node's side of one handshake. It is not safe for concurrent use.
type Node struct {
	i       *edhoc.Initiator
	request *Request
	grant   *Grant
}

// NewNode prepares a handshake. No key is made before Message1.
func NewNode(c NodeConfig) (*Node, error) {
	cfg, err := config(c.Name, c.Signer, c.Gateway, c.Ephemeral)
	if err != nil {
		return nil, fmt.Errorf("prepare handshake: %w", err)
	}
	n := &Node{}
	// The grant is judged before the session takes message_4 as its last: a gateway that grants rubbish is refused like
	// a forged message.
	cfg.ProcessEAD = func(message int, field []edhoc.EAD) error {
		if message != 4 {
			return nil
		}
		value, err := only(field)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrGrant, err)
		}
		g, err := parseGrant(value)
		if err != nil {
			return err
		}
		n.grant = g
		return g.answers(n.request)
	}
	if n.i, err = edhoc.NewInitiator(cfg); err != nil {
		return nil, fmt.Errorf("prepare handshake: %w", err)
	}
	return n, nil
}

// Message1 makes message_1.
func (n *Node) Message1() ([]byte, error) { return n.i.Message1() }

// Message2 verifies message_2: from then on the gateway is authenticated.
func (n *Node) Message2(msg []byte) error {
	_, err := n.i.Message2(msg)
	return err
}

// Message3 makes message_3 with the request in it.
func (n *Node) Message3(r Request) ([]byte, error) {
	value, err := r.encode()
	if err != nil {
		return nil, err
	}
	msg, err := n.i.Message3(item(value))
	if err != nil {
		return nil, err
	}
	n.request = &r
	return msg, nil
}

// Message4 verifies message_4 and gives the agreement, which the caller makes durable before it switches its streams,
// and wipes when done.
func (n *Node) Message4(msg []byte) (*Agreement, error) {
	if _, err := n.i.Message4(msg); err != nil {
		return nil, err
	}
	s, err := n.i.Session()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return derive(s, *n.grant, n.request.BindingHash)
}

// Sent is the last message that was made, for repetition.
func (n *Node) Sent() []byte { return n.i.Sent() }

// Close ends the handshake and wipes it. An agreement that was handed out lives on.
func (n *Node) Close() error { return n.i.Close() }
