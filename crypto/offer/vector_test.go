// SPDX-License-Identifier: Apache-2.0

package offer_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/offer/offertest"
)

var update = flag.Bool("update", false, "write testdata/vectors.json")

// TestVectors: the vectors on file are the ones that are built, and package
// offer agrees with them.
func TestVectors(t *testing.T) {
	var built []*offertest.Vector
	for _, kem := range []uint16{offer.KEMP384, offer.KEMP256} {
		v, err := offertest.Build(kem)
		if err != nil {
			t.Fatal(err)
		}
		built = append(built, v)
	}
	text, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	const name = "testdata/vectors.json"
	if *update {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, text) {
		t.Errorf("%s is not what is built", name)
	}
	var stored []*offertest.Vector
	if err := json.Unmarshal(file, &stored); err != nil {
		t.Fatal(err)
	}
	for _, v := range stored {
		if err := v.Check(); err != nil {
			t.Errorf("KEM 0x%04X: %v", v.KEM, err)
		}
		// Any one value changed shows.
		for _, b := range []offertest.Hex{v.OfferPrivate, v.GatewayKid, v.NodeKid, v.OfferID, v.BindingHash, v.Start,
			v.Offer, v.OfferHash, v.Reply, v.PayloadHash, v.PRK, v.GatewayPublic, v.NodePublic} {
			b[len(b)-1] ^= 1
			if v.Check() == nil {
				t.Errorf("KEM 0x%04X: %x has a changed bit and nobody notices", v.KEM, b)
			}
			b[len(b)-1] ^= 1
		}
	}
	if _, err := offertest.Build(0x20); err == nil {
		t.Error("built a vector of X25519")
	}
}
