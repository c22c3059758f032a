// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cellward/cellward/agent/epoch"
)

// Versioned keeps one state in generations that hardware retires; vault.Generations implements it.
type Versioned interface {
	// Load returns the state, or nil when nothing was ever saved. The caller wipes it.
	Load() ([]byte, error)
	// Save returns after the state is durable in the present generation.
	Save(state []byte) error
	// Advance makes the state durable in the next generation and retires the present one: no copy of it opens any more.
	Advance(state []byte) error
}

// ErrRetire says that a state is durable, but that the hardware did not retire what the state no longer holds: it is tried again
// with the next save.
var ErrRetire = errors.New("hardware did not retire what is no longer to be opened")

// Store keeps the gateway's epochs: their state under one counter, which moves at every start and clean stop, and their secrets
// under another, which moves only when one of them is retired. So a gateway that cannot write keeps the secrets of nodes that
// it cannot ask for new ones. It is safe for concurrent use.
type Store struct {
	mu      sync.Mutex
	state   Versioned
	secrets Versioned
	ids     []epoch.SecretID // what secrets holds
	changed bool             // a secret has come or gone since it was asked last
}

// NewStore returns a store over two vaults.
func NewStore(state, secrets Versioned) *Store { return &Store{state: state, secrets: secrets} }

// Load reads the epochs, which are empty on a new gateway. missing names epochs whose secret is gone, which are dropped.
func (s *Store) Load() (_ *epoch.State, missing []epoch.SecretID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, err := s.state.Load()
	if err != nil {
		return nil, nil, fmt.Errorf("load epoch state: %w", err)
	}
	secrets, err := s.secrets.Load()
	if err != nil {
		return nil, nil, fmt.Errorf("load epoch secrets: %w", err)
	}
	defer clear(secrets)
	if state == nil {
		// Secrets without a state are of agreements that were never finished.
		s.ids = nil
		return epoch.New(), nil, nil
	}
	defer clear(state)
	x, missing, surplus, err := epoch.Decode(state, secrets)
	if err != nil {
		return nil, nil, err
	}
	s.ids = surplus
	for _, n := range x.Nodes {
		for _, e := range n.Epochs {
			s.ids = append(s.ids, epoch.SecretID{Node: n.Kid, Epoch: e.Number})
		}
	}
	return x, missing, nil
}

// Save makes x durable. Secrets that it does not hold any more are retired in the hardware before Save returns.
func (s *Store) Save(x *epoch.State) error {
	e, err := x.Encode()
	if err != nil {
		return err
	}
	defer e.Wipe()
	return s.save(e, false)
}

// Advance is Save, and moves the state of all epochs to a new generation: older copies of the folder are refused from then on.
func (s *Store) Advance(x *epoch.State) error {
	e, err := x.Encode()
	if err != nil {
		return err
	}
	defer e.Wipe()
	return s.save(e, true)
}

// save writes what a crash at any point leaves usable: a secret is there before the state that names it, and retired after the
// state that does not name it any more.
func (s *Store) save(e *epoch.Encoded, advance bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	added, removed := false, false
	for _, id := range e.IDs {
		added = added || !slices.Contains(s.ids, id)
	}
	for _, id := range s.ids {
		removed = removed || !slices.Contains(e.IDs, id)
	}
	if added && !removed {
		s.changed = true
		if err := s.secrets.Save(e.Secrets); err != nil {
			return fmt.Errorf("save epoch secrets: %w", err)
		}
		s.ids = slices.Clone(e.IDs)
	}
	if added && removed {
		s.changed = true
		// Both at once: the new secret must be there first, and writing it does away with the old one in the same step.
		if err := s.secrets.Advance(e.Secrets); err != nil {
			return fmt.Errorf("save and retire epoch secrets: %w", err)
		}
		s.ids = slices.Clone(e.IDs)
		removed = false
	}
	write := s.state.Save
	if advance {
		write = s.state.Advance
	}
	if err := write(e.State); err != nil {
		return fmt.Errorf("save epoch state: %w", err)
	}
	if removed {
		s.changed = true
		if err := s.secrets.Advance(e.Secrets); err != nil {
			return fmt.Errorf("%w: epoch secrets: %w", ErrRetire, err)
		}
		s.ids = slices.Clone(e.IDs)
	}
	return nil
}

// secretsChanged reports, once, that a secret has come or gone: TPM and libraries were at work on secrets.
func (s *Store) secretsChanged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.changed
	s.changed = false
	return was
}
