// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"
	"golang.org/x/crypto/hkdf"

	"github.com/cellward/cellward/crypto/secretmem"
)

// TestWycheproofHKDF runs every HKDF-SHA-384 case through the expand step that
// the schedule uses, behind the library's extract step.
func TestWycheproofHKDF(t *testing.T) {
	const cases, invalid = 83, 3
	raw, err := fs.ReadFile(wycheproof.TestVectors, "hkdf_sha384_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Algorithm     string `json:"algorithm"`
		NumberOfTests int    `json:"numberOfTests"`
		TestGroups    []struct {
			Tests []struct {
				TcID    int    `json:"tcId"`
				Comment string `json:"comment"`
				IKM     string `json:"ikm"`
				Salt    string `json:"salt"`
				Info    string `json:"info"`
				Size    int    `json:"size"`
				OKM     string `json:"okm"`
				Result  string `json:"result"`
			} `json:"tests"`
		} `json:"testGroups"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if file.Algorithm != "HKDF-SHA-384" {
		t.Fatalf("file is for %q", file.Algorithm)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ran, refused := 0, 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			ran++
			prk := hkdf.Extract(sha512.New384, unhex(c.IKM), unhex(c.Salt))
			if len(prk) != PRKSize {
				t.Fatalf("case %d: secret of %d bytes", c.TcID, len(prk))
			}
			out := make([]byte, c.Size)
			err := secretmem.Expand(out, prk, unhex(c.Info))
			switch c.Result {
			case "valid":
				if err != nil || !bytes.Equal(out, unhex(c.OKM)) {
					t.Errorf("case %d (%s): %x, %v", c.TcID, c.Comment, out, err)
				}
			case "invalid":
				refused++
				if err == nil {
					t.Errorf("case %d (%s): accepted", c.TcID, c.Comment)
				}
			default:
				t.Errorf("case %d: result %q is none that this test knows", c.TcID, c.Result)
			}
		}
	}
	if ran != cases || refused != invalid || file.NumberOfTests != cases {
		t.Fatalf("ran %d cases, %d invalid, of %d, want %d, %d", ran, refused, file.NumberOfTests, cases, invalid)
	}
}
