// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"fmt"
	"slices"

	"github.com/cellward/cellward/crypto/identity"
)

// Request is EAD_3: what the node says about itself. On the wire it is a CBOR array of its fields in this order.
type Request struct {
	_ struct{} `cbor:",toarray"`

	Floor        uint32   // the highest epoch that the node has ever agreed; 0 for none
	SendingEpoch uint32   // the epoch under which it sends now; 0 for none
	NextCounter  uint64   // the highest next counter of its streams
	BindingHash  [32]byte // SHA-256 over its part of the binding
	Start        [16]byte // the start of the new epoch, fresh random bytes
}

// check refuses what no node can mean.
func (r *Request) check() error {
	switch {
	case r.SendingEpoch > r.Floor:
		return fmt.Errorf("%w: sending epoch %d is above the floor %d", ErrRequest, r.SendingEpoch, r.Floor)
	case r.NextCounter == 0 || r.NextCounter > MaxCounter:
		return fmt.Errorf("%w: next counter %d", ErrRequest, r.NextCounter)
	case r.Start == [16]byte{}:
		return fmt.Errorf("%w: the start is all zeros", ErrRequest)
	}
	return nil
}

func (r *Request) encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return identity.Marshal(r)
}

// parseRequest reads a Request in its one encoding.
func parseRequest(b []byte) (*Request, error) {
	var r Request
	if err := identity.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &r, nil
}

// Grant is EAD_4: what the gateway gives. On the wire it is a CBOR array of its fields in this order.
type Grant struct {
	_ struct{} `cbor:",toarray"`

	Epoch        uint32 // number of the new epoch
	CounterFloor uint64 // the node raises all counters to it: the base of the epoch
}

// answers checks a grant against the request: an epoch above everything the node has had, and a floor that takes no
// counter back, since both together keep every (key, nonce) from repeating.
func (g *Grant) answers(r *Request) error {
	switch {
	case g.Epoch <= r.Floor:
		return fmt.Errorf("%w: epoch %d is not above the floor %d", ErrGrant, g.Epoch, r.Floor)
	case g.CounterFloor < r.NextCounter || g.CounterFloor > MaxCounter:
		return fmt.Errorf("%w: counter floor %d, the next counter is %d", ErrGrant, g.CounterFloor, r.NextCounter)
	}
	return nil
}

func (g *Grant) encode() ([]byte, error) { return identity.Marshal(g) }

// parseGrant reads a Grant in its one encoding.
func parseGrant(b []byte) (*Grant, error) {
	var g Grant
	if err := identity.Unmarshal(b, &g); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGrant, err)
	}
	return &g, nil
}

// maxFloorLead is how far a node's floor may be above the gateway's: a node that claims more would burn the numbers.
const maxFloorLead = 1 << 16

// NextEpoch chooses the epoch to grant: one above both floors, skipping those that agree in their low 8 bits with an
// epoch that is still acceptable, because a frame shows only these 8 bits. ErrFloor is an event.
func NextEpoch(node, gateway uint32, acceptable []uint32) (uint32, error) {
	if uint64(node) > uint64(gateway)+maxFloorLead {
		return 0, fmt.Errorf("%w: %d, ours is %d", ErrFloor, node, gateway)
	}
	taken := func(e uint64) bool {
		return slices.ContainsFunc(acceptable, func(a uint32) bool { return byte(a) == byte(e) })
	}
	first := uint64(max(node, gateway)) + 1
	for e := first; e < first+256 && e <= 1<<32-1; e++ {
		if !taken(e) {
			return uint32(e), nil
		}
	}
	return 0, ErrEpochs
}
