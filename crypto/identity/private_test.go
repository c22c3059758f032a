// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPrivateKeyFile(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P384(), elliptic.P256()} {
		dir := t.TempDir()
		path := filepath.Join(dir, "key.pem")
		k, _ := key(t, curve)
		if err := WritePrivateKey(path, k); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("mode %v, %v", info.Mode(), err)
		}
		if got := must(ReadPrivateKey(path))(t); !got.Equal(k) {
			t.Fatal("another key")
		}
		other, _ := key(t, curve)
		if err := WritePrivateKey(path, other); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("written over an existing key: %v", err)
		}
		if got := must(ReadPrivateKey(path))(t); !got.Equal(k) {
			t.Fatal("the first key is gone")
		}
		if left := must(os.ReadDir(dir))(t); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}
	if err := WritePrivateKey(filepath.Join(t.TempDir(), "no", "key.pem"), must(GenerateKey(elliptic.P256()))(t)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := GenerateKey(elliptic.P521()); !errors.Is(err, ErrKey) {
		t.Errorf("P-521: %v", err)
	}
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
	if err := WritePrivateKey(filepath.Join(t.TempDir(), "key.pem"), p521); !errors.Is(err, ErrKey) {
		t.Errorf("P-521: %v", err)
	}
}

func TestPrivateKeyFileRefused(t *testing.T) {
	k, _ := key(t, elliptic.P384())
	der := must(x509.MarshalPKCS8PrivateKey(k))(t)
	good := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521 := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)
	block := func(typ string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
	}
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"empty":     {nil, ErrKeyFile},
		"no PEM":    {der, ErrKeyFile},
		"SEC 1":     {block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(k))(t)), ErrKeyFile},
		"two keys":  {append(bytes.Clone(good), good...), ErrKeyFile},
		"cut":       {block("PRIVATE KEY", der[:len(der)-3]), ErrKeyFile},
		"Ed25519":   {block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ed))(t)), ErrKeyFile},
		"P-521":     {block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(p521))(t)), ErrKey},
		"very long": {bytes.Repeat([]byte("\n"), maxKeyFile+1), ErrKeyFile},
	} {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadPrivateKey(path)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v does not name the file", name, err)
		}
	}

	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPrivateKey(path); !errors.Is(err, ErrKeyFileMode) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	must(ReadPrivateKey(path))(t)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivateKey(link); !errors.Is(err, ErrKeyFileMode) {
		t.Errorf("symbolic link: %v", err)
	}
	if _, err := ReadPrivateKey(dir); !errors.Is(err, ErrKeyFileMode) {
		t.Errorf("directory: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivateKey(fifo); !errors.Is(err, ErrKeyFileMode) {
		t.Errorf("FIFO: %v", err)
	}
	if _, err := ReadPrivateKey(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	t.Run("somebody else's", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("giving a file away needs root")
		}
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPrivateKey(path); !errors.Is(err, ErrKeyFileMode) {
			t.Errorf("%v", err)
		}
	})
}
