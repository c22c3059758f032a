// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cellward/cellward/crypto/secretmem"
)

// Sealer keeps a secret of up to 128 bytes to itself: what Seal returns, only Unseal of the same device opens.
type Sealer interface {
	Seal(secret []byte) ([]byte, error)
	Unseal(sealed []byte) ([]byte, error)
}

// Vault keeps one state. It is safe for concurrent use.
type Vault struct {
	mu      sync.Mutex
	storage Storage
	name    string
	sealer  Sealer
	file    *sealedFile // nil: there is no state yet
	content []byte      // as read by Open, until the first Save
	keys    secretmem.Arena
}

// Open opens the state of a name, which needs one Unseal if there is one. Nothing is written.
func Open(storage Storage, name string, sealer Sealer) (*Vault, error) {
	v := &Vault{storage: storage, name: name + suffix, sealer: sealer}
	b, err := storage.ReadFile(v.name)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err == nil {
		v.content = b
		v.file, err = openFile(b, v.name, &v.keys, sealer.Unseal)
	}
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", name, err)
	}
	return v, nil
}

// Load returns the state as the file had it when the vault was opened, or as it was saved last; nil if there is none. The
// caller wipes it.
func (v *Vault) Load() ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.file == nil {
		return nil, nil
	}
	b := v.content
	if b == nil {
		var err error
		if b, err = v.storage.ReadFile(v.name); err != nil {
			return nil, fmt.Errorf("load vault: %w", err)
		}
	}
	return v.file.decode(b)
}

// Save makes a state durable. After an error the file holds the old state or the new one, whole.
func (v *Vault) Save(state []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := v.file
	if f == nil {
		var err error
		if f, err = newFile(v.name, &v.keys, v.sealer.Seal); err != nil {
			return err
		}
	}
	if err := f.write(v.storage, state); err != nil {
		if v.file == nil {
			f.wipe()
		}
		return err
	}
	v.file, v.content = f, nil
	return nil
}

// Wipe overwrites the key in memory. The vault must not be used afterwards.
func (v *Vault) Wipe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.file != nil {
		v.file.wipe()
	}
}
