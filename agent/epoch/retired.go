// SPDX-License-Identifier: Apache-2.0

package epoch

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/secretmem"
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
	return editSlots(secrets, len(ids), func(all []slot) []slot {
		for _, id := range ids {
			all = append(all, slot{id.Node, id.Epoch, make([]byte, emptySlot)})
		}
		return all
	})
}

// DropRetired takes the entries of ids out again. The caller wipes the result.
func DropRetired(secrets []byte, ids []SecretID) ([]byte, error) {
	return editSlots(secrets, 0, func(all []slot) []slot {
		return slices.DeleteFunc(all, func(s slot) bool { return slices.Contains(ids, SecretID{s.Node, s.Epoch}) })
	})
}

// editSlots edits encoded secrets; added is how many entries come in at most.
func editSlots(secrets []byte, added int, edit func([]slot) []slot) (b []byte, err error) {
	mode, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		return nil, fmt.Errorf("make encoder of epoch secrets: %w", err)
	}
	// As in Encode: a buffer that grew would leave its old memory behind.
	b = make([]byte, 0, maxHeader+len(secrets)+added*maxSecret)
	secretmem.Do(func() {
		var all []slot
		err = cbor.Unmarshal(secrets, &all)
		read := slices.Clone(all)
		defer func() {
			for _, s := range read {
				clear(s.PRK)
			}
		}()
		if err != nil {
			err = fmt.Errorf("%w: secrets: %w", ErrState, err)
			return
		}
		all = edit(all)
		if all == nil {
			all = []slot{}
		}
		buf := bytes.NewBuffer(b)
		if err = mode.MarshalToBuffer(all, buf); err != nil {
			err = fmt.Errorf("encode epoch secrets: %w", err)
		}
		b = buf.Bytes()
	})
	if err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}
