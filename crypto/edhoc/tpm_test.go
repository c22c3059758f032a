// SPDX-License-Identifier: Apache-2.0

package edhoc_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cellward/cellward/crypto/edhoc"
	"github.com/cellward/cellward/crypto/edhoc/edhoctest"
	"github.com/cellward/cellward/crypto/handshake"
	"github.com/cellward/cellward/crypto/tpm"
)

// party is one side with its keys, wherever they are.
type party struct {
	identities []edhoc.Identity
	ephemeral  edhoc.EphemeralFactory
	device     *tpm.TPM // nil for software
}

func suite(tb testing.TB, id int) edhoc.Suite {
	tb.Helper()
	s, err := edhoc.SuiteByID(id)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func ccs(tb testing.TB, name string, kid []byte, pub crypto.PublicKey) *edhoc.Credential {
	tb.Helper()
	c, err := edhoc.NewCCS(name, kid, pub)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// identitiesOf are a signature key and a static Diffie-Hellman key, each known by a kid of 8 bytes.
func identitiesOf(tb testing.TB, name string, signer crypto.Signer, static ecdh.KeyExchanger) []edhoc.Identity {
	signKid, dhKid := []byte(name + "-sig")[:8], []byte(name + "-dh0")[:8]
	return []edhoc.Identity{
		{Credential: ccs(tb, name, signKid, signer.Public()), ID: edhoc.ByKID(signKid), Signer: signer},
		{Credential: ccs(tb, name, dhKid, static.PublicKey()), ID: edhoc.ByKID(dhKid), KeyExchanger: static},
	}
}

func softwareParty(tb testing.TB, s edhoc.Suite, name string) *party {
	tb.Helper()
	curve, exchange := elliptic.P384(), ecdh.P384()
	if s.Curve == edhoc.P256 {
		curve, exchange = elliptic.P256(), ecdh.P256()
	}
	signer, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	static, err := exchange.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &party{identities: identitiesOf(tb, name, signer, static)}
}

func tpmParty(tb testing.TB, s edhoc.Suite, name string) *party {
	tb.Helper()
	device := edhoctest.TPM(tb, s)
	signer, err := device.CreateSigningKey(context.Background(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	static, err := device.CreateExchangeKey(context.Background(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return &party{
		identities: identitiesOf(tb, name, signer, static),
		ephemeral:  handshake.TPMEphemerals(device, 0),
		device:     device,
	}
}

func (p *party) config(method edhoc.Method, s edhoc.Suite, peer *party) edhoc.Config {
	var known []*edhoc.Credential
	for _, id := range peer.identities {
		known = append(known, id.Credential)
	}
	return edhoc.Config{
		Methods: []edhoc.Method{method}, Suites: []edhoc.Suite{s}, PinSuite: true,
		Identities: p.identities, Ephemeral: p.ephemeral, Lookup: edhoc.LookupKnown(known...), Message4: true,
	}
}

// exchange runs a handshake and returns the four messages.
func exchange(tb testing.TB, initiator, responder edhoc.Config) [4][]byte {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	i, err := edhoc.NewInitiator(initiator)
	must(err)
	defer i.Close()
	r, err := edhoc.NewResponder(responder)
	must(err)
	defer r.Close()
	var m [4][]byte
	m[0], err = i.Message1()
	must(err)
	_, err = r.Message1(m[0])
	must(err)
	m[1], err = r.Message2()
	must(err)
	_, err = i.Message2(m[1])
	must(err)
	m[2], err = i.Message3()
	must(err)
	_, err = r.Message3(m[2])
	must(err)
	m[3], err = r.Message4()
	must(err)
	_, err = i.Message4(m[3])
	must(err)
	si, err := i.Session()
	must(err)
	defer si.Close()
	sr, err := r.Session()
	must(err)
	defer sr.Close()
	ki, err := si.Exporter(52753, []byte("context"), 48)
	must(err)
	kr, err := sr.Exporter(52753, []byte("context"), 48)
	must(err)
	if !bytes.Equal(ki, kr) || !bytes.Equal(si.TH4(), sr.TH4()) {
		tb.Fatal("the sides disagree")
	}
	return m
}

// TestTPM: software against a TPM in both roles, and two TPMs, by kid, for each method.
func TestTPM(t *testing.T) {
	for _, id := range []int{24, -24} {
		s := suite(t, id)
		hardware, other := tpmParty(t, s, "hardware"), tpmParty(t, s, "hardwar2")
		software := softwareParty(t, s, "software")
		for method := edhoc.SignatureSignature; method <= edhoc.StaticStatic; method++ {
			for _, c := range []struct {
				name string
				i, r *party
			}{
				{"initiator=tpm/responder=software", hardware, software},
				{"initiator=software/responder=tpm", software, hardware},
				{"initiator=tpm/responder=tpm", hardware, other},
			} {
				t.Run(fmt.Sprintf("suite=%d/method=%d/%s", id, method, c.name), func(t *testing.T) {
					exchange(t, c.i.config(method, s, c.r), c.r.config(method, s, c.i))
					for _, p := range []*party{c.i, c.r} {
						if p.device == nil {
							continue
						}
						objects, sessions, err := p.device.Handles(context.Background())
						if err != nil || len(objects) != 0 || len(sessions) != 0 {
							t.Fatalf("left in the TPM: objects %x, sessions %x, %v", objects, sessions, err)
						}
					}
				})
			}
		}
	}
}

// TestTPMWithCertificates: the P-384 keys and certificates of the shared data on the software side, by value and by
// hash, against a TPM with a certificate of its own, in both roles.
func TestTPMWithCertificates(t *testing.T) {
	data := sharedKeys(t)
	s := suite(t, 24)
	bySelf := tpmParty(t, s, "hardware")
	signer := bySelf.identities[0].Signer
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "TPM"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]func(der []byte) edhoc.IDCred{
		"x5t":     func(der []byte) edhoc.IDCred { return edhoc.ByX5T(edhoc.SHA256_64, der) },
		"x5chain": func(der []byte) edhoc.IDCred { return edhoc.ByX5Chain(der) },
	}
	for kind, id := range kinds {
		for _, role := range []string{"I", "R"} {
			t.Run(fmt.Sprintf("%s/software=%s", kind, role), func(t *testing.T) {
				cred, err := edhoc.NewCertificate(data["CRED_"+role])
				if err != nil {
					t.Fatal(err)
				}
				key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), data["SK_"+role])
				if err != nil {
					t.Fatal(err)
				}
				software := &party{identities: []edhoc.Identity{{Credential: cred, ID: id(data["CRED_"+role]), Signer: key}}}
				own, err := edhoc.NewCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				hardware := &party{
					identities: []edhoc.Identity{{Credential: own, ID: id(der), Signer: signer}}, ephemeral: bySelf.ephemeral,
				}
				if role == "I" {
					exchange(t, software.config(0, s, hardware), hardware.config(0, s, software))
				} else {
					exchange(t, hardware.config(0, s, software), software.config(0, s, hardware))
				}
			})
		}
	}
}

// sharedKeys reads the suite 24 keys of the shared data beside the project.
func sharedKeys(t *testing.T) map[string][]byte {
	t.Helper()
	root := filepath.Join("..", "..", "..", "shared", "data")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("shared data is absent: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(root, "edhoc", "suite24-keys-and-certificates.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for key, value := range v {
		if text, ok := value.(string); ok {
			if out[key], err = hex.DecodeString(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// BenchmarkHandshake measures one whole exchange, both sides, method 0, kid credentials of 8 bytes, message_4. swtpm:
// the Responder's signature and ephemeral key are in the emulator.
func BenchmarkHandshake(b *testing.B) {
	for _, id := range []int{24, -24} {
		s := suite(b, id)
		for _, keys := range []string{"software", "swtpm"} {
			b.Run(fmt.Sprintf("suite=%d/keys=%s", id, keys), func(b *testing.B) {
				initiator := softwareParty(b, s, "initiator")
				var responder *party
				if keys == "swtpm" {
					responder = tpmParty(b, s, "responder")
				} else {
					responder = softwareParty(b, s, "responder")
				}
				i, r := initiator.config(0, s, responder), responder.config(0, s, initiator)
				b.ReportAllocs()
				var sizes [4]int
				for b.Loop() {
					for n, m := range exchange(b, i, r) {
						sizes[n] = len(m)
					}
				}
				for n, size := range sizes {
					b.ReportMetric(float64(size), fmt.Sprintf("message_%d-bytes", n+1))
				}
			})
		}
	}
}
