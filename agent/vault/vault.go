// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/crypto/hkdf"
)

const (
	magic    = "cellward state 1"
	keySize  = 32
	saltSize = 32
	tagSize  = 16
	// maxSealed bounds the sealed key; a TPM's is about 300 bytes.
	maxSealed = 4096
	label     = "cellward v1 state"
	suffix    = ".state"
)

var (
	// ErrDamaged says that the file is not one that this package has written under this name, whole and with its key.
	ErrDamaged = errors.New("state file is damaged")
	// ErrUnseal says that the sealed key cannot be opened: another TPM, or one that refuses.
	ErrUnseal = errors.New("state key cannot be unsealed")
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
	sealed  []byte // nil until there is a generation key
	key     [keySize]byte
	exists  bool   // there is a file
	file    []byte // its content as read by Open; nil after the first Save
}

// Open opens the state of a name, which needs one Unseal if there is one. Nothing is written.
func Open(storage Storage, name string, sealer Sealer) (*Vault, error) {
	v := &Vault{storage: storage, name: name, sealer: sealer}
	b, err := storage.ReadFile(name + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", name, err)
	}
	sealed, _, err := split(b)
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", name, err)
	}
	key, err := sealer.Unseal(sealed)
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w: %w", name, ErrUnseal, err)
	}
	defer clear(key)
	if len(key) != keySize {
		return nil, fmt.Errorf("open vault %s: %w: it has %d bytes", name, ErrUnseal, len(key))
	}
	copy(v.key[:], key)
	v.sealed, v.file, v.exists = sealed, b, true
	return v, nil
}

// split finds the sealed key and the length of everything before the ciphertext.
func split(b []byte) (sealed []byte, head int, err error) {
	const fixed = len(magic) + 4
	if len(b) < fixed || string(b[:len(magic)]) != magic {
		return nil, 0, fmt.Errorf("%w: it does not begin with %q", ErrDamaged, magic)
	}
	n := binary.LittleEndian.Uint32(b[len(magic):])
	if n == 0 || n > maxSealed || len(b) < fixed+int(n)+saltSize+tagSize {
		return nil, 0, fmt.Errorf("%w: a sealed key of %d bytes does not fit %d bytes of file", ErrDamaged, n, len(b))
	}
	return b[fixed : fixed+int(n)], fixed + int(n) + saltSize, nil
}

// Load returns the state as the file had it when the vault was opened, or as it was saved last; nil if there is none. The
// caller wipes it.
func (v *Vault) Load() ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.exists {
		return nil, nil
	}
	b := v.file
	if b == nil {
		var err error
		if b, err = v.storage.ReadFile(v.name + suffix); err != nil {
			return nil, fmt.Errorf("load vault %s: %w", v.name, err)
		}
	}
	_, head, err := split(b)
	if err != nil {
		return nil, fmt.Errorf("load vault %s: %w", v.name, err)
	}
	gcm, err := v.cipher(b[head-saltSize : head])
	if err != nil {
		return nil, err
	}
	state, err := gcm.Open(nil, make([]byte, gcm.NonceSize()), b[head:], v.aad(b[:head]))
	if err != nil {
		return nil, fmt.Errorf("load vault %s: %w: it does not authenticate", v.name, ErrDamaged)
	}
	return state, nil
}

// Save makes a state durable. After an error the file holds the old state or the new one, whole.
func (v *Vault) Save(state []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sealed == nil {
		if err := v.makeKey(); err != nil {
			return fmt.Errorf("save vault %s: %w", v.name, err)
		}
	}
	b := make([]byte, 0, len(magic)+4+len(v.sealed)+saltSize+len(state)+tagSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.sealed)))
	b = append(b, v.sealed...)
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return fmt.Errorf("save vault %s: draw salt: %w", v.name, err)
	}
	b = append(b, salt...)
	gcm, err := v.cipher(salt)
	if err != nil {
		return err
	}
	head := len(b)
	// Salt and so the key are fresh: the zero nonce is used once under it.
	b = gcm.Seal(b, make([]byte, gcm.NonceSize()), state, v.aad(b[:head]))
	if err := Replace(v.storage, v.name+suffix, b); err != nil {
		return fmt.Errorf("save vault %s: %w", v.name, err)
	}
	v.file, v.exists = nil, true
	return nil
}

// makeKey draws the generation key and has it sealed. It is used only once the file that holds it is written.
func (v *Vault) makeKey() error {
	if _, err := rand.Read(v.key[:]); err != nil {
		return fmt.Errorf("draw state key: %w", err)
	}
	sealed, err := v.sealer.Seal(v.key[:])
	if err != nil {
		return fmt.Errorf("seal state key: %w", err)
	}
	if len(sealed) == 0 || len(sealed) > maxSealed {
		return fmt.Errorf("seal state key: sealed form has %d bytes", len(sealed))
	}
	v.sealed = sealed
	return nil
}

// cipher makes the AES-256-GCM of one write.
func (v *Vault) cipher(salt []byte) (cipher.AEAD, error) {
	var key [keySize]byte
	defer clear(key[:])
	if _, err := io.ReadFull(hkdf.Expand(sha512.New384, v.key[:], append([]byte(label), salt...)), key[:]); err != nil {
		return nil, fmt.Errorf("derive key of vault %s: %w", v.name, err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("prepare key of vault %s: %w", v.name, err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("prepare key of vault %s: %w", v.name, err)
	}
	return gcm, nil
}

// aad binds the head of the file and its name, so that neither a part of another file nor another node's file fits.
func (v *Vault) aad(head []byte) []byte { return append(append([]byte{}, head...), v.name...) }

// Wipe overwrites the key in memory. The vault must not be used afterwards.
func (v *Vault) Wipe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.key[:])
}
