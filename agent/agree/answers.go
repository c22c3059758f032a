// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/crypto/offer"
)

// Offered is a new offer. Via says who has made it: "agent" or "folder", here and below.
type Offered struct {
	Node  string `json:"node"`
	Epoch uint32 `json:"epoch"`
	// Fingerprint is for an out-of-band check on the node's side.
	Fingerprint string `json:"fingerprint"`
	Via         string `json:"via"`
	Bytes       []byte `json:"-"`
}

// DescribeOffer says what a durable offer is.
func DescribeOffer(node string, o *epoch.Offer, via string) *Offered {
	return &Offered{Node: node, Epoch: o.Epoch, Fingerprint: offer.Fingerprint(o.Bytes), Via: via, Bytes: o.Bytes}
}

// Accepted is an epoch that a reply has brought.
type Accepted struct {
	Node         string `json:"node"`
	Epoch        uint32 `json:"epoch"`
	FirstCounter uint64 `json:"first_counter"`
	Via          string `json:"via"`
}

// Retired are epochs that nothing opens under any more: they are gone from filter, memory and state, and the TPM refuses every copy
// of the state folder that holds their secrets.
type Retired struct {
	Node    string   `json:"node"`
	Retired []uint32 `json:"retired"`
	Via     string   `json:"via"`
}

// Rotated says how many pending offers were discarded.
type Rotated struct {
	Discarded int    `json:"discarded"`
	Via       string `json:"via"`
}
