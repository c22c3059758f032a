// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
)

// Vault keeps one sealed state. Save returns after the state is durable; agent/vault implements it.
type Vault interface {
	// Load returns the state, or nil when nothing was ever saved. The caller wipes it.
	Load() ([]byte, error)
	Save(state []byte) error
}

// Store is a node's durable state. It is not safe for concurrent use; the vault's lock keeps other processes out.
type Store struct {
	vault Vault
	state *State
}

// OpenStore loads the state of a node, which is empty for a new one.
func OpenStore(v Vault) (*Store, error) {
	b, err := v.Load()
	if err != nil {
		return nil, fmt.Errorf("load node state: %w", err)
	}
	if b == nil {
		return &Store{vault: v, state: NewState()}, nil
	}
	defer clear(b)
	state, err := UnmarshalState(b)
	if err != nil {
		return nil, err
	}
	return &Store{vault: v, state: state}, nil
}

// Epoch returns the number of the epoch the node sends under, 0 if it has agreed none, and its floor.
func (s *Store) Epoch() (epoch, floor uint32) { return s.state.Epoch, s.state.Floor }

// Ceiling returns the first counter that was never reserved.
func (s *Store) Ceiling() uint64 { return s.state.Ceiling }

// change runs f on a copy of the state, makes the copy durable, and only then lets it take effect.
func (s *Store) change(f func(*State) error) error {
	next := *s.state
	err := f(&next)
	if err == nil {
		err = s.save(&next)
	}
	// A copy shares its secret unless f has put another there: that of the state that does not stand is wiped.
	if next.PRK != s.state.PRK {
		if err != nil {
			next.PRK.Free()
		} else {
			s.state.PRK.Free()
		}
	}
	if err != nil {
		return err
	}
	*s.state = next
	return nil
}

func (s *Store) save(state *State) error {
	b, err := state.Marshal()
	if err != nil {
		return err
	}
	defer clear(b)
	if err := s.vault.Save(b); err != nil {
		return fmt.Errorf("save node state: %w", err)
	}
	return nil
}

// Begin starts a run: it draws the start and reserves its first block, durably.
func (s *Store) Begin() (Run, error) {
	if s.state.Epoch == 0 {
		return Run{}, ErrNoEpoch
	}
	var run Run
	err := s.change(func(next *State) (err error) {
		run, err = next.begin(rand.Reader)
		return err
	})
	return run, err
}

// Reserve makes sure that counter lies below the durable ceiling.
func (s *Store) Reserve(counter uint64) error {
	if counter < s.state.Ceiling {
		return nil
	}
	return s.change(func(next *State) error { return next.reserve(counter) })
}

// Agreement is what a node takes from an answered offer.
type Agreement struct {
	Gateway     identity.Kid
	Epoch       uint32
	BindingHash [32]byte
	Agreed      int64 // seconds since 1970
}

// Enroll moves the node to a new epoch. answer is called with the node's old floor, the epoch's first counter and the run
// that goes into the reply; it returns the reply and the secret. Floor, secret and ceiling are durable, in one step, before
// Enroll returns the reply.
func (s *Store) Enroll(a Agreement, answer func(floor uint32, run Run) (reply []byte, prk schedule.PRK, err error)) ([]byte, error) {
	var reply []byte
	err := s.change(func(next *State) error {
		floor := next.Floor
		run, err := next.enroll(a.Gateway, a.Epoch, a.BindingHash, a.Agreed)
		if err != nil {
			return err
		}
		secretmem.Do(func() {
			var prk schedule.PRK
			defer prk.Wipe()
			if reply, prk, err = answer(floor, run); err == nil {
				next.PRK, err = next.keep(&prk)
			}
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if reply == nil {
		return nil, errors.New("enrol node: no reply was made")
	}
	return reply, nil
}

// Wipe overwrites the secret in memory. The store must not be used afterwards.
func (s *Store) Wipe() { s.state.PRK.Free() }
