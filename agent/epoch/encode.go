// SPDX-License-Identifier: Apache-2.0

package epoch

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
)

// SecretID names the secret of one epoch of one node.
type SecretID struct {
	Node  identity.Kid
	Epoch uint32
}

// Encoded is a state as it is stored, in two parts that are retired by different counters: the state of all epochs without their
// secrets, and the secrets. Both are to be wiped.
type Encoded struct {
	State   []byte
	Secrets []byte
	// IDs say what Secrets holds.
	IDs []SecretID
}

// Wipe overwrites both parts.
func (e *Encoded) Wipe() {
	clear(e.State)
	clear(e.Secrets)
}

// secret is one entry of the second part.
type secret struct {
	Node  identity.Kid `cbor:"1,keyasint"`
	Epoch uint32       `cbor:"2,keyasint"`
	PRK   schedule.PRK `cbor:"3,keyasint"`
}

// Encode encodes s.
func (s *State) Encode() (*Encoded, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("make encoder of epoch state: %w", err)
	}
	e := new(Encoded)
	if e.State, err = mode.Marshal(s); err != nil {
		return nil, fmt.Errorf("encode epoch state: %w", err)
	}
	var all []secret
	for _, n := range s.Nodes {
		for _, x := range n.Epochs {
			all = append(all, secret{n.Kid, x.Number, x.PRK})
			e.IDs = append(e.IDs, SecretID{n.Kid, x.Number})
		}
	}
	if all == nil {
		all = []secret{}
	}
	e.Secrets, err = mode.Marshal(all)
	for i := range all {
		all[i].PRK.Wipe()
	}
	if err != nil {
		return nil, fmt.Errorf("encode epoch secrets: %w", err)
	}
	return e, nil
}

// Decode decodes and checks a state from its two parts, which the vault has authenticated: a failure means another version or a
// fault. Epochs whose secret is missing are dropped and named in missing; secrets that no epoch has any more are named in
// surplus, and are to be retired.
func Decode(state, secrets []byte) (_ *State, missing, surplus []SecretID, err error) {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make decoder of epoch state: %w", err)
	}
	s := new(State)
	if err := mode.Unmarshal(state, s); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := s.check(); err != nil {
		return nil, nil, nil, err
	}
	var all []secret
	if secrets != nil {
		if err := mode.Unmarshal(secrets, &all); err != nil {
			return nil, nil, nil, fmt.Errorf("%w: secrets: %w", ErrState, err)
		}
	}
	byID := make(map[SecretID]*secret)
	for i := range all {
		id := SecretID{all[i].Node, all[i].Epoch}
		if byID[id] != nil {
			return nil, nil, nil, fmt.Errorf("%w: two secrets of epoch %d of node %s", ErrState, id.Epoch, id.Node)
		}
		byID[id] = &all[i]
	}
	for _, n := range s.Nodes {
		keep := n.Epochs[:0]
		for _, x := range n.Epochs {
			id := SecretID{n.Kid, x.Number}
			if byID[id] == nil {
				missing = append(missing, id)
				continue
			}
			x.PRK = byID[id].PRK
			delete(byID, id)
			keep = append(keep, x)
		}
		n.Epochs = keep
	}
	for id := range byID {
		surplus = append(surplus, id)
	}
	for i := range all {
		all[i].PRK.Wipe()
	}
	return s, missing, surplus, nil
}
