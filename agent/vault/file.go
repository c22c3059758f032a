// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/secretmem"
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
	key    *secretmem.Box[[keySize]byte]
}

// newFile draws a key and has it sealed. The key is used only for this file.
func newFile(name string, keys *secretmem.Arena, seal func(key []byte) ([]byte, error)) (_ *sealedFile, err error) {
	f := &sealedFile{name: name}
	if f.key, err = secretmem.NewBox[[keySize]byte](keys); err != nil {
		return nil, fmt.Errorf("keep state key: %w", err)
	}
	defer func() {
		if err != nil {
			f.wipe()
		}
	}()
	if _, err := rand.Read(f.key.Get()[:]); err != nil {
		return nil, fmt.Errorf("draw state key: %w", err)
	}
	if f.sealed, err = seal(f.key.Get()[:]); err != nil {
		return nil, fmt.Errorf("seal state key: %w", err)
	}
	if n := len(f.sealed); n == 0 || n > maxSealed {
		return nil, fmt.Errorf("seal state key: sealed form has %d bytes", n)
	}
	return f, nil
}

// openFile unseals the key of a file whose content is b.
func openFile(b []byte, name string, keys *secretmem.Arena, unseal func(sealed []byte) ([]byte, error)) (*sealedFile, error) {
	sealed, _, err := split(b)
	if err != nil {
		return nil, err
	}
	f := &sealedFile{name: name, sealed: append([]byte{}, sealed...)}
	if f.key, err = secretmem.NewBox[[keySize]byte](keys); err != nil {
		return nil, fmt.Errorf("keep state key: %w", err)
	}
	secretmem.Do(func() {
		var key []byte
		if key, err = unseal(sealed); err != nil {
			err = fmt.Errorf("%w: %w", ErrUnseal, err)
			return
		}
		defer clear(key)
		if len(key) != keySize {
			err = fmt.Errorf("%w: it has %d bytes", ErrUnseal, len(key))
			return
		}
		copy(f.key.Get()[:], key)
	})
	if err != nil {
		f.wipe()
		return nil, err
	}
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
	// What is decoded is allocated where it is not erased: the caller wipes it.
	state := make([]byte, 0, len(b)-head)
	err = f.withCipher(b[head-saltSize:head], func(gcm cipher.AEAD) error {
		state, err = gcm.Open(state, make([]byte, gcm.NonceSize()), b[head:], f.aad(b[:head]))
		return err
	})
	if errors.Is(err, errCipher) {
		return nil, err
	}
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
	head := len(b)
	err := f.withCipher(salt, func(gcm cipher.AEAD) error {
		// Salt and so the key are fresh: the zero nonce is used once under it.
		b = gcm.Seal(b, make([]byte, gcm.NonceSize()), state, f.aad(b[:head]))
		return nil
	})
	if err != nil {
		return err
	}
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

// errCipher says that there is no cipher, which is no fault of the file.
var errCipher = errors.New("no cipher for the state file")

// withCipher calls use with the AES-256-GCM of one write, which leaves no copies of its key.
func (f *sealedFile) withCipher(salt []byte, use func(cipher.AEAD) error) (err error) {
	secretmem.Do(func() {
		key := make([]byte, keySize)
		defer clear(key)
		if err = secretmem.Expand(key, f.key.Get()[:], append([]byte(label), salt...)); err != nil {
			err = fmt.Errorf("derive key of %s: %w: %w", f.name, errCipher, err)
			return
		}
		var block cipher.Block
		if block, err = aes.NewCipher(key); err != nil {
			err = fmt.Errorf("prepare key of %s: %w: %w", f.name, errCipher, err)
			return
		}
		defer secretmem.Wipe(block)
		var gcm cipher.AEAD
		if gcm, err = cipher.NewGCM(block); err != nil {
			err = fmt.Errorf("prepare key of %s: %w: %w", f.name, errCipher, err)
			return
		}
		defer secretmem.Wipe(gcm)
		err = use(gcm)
	})
	return err
}

// aad binds the head of the file and its name, so that neither a part of another file nor another's file fits.
func (f *sealedFile) aad(head []byte) []byte { return append(append([]byte{}, head...), f.name...) }

func (f *sealedFile) wipe() { f.key.Free() }
