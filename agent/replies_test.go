// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/crypto/offer"
)

// TestRefusedReplies gives a gateway replies that bring nothing. Each is an event that says whose fault it is, and none takes an epoch.
func TestRefusedReplies(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	o, err := g.offer()
	if err != nil {
		t.Fatal(err)
	}
	// A node and its clone answer one offer.
	clone := &memoryVault{state: bytes.Clone(g.vault.state)}
	first := g.enroll(o.Offer)
	g.vault, clone = clone, g.vault
	second := g.enroll(o.Offer)
	g.vault = clone

	broken := bytes.Clone(first)
	broken[len(broken)-1] ^= 1
	if _, err := g.accept(broken); err == nil {
		t.Fatal("a reply with a broken signature was taken")
	}
	g.heard(kind.HandshakeFailed, 1)

	// No node's software signs a floor that does not fit, so only the gateway's verdict is at hand.
	g.agent.keys.Load().refusedReply(g.set, first, fmt.Errorf("open reply: %w", offer.ErrFloor))
	g.heard(kind.NodeFloorRefused, 1)

	if _, err := g.accept(first); err != nil {
		t.Fatal(err)
	}
	if _, err := g.accept(first); !errors.Is(err, agree.ErrNoOffer) {
		t.Fatalf("the same reply once more: %v", err)
	}
	g.heard(kind.OfferConflict, 0)
	if _, err := g.accept(second); !errors.Is(err, agree.ErrNoOffer) {
		t.Fatalf("another reply to the same offer: %v", err)
	}
	g.heard(kind.OfferConflict, 1)
	g.heard(kind.HandshakeFailed, 1)
	if _, f := g.agent.monitor.status(); f.State != "latched" {
		t.Errorf("two nodes with one key: the fault is %s", f.State)
	}
}
