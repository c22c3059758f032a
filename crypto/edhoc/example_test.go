// SPDX-License-Identifier: Apache-2.0

package edhoc_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/cellward/cellward/crypto/edhoc"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/swtpm"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Two parties with signature keys on P-384 that know each other's public keys by kid agree a key with suite 24.
func Example() {
	suite, err := edhoc.SuiteByID(24)
	check(err)

	// Each side has a key and a credential: a CWT Claims Set with name, kid and public key.
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		check(err)
		return k
	}
	sensorKey, gatewayKey := newKey(), newKey()
	sensor, err := edhoc.NewCCS("sensor", []byte{0x01}, sensorKey.Public())
	check(err)
	gateway, err := edhoc.NewCCS("gateway", []byte{0x02}, gatewayKey.Public())
	check(err)

	initiator, err := edhoc.NewInitiator(edhoc.Config{
		Methods:    []edhoc.Method{edhoc.SignatureSignature},
		Suites:     []edhoc.Suite{suite},
		Identities: []edhoc.Identity{{Credential: sensor, ID: edhoc.ByKID([]byte{0x01}), Signer: sensorKey}},
		Lookup:     edhoc.LookupKnown(gateway),
		Message4:   true,
	})
	check(err)
	defer initiator.Close()
	responder, err := edhoc.NewResponder(edhoc.Config{
		Methods:    []edhoc.Method{edhoc.SignatureSignature},
		Suites:     []edhoc.Suite{suite},
		Identities: []edhoc.Identity{{Credential: gateway, ID: edhoc.ByKID([]byte{0x02}), Signer: gatewayKey}},
		Lookup:     edhoc.LookupKnown(sensor),
		Message4:   true,
	})
	check(err)
	defer responder.Close()

	m1, err := initiator.Message1()
	check(err)
	_, err = responder.Message1(m1)
	check(err)
	m2, err := responder.Message2()
	check(err)
	peer, err := initiator.Message2(m2)
	check(err)
	fmt.Println("the Responder is", peer.Credential.Subject())
	m3, err := initiator.Message3()
	check(err)
	peer, err = responder.Message3(m3)
	check(err)
	fmt.Println("the Initiator is", peer.Credential.Subject())
	m4, err := responder.Message4()
	check(err)
	_, err = initiator.Message4(m4)
	check(err)

	a, err := initiator.Session()
	check(err)
	defer a.Close()
	b, err := responder.Session()
	check(err)
	defer b.Close()
	keyA, err := a.Exporter(32768, []byte("application"), 32)
	check(err)
	keyB, err := b.Exporter(32768, []byte("application"), 32)
	check(err)
	fmt.Println("same key:", bytes.Equal(keyA, keyB))
	// Output:
	// the Responder is gateway
	// the Initiator is sensor
	// same key: true
}

// tpmKey is an ephemeral key in a TPM. It has no slot there between its uses: without its wrapped form, which Close
// drops, the TPM cannot load it again.
type tpmKey struct{ *tpm.ExchangeKey }

func (k *tpmKey) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	if k.ExchangeKey == nil {
		return nil, errors.New("key was destroyed")
	}
	return k.ExchangeKey.ECDH(peer)
}

func (k *tpmKey) Close() error {
	k.ExchangeKey = nil
	return nil
}

// The Responder's identity and its ephemeral key are in a TPM, here an emulator; the Initiator's are in software.
func Example_tpm() {
	dir, err := os.MkdirTemp("", "edhoc")
	check(err)
	defer os.RemoveAll(dir)
	emulator, err := swtpm.Start(context.Background(), dir)
	check(err)
	defer emulator.Stop()
	device, err := tpm.Open(context.Background(), "unix:"+emulator.Socket, tpm.Options{})
	check(err)
	defer device.Close()

	gatewayKey, err := device.CreateSigningKey(context.Background(), nil)
	check(err)
	gateway, err := edhoc.NewCCS("gateway", []byte{0x02}, gatewayKey.Public())
	check(err)
	sensorKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(err)
	sensor, err := edhoc.NewCCS("sensor", []byte{0x01}, sensorKey.Public())
	check(err)

	suite, err := edhoc.SuiteByID(24)
	check(err)
	initiator, err := edhoc.NewInitiator(edhoc.Config{
		Methods:    []edhoc.Method{edhoc.SignatureSignature},
		Suites:     []edhoc.Suite{suite},
		Identities: []edhoc.Identity{{Credential: sensor, ID: edhoc.ByKID([]byte{0x01}), Signer: sensorKey}},
		Lookup:     edhoc.LookupKnown(gateway),
	})
	check(err)
	defer initiator.Close()
	responder, err := edhoc.NewResponder(edhoc.Config{
		Methods:    []edhoc.Method{edhoc.SignatureSignature},
		Suites:     []edhoc.Suite{suite},
		Identities: []edhoc.Identity{{Credential: gateway, ID: edhoc.ByKID([]byte{0x02}), Signer: gatewayKey}},
		Lookup:     edhoc.LookupKnown(sensor),
		Ephemeral: func(ecdh.Curve) (edhoc.EphemeralKey, error) {
			k, err := device.CreateExchangeKey(context.Background(), nil)
			return &tpmKey{k}, err
		},
	})
	check(err)
	defer responder.Close()

	m1, err := initiator.Message1()
	check(err)
	_, err = responder.Message1(m1)
	check(err)
	m2, err := responder.Message2()
	check(err)
	_, err = initiator.Message2(m2)
	check(err)
	m3, err := initiator.Message3()
	check(err)
	_, err = responder.Message3(m3)
	check(err)

	a, err := initiator.Session()
	check(err)
	defer a.Close()
	b, err := responder.Session()
	check(err)
	defer b.Close()
	fmt.Println("same transcript:", bytes.Equal(a.TH4(), b.TH4()))
	fmt.Println("bytes on the wire:", len(m1), len(m2), len(m3))
	// Output:
	// same transcript: true
	// bytes on the wire: 54 150 117
}

// A message that was altered on the way is refused with the check that failed; with KeepOnFailure the session goes on.
func ExampleError() {
	suite, err := edhoc.SuiteByID(-24)
	check(err)
	responder, err := edhoc.NewResponder(edhoc.Config{
		Methods: []edhoc.Method{edhoc.SignatureSignature}, Suites: []edhoc.Suite{suite}, KeepOnFailure: true,
		Identities: exampleIdentity(), Lookup: edhoc.LookupKnown(),
	})
	check(err)
	defer responder.Close()

	_, err = responder.Message1([]byte{0x03, 0x37, 0x40, 0x00}) // method 3
	fmt.Println(err)
	fmt.Println(errors.Is(err, edhoc.CheckMethod), responder.State())
	fmt.Printf("%x\n", responder.ErrorReply(err))
	// Output:
	// edhoc: message_1: method (RFC 9528, 3.2): method 3 is not supported
	// true START
	// 0178196d6573736167655f3120726566757365643a206d6574686f64
}

func exampleIdentity() []edhoc.Identity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	cred, err := edhoc.NewCCS("responder", []byte{0x02}, key.Public())
	check(err)
	return []edhoc.Identity{{Credential: cred, ID: edhoc.ByKID([]byte{0x02}), Signer: key}}
}
