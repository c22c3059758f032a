// SPDX-License-Identifier: Apache-2.0

package epoch

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
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

	// region is where Secrets lies: a state waits for a disk, and most of them are written with the secrets as they were.
	region *secretmem.Region
}

// Wipe overwrites both parts and gives the memory of the second back.
func (e *Encoded) Wipe() {
	clear(e.State)
	e.Secrets = nil
	if e.region != nil {
		e.region.Free()
	}
}

// secret is one entry of the second part.
type secret struct {
	Node  identity.Kid `cbor:"1,keyasint"`
	Epoch uint32       `cbor:"2,keyasint"`
	PRK   schedule.PRK `cbor:"3,keyasint"`
}

// Encode encodes s.
func (s *State) Encode() (*Encoded, error) {
	// The encoder's own buffers would keep secrets; this one is given its buffer.
	mode, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		return nil, fmt.Errorf("make encoder of epoch state: %w", err)
	}
	e := new(Encoded)
	if e.State, err = mode.Marshal(s); err != nil {
		return nil, fmt.Errorf("encode epoch state: %w", err)
	}
	for _, n := range s.Nodes {
		for _, x := range n.Epochs {
			e.IDs = append(e.IDs, SecretID{n.Kid, x.Number})
		}
	}
	if e.region, err = secretmem.NewRegion(maxHeader + len(e.IDs)*maxSecret); err != nil {
		return nil, fmt.Errorf("encode epoch secrets: %w", err)
	}
	// A buffer that grows goes elsewhere: this one is large enough.
	e.Secrets = e.region.Bytes[:0]
	secretmem.Do(func() {
		all := make([]secret, 0, len(e.IDs))
		for _, n := range s.Nodes {
			for _, x := range n.Epochs {
				all = append(all, secret{Node: n.Kid, Epoch: x.Number})
				copy(all[len(all)-1].PRK[:], x.PRK.Get()[:])
			}
		}
		defer wipe(all)
		buf := bytes.NewBuffer(e.Secrets)
		err = mode.MarshalToBuffer(all, buf)
		e.Secrets = buf.Bytes()
	})
	if err != nil {
		e.Wipe()
		return nil, fmt.Errorf("encode epoch secrets: %w", err)
	}
	return e, nil
}

// Upper bounds of the encoding in bytes: of the array's head, and of one secret with its keys and lengths.
const (
	maxHeader = 9
	maxSecret = 128
)

func wipe(all []secret) {
	for i := range all {
		all[i].PRK.Wipe()
	}
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
	secretmem.Do(func() { missing, surplus, err = s.takeSecrets(mode, secrets) })
	if err != nil {
		s.Wipe()
		return nil, nil, nil, err
	}
	return s, missing, surplus, nil
}

// takeSecrets gives the epochs of s their secrets.
func (s *State) takeSecrets(mode cbor.DecMode, secrets []byte) (missing, surplus []SecretID, err error) {
	var all []secret
	defer func() { wipe(all) }()
	if secrets != nil {
		if err := mode.Unmarshal(secrets, &all); err != nil {
			return nil, nil, fmt.Errorf("%w: secrets: %w", ErrState, err)
		}
	}
	byID := make(map[SecretID]*secret)
	for i := range all {
		id := SecretID{all[i].Node, all[i].Epoch}
		if byID[id] != nil {
			return nil, nil, fmt.Errorf("%w: two secrets of epoch %d of node %s", ErrState, id.Epoch, id.Node)
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
			if x.PRK, err = s.Keep(&byID[id].PRK); err != nil {
				return nil, nil, err
			}
			delete(byID, id)
			keep = append(keep, x)
		}
		n.Epochs = keep
	}
	for id := range byID {
		surplus = append(surplus, id)
	}
	return missing, surplus, nil
}
