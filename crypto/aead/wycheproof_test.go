// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/cellward/cellward/crypto/spdu"
)

type wycheproofCase struct {
	TcID    int    `json:"tcId"`
	Comment string `json:"comment"`
	Key     string `json:"key"`
	IV      string `json:"iv"`
	AAD     string `json:"aad"`
	Msg     string `json:"msg"`
	CT      string `json:"ct"`
	Tag     string `json:"tag"`
	Result  string `json:"result"`
}

// wycheproofGCM returns the AES-256-GCM cases with 96-bit IV and 128-bit tag.
func wycheproofGCM(t *testing.T) []wycheproofCase {
	t.Helper()
	raw, err := fs.ReadFile(wycheproof.TestVectors, "aes_gcm_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			IVSize  int              `json:"ivSize"`
			KeySize int              `json:"keySize"`
			TagSize int              `json:"tagSize"`
			Tests   []wycheproofCase `json:"tests"`
		} `json:"testGroups"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var cases []wycheproofCase
	for _, g := range file.TestGroups {
		if g.KeySize == 256 && g.IVSize == 96 && g.TagSize == 128 {
			cases = append(cases, g.Tests...)
		}
	}
	if len(cases) != 66 {
		t.Fatalf("%d cases, want 66", len(cases))
	}
	return cases
}

// TestWycheproofPrimitive runs all cases on what the engine std is made of,
// through its own construction.
func TestWycheproofPrimitive(t *testing.T) {
	valid, invalid := 0, 0
	for _, c := range wycheproofGCM(t) {
		_, gcm, err := newGCM(unhex(t, c.Key))
		if err != nil {
			t.Fatal(err)
		}
		iv, aad, msg := unhex(t, c.IV), unhex(t, c.AAD), unhex(t, c.Msg)
		want := append(unhex(t, c.CT), unhex(t, c.Tag)...)
		plain, err := gcm.Open(nil, iv, want, aad)
		switch c.Result {
		case "valid":
			valid++
			if err != nil || !bytes.Equal(plain, msg) {
				t.Errorf("case %d (%s): opened %x, %v", c.TcID, c.Comment, plain, err)
			}
			if got := gcm.Seal(nil, iv, msg, aad); !bytes.Equal(got, want) {
				t.Errorf("case %d (%s): sealed %x", c.TcID, c.Comment, got)
			}
		case "invalid":
			invalid++
			if err == nil {
				t.Errorf("case %d (%s): accepted", c.TcID, c.Comment)
			}
		default:
			t.Errorf("case %d: result %q is none that this test knows", c.TcID, c.Result)
		}
	}
	if valid != 39 || invalid != 27 {
		t.Fatalf("%d valid and %d invalid, want 39 and 27", valid, invalid)
	}
}

// TestWycheproofEngine runs the cases through each engine. An engine takes 16
// bytes of AAD and makes the nonce itself. So the IV of the key is chosen such
// that the nonce is the case's; a case whose AAD is not 16 bytes long gets the
// AAD and the tag from the primitive, and of an invalid case what was done to
// its tag is done to that one.
func TestWycheproofEngine(t *testing.T) {
	forEach(t, func(t *testing.T, e Engine) {
		ran, exact := 0, 0
		for _, c := range wycheproofGCM(t) {
			ran++
			_, gcm, err := newGCM(unhex(t, c.Key))
			if err != nil {
				t.Fatal(err)
			}
			nonce, msg := unhex(t, c.IV), unhex(t, c.Msg)
			body := append(unhex(t, c.CT), unhex(t, c.Tag)...)
			aad := unhex(t, c.AAD)
			if len(aad) == AADSize {
				exact++
			} else {
				right := gcm.Seal(nil, nonce, msg, aad)
				aad = make([]byte, AADSize)
				fill(aad, uint32(c.TcID))
				moved := gcm.Seal(nil, nonce, msg, aad)
				for i := range body {
					body[i] ^= right[i] ^ moved[i]
				}
			}
			var iv [IVSize]byte
			spdu.RecordNonce(&iv, (*[IVSize]byte)(nonce), aad)
			k, err := e.NewKey((*[KeySize]byte)(unhex(t, c.Key)), &iv)
			if err != nil {
				t.Fatal(err)
			}
			op := []Op{{Key: k, Record: append(bytes.Clone(aad), body...), Dst: make([]byte, len(msg))}}
			n := e.Open(op)
			if valid := c.Result == "valid"; valid != (n == 1) || valid != op[0].OK || valid && !bytes.Equal(op[0].Dst, msg) {
				t.Errorf("case %d (%s, %s): %d accepted, %x", c.TcID, c.Comment, c.Result, n, op[0].Dst)
			}
			seal := []Op{{Key: k, Record: append(append(bytes.Clone(aad), msg...), make([]byte, TagSize)...)}}
			if err := e.Seal(seal); err != nil {
				t.Fatal(err)
			}
			if same := bytes.Equal(seal[0].Record[AADSize:], body); same != (c.Result == "valid") {
				t.Errorf("case %d (%s, %s): sealed equals the case: %v", c.TcID, c.Comment, c.Result, same)
			}
		}
		if ran != 66 || exact != 1 {
			t.Fatalf("%d cases, %d with 16 bytes of AAD, want 66 and 1", ran, exact)
		}
	})
}
