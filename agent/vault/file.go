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

// sealedFile is one file with its key. It is not safe for concurrent use.
type sealedFile struct {
	name   string
	sealed []byte
	key    [keySize]byte
}

// newFile draws a key and has it sealed. The key is used only for this file.
func newFile(name string, seal func(key []byte) ([]byte, error)) (*sealedFile, error) {
	f := &sealedFile{name: name}
	if _, err := rand.Read(f.key[:]); err != nil {
		return nil, fmt.Errorf("draw state key: %w", err)
	}
	sealed, err := seal(f.key[:])
	if err != nil {
		return nil, fmt.Errorf("seal state key: %w", err)
	}
	if len(sealed) == 0 || len(sealed) > maxSealed {
		return nil, fmt.Errorf("seal state key: sealed form has %d bytes", len(sealed))
	}
	f.sealed = sealed
	return f, nil
}

// openFile unseals the key of a file whose content is b.
func openFile(b []byte, name string, unseal func(sealed []byte) ([]byte, error)) (*sealedFile, error) {
	sealed, _, err := split(b)
	if err != nil {
		return nil, err
	}
	key, err := unseal(sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnseal, err)
	}
	defer clear(key)
	if len(key) != keySize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrUnseal, len(key))
	}
	f := &sealedFile{name: name, sealed: append([]byte{}, sealed...)}
	copy(f.key[:], key)
	return f, nil
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

// decode returns the state in a file.
func (f *sealedFile) decode(b []byte) ([]byte, error) {
	_, head, err := split(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.name, err)
	}
	gcm, err := f.cipher(b[head-saltSize : head])
	if err != nil {
		return nil, err
	}
	state, err := gcm.Open(nil, make([]byte, gcm.NonceSize()), b[head:], f.aad(b[:head]))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: it does not authenticate", f.name, ErrDamaged)
	}
	return state, nil
}

// write makes a state durable. After an error the file holds what it held, or the new state, whole.
func (f *sealedFile) write(s Storage, state []byte) error {
	b := make([]byte, 0, len(magic)+4+len(f.sealed)+saltSize+len(state)+tagSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.sealed)))
	b = append(b, f.sealed...)
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return fmt.Errorf("write %s: draw salt: %w", f.name, err)
	}
	b = append(b, salt...)
	gcm, err := f.cipher(salt)
	if err != nil {
		return err
	}
	head := len(b)
	// Salt and so the key are fresh: the zero nonce is used once under it.
	b = gcm.Seal(b, make([]byte, gcm.NonceSize()), state, f.aad(b[:head]))
	if err := Replace(s, f.name, b); err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	return nil
}

// discard takes away a file that never counted.
func (f *sealedFile) discard(s Storage) error {
	f.wipe()
	return errors.Join(s.Remove(f.name), s.Sync())
}

// cipher makes the AES-256-GCM of one write.
func (f *sealedFile) cipher(salt []byte) (cipher.AEAD, error) {
	var key [keySize]byte
	defer clear(key[:])
	if _, err := io.ReadFull(hkdf.Expand(sha512.New384, f.key[:], append([]byte(label), salt...)), key[:]); err != nil {
		return nil, fmt.Errorf("derive key of %s: %w", f.name, err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("prepare key of %s: %w", f.name, err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("prepare key of %s: %w", f.name, err)
	}
	return gcm, nil
}

// aad binds the head of the file and its name, so that neither a part of another file nor another's file fits.
func (f *sealedFile) aad(head []byte) []byte { return append(append([]byte{}, head...), f.name...) }

func (f *sealedFile) wipe() { clear(f.key[:]) }
