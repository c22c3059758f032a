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
	// Retire moves to the next generation with what was saved last and retires the present one: no copy of it opens any more.
	// Save goes on meanwhile.
	Retire() error
}

// ErrRetire says that a state is durable, but that the hardware did not retire what the state no longer holds: it is tried again
// with the next save.
var ErrRetire = errors.New("hardware did not retire what is no longer to be opened")

// Store keeps the gateway's epochs: their state under one counter, which moves at every start and clean stop, and their secrets
// under another, which moves only when one of them is retired. So a gateway that cannot write keeps the secrets of nodes that
// it cannot ask for new ones. It is safe for concurrent use.
//
// What is on disk and what the hardware has retired are two things: writes wait for no hardware, which may take seconds for each
// of its steps, and the hardware follows.
type Store struct {
	mu      sync.Mutex
	state   Versioned
	secrets Versioned
	ids     []epoch.SecretID // whose secrets the present file holds
	// retired are those that it does not hold any more, while the hardware still opens copies of it that do. The file names them,
	// so that they are known after a crash.
	retired []epoch.SecretID
	// surplus says that the present file does hold some of them: a crash came between two writes.
	surplus bool
	// changed says that a secret has come or gone, or a key of a file, since it was asked last.
	changed bool
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
		s.ids, s.retired, s.surplus = nil, nil, false
		return epoch.New(), nil, nil
	}
	defer clear(state)
	x, missing, surplus, err := epoch.Decode(state, secrets)
	if err != nil {
		return nil, nil, err
	}
	s.ids, s.retired, s.surplus = secretIDs(x), surplus, len(surplus) > 0
	return x, missing, nil
}

// HandOver encodes x for another process that goes on with this store's vaults (Adopt): the secrets name what the hardware has not
// retired yet. The caller wipes both parts.
func (s *Store) HandOver(x *epoch.State) (state, secrets []byte, surplus bool, err error) {
	e, err := x.Encode()
	if err != nil {
		return nil, nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer e.Wipe()
	if secrets, err = epoch.AddRetired(e.Secrets, s.retired); err != nil {
		return nil, nil, false, err
	}
	state, e.State = e.State, nil // the caller's now
	return state, secrets, s.surplus, nil
}

// Adopt goes on where the store of another process has stopped, with what that has handed over.
func (s *Store) Adopt(state, secrets []byte, surplus bool) (*epoch.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, missing, retired, err := epoch.Decode(state, secrets)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		x.Wipe()
		return nil, fmt.Errorf("take over epochs: %w: the secret of epoch %d of node %s is missing", epoch.ErrState, missing[0].Epoch, missing[0].Node)
	}
	s.ids, s.retired, s.surplus = secretIDs(x), retired, surplus
	return x, nil
}

func secretIDs(x *epoch.State) (ids []epoch.SecretID) {
	for _, n := range x.Nodes {
		for _, e := range n.Epochs {
			ids = append(ids, epoch.SecretID{Node: n.Kid, Epoch: e.Number})
		}
	}
	return ids
}

// Save makes x durable. Secrets that it does not hold any more are retired in the hardware before Save returns; if only that
// failed, the error is ErrRetire.
func (s *Store) Save(x *epoch.State) error { return s.write(x, false) }

// Advance is Save, and moves the state of all epochs to a new generation: older copies of the folder are refused from then on.
func (s *Store) Advance(x *epoch.State) error { return s.write(x, true) }

func (s *Store) write(x *epoch.State, generation bool) error {
	e, err := x.Encode()
	if err != nil {
		return err
	}
	defer e.Wipe()
	if err := s.save(e); err != nil {
		return err
	}
	return s.retire(generation)
}

// save writes what a crash at any point leaves usable: a secret is there before the state that names it, and goes after the state
// that does not name it any more. It does not retire anything in the hardware, which it needs for nothing but the first secret of
// all.
func (s *Store) save(e *epoch.Encoded) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := slices.ContainsFunc(e.IDs, func(id epoch.SecretID) bool { return !slices.Contains(s.ids, id) })
	removed := slices.DeleteFunc(slices.Clone(s.ids), func(id epoch.SecretID) bool { return slices.Contains(e.IDs, id) })
	if added {
		if err := s.saveSecrets(e, removed); err != nil {
			return err
		}
	}
	if err := s.state.Save(e.State); err != nil {
		return fmt.Errorf("save epoch state: %w", err)
	}
	if !added && len(removed) > 0 {
		return s.saveSecrets(e, removed)
	}
	return nil
}

// saveSecrets writes the secrets of e, and in the place of those that are gone a note that the hardware still opens them.
func (s *Store) saveSecrets(e *epoch.Encoded, removed []epoch.SecretID) error {
	// A secret that comes back, after an agreement that could not be made durable at first, is none to be retired.
	retired := slices.DeleteFunc(slices.Concat(s.retired, removed), func(id epoch.SecretID) bool { return slices.Contains(e.IDs, id) })
	b, err := epoch.AddRetired(e.Secrets, retired)
	if err != nil {
		return err
	}
	defer clear(b)
	if err := s.secrets.Save(b); err != nil {
		return fmt.Errorf("save epoch secrets: %w", err)
	}
	s.ids, s.retired, s.surplus, s.changed = slices.Clone(e.IDs), retired, false, true
	return nil
}

// stale says that the hardware still opens copies with secrets that were retired.
func (s *Store) stale() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.retired) > 0
}

// Settle finishes in the hardware what a crash or a hardware that did not answer has left.
func (s *Store) Settle() error { return s.retire(false) }

func (s *Store) noteChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = true
}

// secretsChanged reports, once, that a secret or a key of a file has come or gone: TPM and libraries were at work on secrets.
func (s *Store) secretsChanged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.changed
	s.changed = false
	return was
}

// retire does the hardware's part: it ends the generation of the secrets if some of them are gone, and that of the state if asked.
// Saves go on meanwhile. Any failure is ErrRetire.
func (s *Store) retire(generation bool) error {
	s.mu.Lock()
	retired := slices.Clone(s.retired)
	s.mu.Unlock()
	var errs []error
	if len(retired) > 0 {
		if err := s.retireSecrets(retired); err != nil {
			errs = append(errs, fmt.Errorf("%w: epoch secrets: %w", ErrRetire, err))
		} else {
			s.noteChanged()
		}
	}
	if generation {
		if err := s.state.Retire(); err != nil {
			errs = append(errs, fmt.Errorf("%w: epoch state: %w", ErrRetire, err))
		} else {
			s.noteChanged()
		}
	}
	return errors.Join(errs...)
}

func (s *Store) retireSecrets(retired []epoch.SecretID) error {
	if err := s.blank(); err != nil {
		return err
	}
	if err := s.secrets.Retire(); err != nil {
		return err
	}
	// What was retired while the hardware was at it may be in a copy of the new file, and waits for the next time.
	s.mu.Lock()
	defer s.mu.Unlock()
	done := slices.DeleteFunc(retired, func(id epoch.SecretID) bool { return !slices.Contains(s.retired, id) }) // the rest has come back
	if err := s.editSecrets(func(b []byte) ([]byte, error) { return epoch.DropRetired(b, done) }); err != nil {
		return err
	}
	s.retired = slices.DeleteFunc(s.retired, func(id epoch.SecretID) bool { return slices.Contains(done, id) })
	return nil
}

// blank takes secrets out of the present file that it should not hold any more, so that the next one never does.
func (s *Store) blank() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.surplus {
		return nil
	}
	err := s.editSecrets(func(b []byte) ([]byte, error) {
		kept, err := epoch.DropRetired(b, s.retired)
		if err != nil {
			return nil, err
		}
		defer clear(kept)
		return epoch.AddRetired(kept, s.retired)
	})
	s.surplus = err != nil
	return err
}

func (s *Store) editSecrets(edit func([]byte) ([]byte, error)) error {
	b, err := s.secrets.Load()
	if err != nil {
		return fmt.Errorf("read epoch secrets again: %w", err)
	}
	defer clear(b)
	kept, err := edit(b)
	if err != nil {
		return err
	}
	defer clear(kept)
	if err := s.secrets.Save(kept); err != nil {
		return fmt.Errorf("save epoch secrets: %w", err)
	}
	return nil
}
