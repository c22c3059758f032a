// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cellward/cellward/crypto/edhoc"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
)

var update = flag.Bool("update", false, "write docs/edhoc-vectors.json anew")

// hexBytes is written as a hex string.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

type vectorParty struct {
	Name         string   `json:"name"`
	PrivateKey   hexBytes `json:"private_key"`
	PublicKey    hexBytes `json:"public_key_spki"`
	Kid          hexBytes `json:"kid"`
	Credential   hexBytes `json:"cred"`
	EphemeralKey hexBytes `json:"ephemeral_private_key"`
	ConnectionID hexBytes `json:"connection_id"`
}

type vector struct {
	Suite    int         `json:"suite"`
	Method   int         `json:"method"`
	Node     vectorParty `json:"node"`
	Gateway  vectorParty `json:"gateway"`
	Floor    uint32      `json:"node_floor"`
	Sending  uint32      `json:"sending_epoch"`
	Next     uint64      `json:"next_counter"`
	Binding  hexBytes    `json:"binding_hash"`
	Start    hexBytes    `json:"start"`
	EAD3     hexBytes    `json:"ead_3_value"`
	Epoch    uint32      `json:"epoch"`
	Counter  uint64      `json:"counter_floor"`
	EAD4     hexBytes    `json:"ead_4_value"`
	Messages [4]hexBytes `json:"messages"`
	TH4      hexBytes    `json:"th_4"`
	Label    uint64      `json:"exporter_label"`
	Context  hexBytes    `json:"exporter_context"`
	PRK      hexBytes    `json:"prk_epoch"`

	SendingPRK hexBytes    `json:"prk_sending_epoch"`
	ControlKey hexBytes    `json:"control_key"`
	Session    uint32      `json:"session"`
	Datagrams  [4]hexBytes `json:"datagrams"`
	Unkeyed    hexBytes    `json:"datagram_1_without_epoch"`
	Rekey      hexBytes    `json:"rekey_request"`
}

// deterministic signs as RFC 6979 has it, so that the messages are the same each time.
type deterministic struct{ crypto.Signer }

func (d deterministic) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return d.Signer.Sign(nil, digest, o)
}

type fixedEphemeral struct{ *ecdh.PrivateKey }

func (fixedEphemeral) Close() error { return nil }

// scalar is a fixed private key: bytes first, first+1 and so on.
func scalar(n int, first byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func makeVector(t *testing.T, suite int) *vector {
	t.Helper()
	curve, exchange, size := elliptic.P384(), ecdh.P384(), 48
	if suite == -24 {
		curve, exchange, size = elliptic.P256(), ecdh.P256(), 32
	}
	make := func(name string, first byte, connection byte) (*side, vectorParty) {
		d := scalar(size, first)
		key := must[*ecdsa.PrivateKey](t)(ecdsa.ParseRawPrivateKey(curve, d))
		eph := must[*ecdh.PrivateKey](t)(exchange.NewPrivateKey(scalar(size, first+0x60)))
		s := newSide(t, name, deterministic{key}, func(ecdh.Curve) (edhoc.EphemeralKey, error) { return fixedEphemeral{eph}, nil })
		kid := s.public.Kid()
		cred := must[*edhoc.Credential](t)(s.party().Credential())
		return s, vectorParty{
			Name: name, PrivateKey: d, PublicKey: s.public.DER(), Kid: kid[:], Credential: cred.Bytes(),
			EphemeralKey: eph.Bytes(), ConnectionID: []byte{connection},
		}
	}
	node, vn := make("cmu-1", 0x01, 0x2d)
	gateway, vg := make("gateway", 0x11, 0x18)
	r := Request{Floor: 7, SendingEpoch: 7, NextCounter: 70000, BindingHash: [32]byte(scalar(32, 0xb0)), Start: [16]byte(scalar(16, 0x50))}
	g := Grant{Epoch: 8, CounterFloor: 131072}

	ci := must[edhoc.Config](t)(config(node.name, node.signer, gateway.party(), node.ephemeral))
	cr := must[edhoc.Config](t)(config(gateway.name, gateway.signer, node.party(), gateway.ephemeral))
	ci.ConnectionID, cr.ConnectionID = vn.ConnectionID, vg.ConnectionID
	i := must[*edhoc.Initiator](t)(edhoc.NewInitiator(ci))
	res := must[*edhoc.Responder](t)(edhoc.NewResponder(cr))
	ead3, ead4 := must[[]byte](t)(r.encode()), must[[]byte](t)(g.encode())
	v := &vector{
		Suite: suite, Node: vn, Gateway: vg,
		Floor: r.Floor, Sending: r.SendingEpoch, Next: r.NextCounter, Binding: r.BindingHash[:], Start: r.Start[:], EAD3: ead3,
		Epoch: g.Epoch, Counter: g.CounterFloor, EAD4: ead4, Label: Label,
		Context: append(append([]byte("cellward v1"), 8, 0, 0, 0), r.BindingHash[:]...),
	}
	v.Messages[0] = must[[]byte](t)(i.Message1())
	must[*edhoc.Offer](t)(res.Message1(v.Messages[0]))
	v.Messages[1] = must[[]byte](t)(res.Message2())
	must[*edhoc.Peer](t)(i.Message2(v.Messages[1]))
	v.Messages[2] = must[[]byte](t)(i.Message3(item(ead3)))
	must[*edhoc.Peer](t)(res.Message3(v.Messages[2]))
	v.Messages[3] = must[[]byte](t)(res.Message4(item(ead4)))
	must[[]edhoc.EAD](t)(i.Message4(v.Messages[3]))
	s := must[*edhoc.Session](t)(i.Session())
	v.TH4 = s.TH4()
	a := must[*Agreement](t)(derive(s, g, r.BindingHash))
	v.PRK = a.PRK[:]
	if !bytes.Equal(v.PRK, must[[]byte](t)(s.Exporter(v.Label, v.Context, 48))) {
		t.Fatal("the context of the vector is not the one that is used")
	}

	// The control datagrams of this handshake, under the epoch under which the node sends.
	prk := schedule.PRK(scalar(48, 0x80))
	var k schedule.ControlKey
	if err := schedule.Control(&prk, r.SendingEpoch, &k); err != nil {
		t.Fatal(err)
	}
	v.SendingPRK, v.ControlKey, v.Session = prk[:], k[:], 0x01020304
	for n, m := range v.Messages {
		d := Datagram{Type: Type(n + 1), Session: v.Session, Body: m}
		v.Datagrams[n] = must[[]byte](t)(d.Encode(Direction(n%2), &k))
		got := must[*Received](t)(Parse(v.Datagrams[n], Direction(n%2), EpochKey{r.SendingEpoch, &k}))
		if got.Epoch != r.SendingEpoch || !bytes.Equal(got.Body, m) {
			t.Fatal("a datagram is not read back")
		}
	}
	v.Unkeyed = must[[]byte](t)((&Datagram{Type: TypeMessage1, Session: v.Session, Body: v.Messages[0]}).Encode(FromNode, nil))
	v.Rekey = must[[]byte](t)((&Datagram{Type: TypeRekey, Session: v.Session}).Encode(FromGateway, &k))
	return v
}

// TestVectors: docs/edhoc-vectors.json is what this code does; -update writes it.
func TestVectors(t *testing.T) {
	vectors := []*vector{makeVector(t, 24), makeVector(t, -24)}
	got := must[[]byte](t)(json.MarshalIndent(map[string]any{
		"comment": "EDHOC (RFC 9528) by the profile of protocol version 1. Hex; ECDSA as in RFC 6979; method 0; kid credentials; EAD label -52753. " +
			"datagrams: 0xC0, type, u16 length, u32 session, body, MAC.",
		"vectors": vectors,
	}, "", " "))
	got = append(got, '\n')
	path := filepath.Join("..", "..", "docs", "edhoc-vectors.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := must[[]byte](t)(os.ReadFile(path))
	if !bytes.Equal(got, want) {
		t.Fatal("docs/edhoc-vectors.json is not what the code does; run go test ./crypto/handshake -run TestVectors -update and look at the difference")
	}
}

// TestVectorsStandAlone reads the published file alone and checks it with the public API, as another implementation would.
func TestVectorsStandAlone(t *testing.T) {
	raw := must[[]byte](t)(os.ReadFile(filepath.Join("..", "..", "docs", "edhoc-vectors.json")))
	var file struct {
		Vectors []struct {
			Suite   int
			Node    map[string]string
			Gateway map[string]string
			EAD3    string   `json:"ead_3_value"`
			EAD4    string   `json:"ead_4_value"`
			M       []string `json:"messages"`
			TH4     string   `json:"th_4"`
			Context string   `json:"exporter_context"`
			PRK     string   `json:"prk_epoch"`
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != 2 {
		t.Fatalf("%d vectors", len(file.Vectors))
	}
	unhex := func(s string) []byte { return must[[]byte](t)(hex.DecodeString(s)) }
	for _, v := range file.Vectors {
		// The gateway's side, with the node's messages as they are in the file.
		suite := must[edhoc.Suite](t)(edhoc.SuiteByID(v.Suite))
		curve, exchange := elliptic.P384(), ecdh.P384()
		if suite.Curve == edhoc.P256 {
			curve, exchange = elliptic.P256(), ecdh.P256()
		}
		key := must[*ecdsa.PrivateKey](t)(ecdsa.ParseRawPrivateKey(curve, unhex(v.Gateway["private_key"])))
		eph := must[*ecdh.PrivateKey](t)(exchange.NewPrivateKey(unhex(v.Gateway["ephemeral_private_key"])))
		nodeKey := must[*identity.PublicKey](t)(identity.ParseDER(unhex(v.Node["public_key_spki"])))
		g, err := NewGateway(GatewayConfig{
			Name: v.Gateway["name"], Signer: deterministic{key}, Node: Party{Name: v.Node["name"], Key: nodeKey},
			Ephemeral: func(ecdh.Curve) (edhoc.EphemeralKey, error) { return fixedEphemeral{eph}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		// C_R is chosen at random by the profile, so the file's message_2 is made by the library underneath.
		cfg := must[edhoc.Config](t)(config(v.Gateway["name"], deterministic{key}, Party{Name: v.Node["name"], Key: nodeKey},
			func(ecdh.Curve) (edhoc.EphemeralKey, error) { return fixedEphemeral{eph}, nil }))
		cfg.ConnectionID = unhex(v.Gateway["connection_id"])
		var request *Request
		cfg.ProcessEAD = func(n int, field []edhoc.EAD) (err error) {
			if n == 3 {
				var value []byte
				if value, err = only(field); err == nil {
					request, err = parseRequest(value)
				}
			}
			return err
		}
		g.r = must[*edhoc.Responder](t)(edhoc.NewResponder(cfg))
		m2 := must[[]byte](t)(g.Message1(unhex(v.M[0])))
		if hex.EncodeToString(m2) != v.M[1] {
			t.Fatal("message_2 differs")
		}
		must[*edhoc.Peer](t)(g.r.Message3(unhex(v.M[2])))
		g.request = request
		a := must[*Agreement](t)(g.Agree(Grant{Epoch: 8, CounterFloor: 131072}))
		if hex.EncodeToString(a.PRK[:]) != v.PRK {
			t.Fatal("PRK_epoch differs")
		}
		m4 := must[[]byte](t)(g.Message4())
		if hex.EncodeToString(m4) != v.M[3] {
			t.Fatal("message_4 differs")
		}
	}
}
