// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzKeyFile: whatever decode takes, it writes again byte for byte.
func FuzzKeyFile(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.pem")
	if err != nil || len(seeds) != 3 {
		f.Fatalf("seeds: %v, %v", seeds, err)
	}
	for _, name := range seeds {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		block, _ := pem.Decode(data)
		f.Add(block.Bytes)
	}
	kinds := []kind{signingKind(), exchangeKind(), sealedKind()}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, in := range [][]byte{data, pem.EncodeToMemory(&pem.Block{Type: "TSS2 PRIVATE KEY", Bytes: data})} {
			for _, k := range kinds {
				e, err := decode(in, k, nil, DefaultSRKHandle)
				if err != nil {
					continue
				}
				if !bytes.Equal(e.encode(DefaultSRKHandle), in) {
					t.Fatal("taken, but written differently")
				}
				if e.public.ObjectAttributes.UserWithAuth {
					t.Fatal("taken with userWithAuth set")
				}
			}
		}
	})
}

// TestKeyFileSeeds keeps the seeds valid: each is of exactly one kind.
func TestKeyFileSeeds(t *testing.T) {
	for name, k := range map[string]kind{"signing": signingKind(), "exchange": exchangeKind(), "sealed": sealedKind()} {
		data, err := os.ReadFile("testdata/" + name + ".pem")
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []kind{signingKind(), exchangeKind(), sealedKind()} {
			if _, err := decode(data, other, nil, DefaultSRKHandle); (err == nil) != (other.use == k.use) {
				t.Errorf("%s read as %s: %v", name, other.what, err)
			}
		}
		if !strings.HasPrefix(string(data), "-----BEGIN TSS2 PRIVATE KEY-----\n") {
			t.Errorf("%s: %.40q", name, data)
		}
	}
}

// fuzzLink answers every command with the same body.
type fuzzLink struct{ body []byte }

func (fuzzLink) begin() error  { return nil }
func (fuzzLink) end()          {}
func (fuzzLink) managed() bool { return false }
func (fuzzLink) close() error  { return nil }

func (l fuzzLink) exchange([]byte) ([]byte, error) {
	b := append([]byte{0x80, 0x02, 0, 0, 0, 0}, l.body...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b, checkResponse(b)
}

// FuzzResponse opens a TPM that says anything at all.
func FuzzResponse(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 1, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 0, '2', '.', '0', 0})
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := open(t.Context(), fuzzLink{body}, Options{RetryFor: 1})
		if err == nil {
			m.Close()
			t.Fatal("opened a TPM that is none")
		}
	})
}
