// SPDX-License-Identifier: Apache-2.0

package station

import (
	"errors"
	"fmt"
	"os"

	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/tpm"
)

// Handover is what of an open gateway goes to the process that takes over from this one, besides the lock of its folder. It holds the
// keys of the vaults and is to be wiped.
type Handover struct {
	Epochs  *vault.Handover `cbor:"1,keyasint"`
	Offline *vault.Handover `cbor:"2,keyasint"`
}

// Wipe overwrites the keys.
func (h *Handover) Wipe() {
	for _, v := range []*vault.Handover{h.Epochs, h.Offline} {
		if v != nil {
			v.Wipe()
		}
	}
}

// HandOver returns what Adopt goes on with.
func (s *Station) HandOver() *Handover {
	return &Handover{Epochs: s.Epochs.HandOver(), Offline: s.Offline.HandOver()}
}

// AdoptFolder opens the folder of a gateway that another process works with, with the lock that it has handed over, and all that needs
// neither vault nor TPM: the TPM is opened by its first use. The caller writes nothing until the other one has given it up, and then
// calls Adopt. It takes lock in any case.
func AdoptFolder(o Options, lock *os.File) (_ *Station, err error) {
	if !o.Gateway || o.Software || o.TPM == "" {
		return nil, errors.Join(ErrGatewayTPM, lock.Close())
	}
	s := new(Station)
	if s.Dir, err = vault.AdoptDirOf(o.Dir, o.Owner, lock); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	pin, err := readPin(s.Dir)
	if err != nil {
		return nil, err
	}
	if s.TPM, err = tpm.Defer(o.TPM, tpm.Options{SRKName: pin}); err != nil {
		return nil, err
	}
	b, err := s.Dir.ReadFile(identityFile)
	if err != nil {
		return nil, err
	}
	if s.Signer, err = s.TPM.ParseSigningKey(b, nil); err != nil {
		return nil, fmt.Errorf("read identity in %s: %w", o.Dir, err)
	}
	if s.Public, err = identity.NewPublicKey(s.Signer.Public()); err != nil {
		return nil, fmt.Errorf("read identity in %s: %w", o.Dir, err)
	}
	s.Counters, err = openCounters(s.TPM, s.Dir)
	return s, err
}

// Adopt opens the vaults of a gateway with the keys that were handed over.
func (s *Station) Adopt(h *Handover) (err error) {
	if h == nil || h.Epochs == nil || h.Offline == nil {
		return fmt.Errorf("take over vaults: %w: one is missing", vault.ErrHandover)
	}
	if s.Epochs, err = vault.AdoptGenerations(s.Dir, vaultName, s.Counters.Generation, h.Epochs); err != nil {
		return err
	}
	s.Offline, err = vault.AdoptGenerations(s.Dir, offlineName, s.Counters.Offline, h.Offline)
	return err
}
