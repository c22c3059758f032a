// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Why a private key file is refused.
var (
	// ErrKeyFile: not one PKCS #8 "PRIVATE KEY" PEM block with an identity
	// key.
	ErrKeyFile = errors.New("not a PKCS #8 private key file")
	// ErrKeyFileMode: others than the owner can read or write the file, or
	// it belongs to somebody else, or it is no regular file.
	ErrKeyFileMode = errors.New("private key file is not private")
)

// maxKeyFile bounds what is read; a P-384 key has 300 bytes.
const maxKeyFile = 4096

// GenerateKey makes a software key on P-384 or P-256, for machines without a
// TPM and for tests.
func GenerateKey(curve elliptic.Curve) (*ecdsa.PrivateKey, error) {
	if curve != elliptic.P384() && curve != elliptic.P256() {
		return nil, fmt.Errorf("generate identity key: %w", ErrKey)
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate identity key: %w", err)
	}
	return key, nil
}

// WritePrivateKey writes key to a new file of mode 0600: durably, whole or not
// at all, and never over an existing one (fs.ErrExist).
func WritePrivateKey(path string, key *ecdsa.PrivateKey) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write private key: %w", err)
		}
	}()
	if _, err := NewPublicKey(key.Public()); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)

	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600, O_EXCL
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	// Unlike rename, link never replaces.
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// ReadPrivateKey reads a key file that only its owner, this user or root, can
// read or write. Symbolic links are refused.
func ReadPrivateKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	defer clear(text)
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read private key: %s: %w", path, ErrKeyFile)
	}
	defer clear(block.Bytes)
	if len(bytes.TrimSpace(rest)) != 0 || block.Type != "PRIVATE KEY" || len(block.Headers) != 0 {
		return nil, fmt.Errorf("read private key: %s: %w", path, ErrKeyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// The cause is left out: it could quote what it could not read.
		return nil, fmt.Errorf("read private key: %s: %w", path, ErrKeyFile)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read private key: %s: %w: %T", path, ErrKeyFile, parsed)
	}
	if _, err := NewPublicKey(key.Public()); err != nil {
		return nil, fmt.Errorf("read private key: %s: %w", path, err)
	}
	return key, nil
}

func readPrivate(path string) ([]byte, error) {
	// O_NONBLOCK: opening a FIFO must not hang.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == unix.ELOOP {
		return nil, fmt.Errorf("%s: %w: a symbolic link", path, ErrKeyFileMode)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch euid := uint32(unix.Geteuid()); {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s: %w: not a regular file", path, ErrKeyFileMode)
	case st.Uid != euid && st.Uid != 0:
		return nil, fmt.Errorf("%s: %w: it belongs to user %d", path, ErrKeyFileMode, st.Uid)
	case st.Mode&0o077 != 0:
		return nil, fmt.Errorf("%s: %w: mode %04o, want 0600", path, ErrKeyFileMode, st.Mode&0o7777)
	}
	// One buffer of fixed size: a growing one leaves copies behind.
	text := make([]byte, maxKeyFile+1)
	n, err := io.ReadFull(f, text)
	switch {
	case err == nil:
		clear(text)
		return nil, fmt.Errorf("%s: %w: longer than %d bytes", path, ErrKeyFile, maxKeyFile)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		clear(text)
		return nil, err
	}
	return text[:n], nil
}
