// SPDX-License-Identifier: Apache-2.0

package epoch

import (
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/cellward/cellward/crypto/identity"
)

// slot is an entry of the encoded secrets, whatever it holds.
type slot struct {
	Node  identity.Kid `cbor:"1,keyasint"`
	Epoch uint32       `cbor:"2,keyasint"`
	PRK   []byte       `cbor:"3,keyasint"`
}

// emptySlot is as long as a secret, so that a file's length tells nothing about what was retired.
const emptySlot = 48

// AddRetired adds an entry without a secret to encoded secrets for each of ids: whoever decodes them finds a surplus there, and so
// knows after a crash that copies with the secret are still to be retired by the hardware. The caller wipes the result.
func AddRetired(secrets []byte, ids []SecretID) ([]byte, error) {
	return editSlots(secrets, func(all []slot) []slot {
		for _, id := range ids {
			all = append(all, slot{id.Node, id.Epoch, make([]byte, emptySlot)})
		}
		return all
	})
}

// DropRetired takes the entries of ids out again. The caller wipes the result.
func DropRetired(secrets []byte, ids []SecretID) ([]byte, error) {
	return editSlots(secrets, func(all []slot) []slot {
		return slices.DeleteFunc(all, func(s slot) bool { return slices.Contains(ids, SecretID{s.Node, s.Epoch}) })
	})
}

func editSlots(secrets []byte, edit func([]slot) []slot) ([]byte, error) {
	var all []slot
	if err := cbor.Unmarshal(secrets, &all); err != nil {
		return nil, fmt.Errorf("%w: secrets: %w", ErrState, err)
	}
	read := slices.Clone(all)
	defer func() {
		for _, s := range read {
			clear(s.PRK)
		}
	}()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("make encoder of epoch secrets: %w", err)
	}
	all = edit(all)
	if all == nil {
		all = []slot{}
	}
	b, err := mode.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode epoch secrets: %w", err)
	}
	return b, nil
}
