// SPDX-License-Identifier: Apache-2.0

package offer

import (
	"fmt"

	"github.com/cellward/cellward/crypto/identity"
)

// Answered returns the hash of the offer that a reply answers (Offer.Hash), after the node's signature has verified. A gateway
// with several pending offers finds the right one by it; Accept looks at everything else.
func Answered(node *identity.PublicKey, reply []byte) (hash [HashSize]byte, err error) {
	payload, err := identity.Verify(node, contextReply, reply)
	if err != nil {
		return hash, fmt.Errorf("read reply: %w", err)
	}
	var p replyPayload
	if err := identity.Unmarshal(payload, &p); err != nil {
		return hash, fmt.Errorf("read reply: %w", err)
	}
	if len(p.Offer) != len(hash) {
		return hash, fmt.Errorf("read reply: %w: offer hash of %d bytes", ErrField, len(p.Offer))
	}
	return [HashSize]byte(p.Offer), nil
}
