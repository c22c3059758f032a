// SPDX-License-Identifier: Apache-2.0

package station

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cellward/cellward/agent/vault"
)

// errSoftwareKey says that the key file or what it sealed is not what it was.
var errSoftwareKey = errors.New("software key does not fit")

const softwareKeySize = 32

// softwareSealer stands in for a TPM on a node that has none: AES-256-GCM with random nonces under a key in a file. It protects
// what is sealed from whoever does not have the state folder, and from nobody else.
type softwareSealer struct{ gcm cipher.AEAD }

func makeSoftwareKey(dir *vault.Dir) error {
	key := make([]byte, softwareKeySize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("draw software key: %w", err)
	}
	if err := vault.Replace(dir, softwareFile, key); err != nil {
		return fmt.Errorf("store software key: %w", err)
	}
	return nil
}

func openSoftwareKey(dir *vault.Dir) (softwareSealer, error) {
	key, err := dir.ReadFile(softwareFile)
	if err != nil {
		return softwareSealer{}, fmt.Errorf("read software key: %w", err)
	}
	defer clear(key)
	if len(key) != softwareKeySize {
		return softwareSealer{}, fmt.Errorf("read software key: %w: it has %d bytes", errSoftwareKey, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return softwareSealer{}, fmt.Errorf("prepare software key: %w", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return softwareSealer{}, fmt.Errorf("prepare software key: %w", err)
	}
	return softwareSealer{gcm}, nil
}

// Seal implements vault.Sealer.
func (s softwareSealer) Seal(secret []byte) ([]byte, error) {
	return s.gcm.Seal(nil, nil, secret, nil), nil
}

// Unseal implements vault.Sealer.
func (s softwareSealer) Unseal(sealed []byte) ([]byte, error) {
	secret, err := s.gcm.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, errSoftwareKey
	}
	return secret, nil
}
