// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"

	"github.com/cellward/cellward/agent/epoch"
)

// Vault keeps one sealed state. Save returns after the state is durable; agent/vault implements it.
type Vault interface {
	// Load returns the state, or nil when nothing was ever saved. The caller wipes it.
	Load() ([]byte, error)
	Save(state []byte) error
}

// LoadState reads the gateway's epoch state, which is empty on a new gateway.
func LoadState(v Vault) (*epoch.State, error) {
	b, err := v.Load()
	if err != nil {
		return nil, fmt.Errorf("load epoch state: %w", err)
	}
	if b == nil {
		return epoch.New(), nil
	}
	defer clear(b)
	return epoch.Unmarshal(b)
}

// SaveState makes s durable.
func SaveState(v Vault, s *epoch.State) error {
	b, err := s.Marshal()
	if err != nil {
		return err
	}
	defer clear(b)
	if err := v.Save(b); err != nil {
		return fmt.Errorf("save epoch state: %w", err)
	}
	return nil
}

// saver writes states in the background, newest last, so that the data path never waits for a disk. What it is given is
// wiped after it was written or overtaken.
type saver struct {
	vault Vault
	next  chan []byte
	done  chan struct{}
	fail  func(error)
}

func newSaver(v Vault, fail func(error)) *saver {
	s := &saver{vault: v, next: make(chan []byte, 1), done: make(chan struct{}), fail: fail}
	go func() {
		defer close(s.done)
		for b := range s.next {
			if err := s.vault.Save(b); err != nil {
				s.fail(fmt.Errorf("save epoch state: %w", err))
			}
			clear(b)
		}
	}()
	return s
}

// put hands over a state; one that still waits is overtaken, since each state is whole.
func (s *saver) put(b []byte) {
	for {
		select {
		case s.next <- b:
			return
		default:
		}
		select {
		case old := <-s.next:
			clear(old)
		default:
		}
	}
}

// close waits until what was put last is durable.
func (s *saver) close() {
	close(s.next)
	<-s.done
}
