// SPDX-License-Identifier: Apache-2.0

package station

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/secretmem"
)

// errSoftwareKey says that the key file or what it sealed is not what it was.
var errSoftwareKey = errors.New("software key does not fit")

const softwareKeySize = 32

// softwareSealer stands in for a TPM on a node that has none: AES-256-GCM with random nonces under a key in a file. It protects
// what is sealed from whoever does not have the state folder, and from nobody else.
type softwareSealer struct {
	key *secretmem.Box[[softwareKeySize]byte]
}

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
	var s softwareSealer
	if s.key, err = secretmem.NewBox[[softwareKeySize]byte](new(secretmem.Arena)); err != nil {
		return s, fmt.Errorf("keep software key: %w", err)
	}
	copy(s.key.Get()[:], key)
	return s, nil
}

// Seal implements vault.Sealer.
func (s softwareSealer) Seal(secret []byte) (sealed []byte, err error) {
	err = s.withCipher(func(gcm cipher.AEAD) error {
		sealed = gcm.Seal(nil, nil, secret, nil)
		return nil
	})
	return sealed, err
}

// Unseal implements vault.Sealer.
func (s softwareSealer) Unseal(sealed []byte) (secret []byte, err error) {
	err = s.withCipher(func(gcm cipher.AEAD) error {
		if secret, err = gcm.Open(nil, nil, sealed, nil); err != nil {
			return errSoftwareKey
		}
		return nil
	})
	return secret, err
}

// withCipher calls use with the cipher of the key, which leaves no copies of it.
func (s softwareSealer) withCipher(use func(cipher.AEAD) error) (err error) {
	secretmem.Do(func() {
		var block cipher.Block
		if block, err = aes.NewCipher(s.key.Get()[:]); err != nil {
			err = fmt.Errorf("prepare software key: %w", err)
			return
		}
		defer secretmem.Wipe(block)
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCMWithRandomNonce(block); err != nil {
			err = fmt.Errorf("prepare software key: %w", err)
			return
		}
		defer secretmem.Wipe(gcm)
		err = use(gcm)
	})
	return err
}
