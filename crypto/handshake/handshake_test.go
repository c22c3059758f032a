// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cellward/cellward/crypto/edhoc"
	"github.com/cellward/cellward/crypto/edhoc/edhoctest"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
)

// side is one party's keys.
type side struct {
	name      string
	signer    crypto.Signer
	public    *identity.PublicKey
	ephemeral edhoc.EphemeralFactory
}

func (s *side) party() Party { return Party{Name: s.name, Key: s.public} }

func newSide(t testing.TB, name string, signer crypto.Signer, eph edhoc.EphemeralFactory) *side {
	t.Helper()
	pub, err := identity.NewPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &side{name, signer, pub, eph}
}

func software(t testing.TB, name string, curve elliptic.Curve) *side {
	t.Helper()
	k, err := identity.GenerateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	return newSide(t, name, k, nil)
}

func hardware(t testing.TB, name string, suite int) *side {
	t.Helper()
	s, err := edhoc.SuiteByID(suite)
	if err != nil {
		t.Fatal(err)
	}
	device := edhoctest.TPM(t, s)
	signer, err := device.CreateSigningKey(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return newSide(t, name, signer, TPMEphemerals(device, 0))
}

func (s *side) node(t testing.TB, gateway *side) *Node {
	t.Helper()
	n, err := NewNode(NodeConfig{Name: s.name, Signer: s.signer, Gateway: gateway.party(), Ephemeral: s.ephemeral})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *side) gateway(t testing.TB, node *side) *Gateway {
	t.Helper()
	g, err := NewGateway(GatewayConfig{Name: s.name, Signer: s.signer, Node: node.party(), Ephemeral: s.ephemeral})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// big is the request whose fields take the most bytes.
func big() Request {
	r := Request{Floor: 1<<32 - 2, SendingEpoch: 1<<32 - 2, NextCounter: 1<<48 - 2}
	for i := range r.BindingHash {
		r.BindingHash[i] = byte(i)
	}
	for i := range r.Start {
		r.Start[i] = byte(0xA0 + i)
	}
	return r
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// attack delivers altered and foreign messages before the right one.
func attack(t testing.TB, msg []byte, process func([]byte) error) {
	t.Helper()
	last := bytes.Clone(msg)
	last[len(last)-1] ^= 0x80
	for _, bad := range [][]byte{nil, msg[1:], msg[:len(msg)-1], append(bytes.Clone(msg), 0), last, {0x01, 0x61, 'x'}} {
		if process(bad) == nil {
			t.Fatalf("%x was accepted", bad)
		}
	}
}

// run is a whole handshake with forged frames at every step; it returns the messages and the agreement.
func run(t testing.TB, node, gateway *side, r Request, grant Grant) ([4][]byte, *Agreement) {
	t.Helper()
	n, g := node.node(t, gateway), gateway.gateway(t, node)
	defer n.Close()
	defer g.Close()
	bytesOf := must[[]byte](t)
	var m [4][]byte
	m[0] = bytesOf(n.Message1())
	for _, bad := range [][]byte{nil, m[0][1:], append(bytes.Clone(m[0]), 0x41)} {
		if _, err := g.Message1(bad); err == nil {
			t.Fatalf("%x was accepted", bad)
		}
	}
	m[1] = bytesOf(g.Message1(m[0]))
	attack(t, m[1], n.Message2)
	if err := n.Message2(m[1]); err != nil {
		t.Fatal(err)
	}
	m[2] = bytesOf(n.Message3(r))
	attack(t, m[2], func(b []byte) error { _, err := g.Message3(b); return err })
	got := must[*Request](t)(g.Message3(m[2]))
	if *got != r {
		t.Fatalf("request %+v became %+v", r, *got)
	}
	atGateway := must[*Agreement](t)(g.Agree(grant))
	m[3] = bytesOf(g.Message4())
	attack(t, m[3], func(b []byte) error { _, err := n.Message4(b); return err })
	atNode := must[*Agreement](t)(n.Message4(m[3]))
	if *atNode != *atGateway {
		t.Fatal("the sides agreed different things")
	}
	if atNode.PRK == (schedule.PRK{}) {
		t.Fatal("no secret")
	}
	if !bytes.Equal(n.Sent(), m[2]) || !bytes.Equal(g.Sent(), m[3]) {
		t.Fatal("the last messages are not kept for repetition")
	}
	return m, atNode
}

// TestSizes: the sizes that the design of the control datagram counts on, with the longest fields.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		curve elliptic.Curve
		want  [4]int
	}{
		{elliptic.P384(), [4]int{54, 158, 201, 37}},
		{elliptic.P256(), [4]int{37, 110, 169, 37}},
	} {
		node, gateway := software(t, "node", c.curve), software(t, "gateway", c.curve)
		m, _ := run(t, node, gateway, big(), Grant{Epoch: 1<<32 - 1, CounterFloor: MaxCounter})
		for i, msg := range m {
			if len(msg) != c.want[i] || len(msg) > MaxBody {
				t.Errorf("%s: message_%d has %d bytes, want %d", c.curve.Params().Name, i+1, len(msg), c.want[i])
			}
		}
	}
}

// TestHardware: software and TPM in every combination, for both suites.
func TestHardware(t *testing.T) {
	for suite, curve := range map[int]elliptic.Curve{24: elliptic.P384(), -24: elliptic.P256()} {
		soft, softGateway := software(t, "node", curve), software(t, "gateway", curve)
		hard, hardGateway := hardware(t, "node", suite), hardware(t, "gateway", suite)
		for _, node := range []*side{soft, hard} {
			for _, gateway := range []*side{softGateway, hardGateway} {
				t.Run(fmt.Sprintf("suite=%d/node=%v/gateway=%v", suite, node == hard, gateway == hardGateway), func(t *testing.T) {
					run(t, node, gateway, big(), Grant{Epoch: 1<<32 - 1, CounterFloor: MaxCounter})
				})
			}
		}
	}
}

// TestAgreementDependsOnAll: another epoch, binding or session gives another secret.
func TestAgreementDependsOnAll(t *testing.T) {
	node, gateway := software(t, "node", elliptic.P256()), software(t, "gateway", elliptic.P256())
	n, g := node.node(t, gateway), gateway.gateway(t, node)
	m2 := must[[]byte](t)(g.Message1(must[[]byte](t)(n.Message1())))
	if err := n.Message2(m2); err != nil {
		t.Fatal(err)
	}
	r := big()
	r.Floor, r.SendingEpoch = 7, 7
	must[*Request](t)(g.Message3(must[[]byte](t)(n.Message3(r))))
	s := must[*edhoc.Session](t)(g.r.Session())
	seen := map[schedule.PRK]string{}
	for _, epoch := range []uint32{8, 9, 8 + 256, 8 << 8} {
		for _, binding := range [][32]byte{{}, {1}, {31: 1}} {
			a := must[*Agreement](t)(derive(s, Grant{Epoch: epoch}, binding))
			name := fmt.Sprint(epoch, binding)
			if was, ok := seen[a.PRK]; ok {
				t.Fatalf("%s and %s give one secret", was, name)
			}
			seen[a.PRK] = name
			// The definition, word for word.
			context := append([]byte("cellward v1"), byte(epoch), byte(epoch>>8), byte(epoch>>16), byte(epoch>>24))
			want := must[[]byte](t)(s.Exporter(52753, append(context, binding[:]...), 48))
			if !bytes.Equal(want, a.PRK[:]) {
				t.Fatal("PRK_epoch is not what protocol version 1 says")
			}
			a.Wipe()
			if a.PRK != (schedule.PRK{}) {
				t.Fatal("not wiped")
			}
		}
	}
	s.Close()
	if _, err := derive(s, Grant{}, [32]byte{}); !errors.Is(err, edhoc.ErrClosed) {
		t.Fatal(err)
	}
}

func TestCredentialForm(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P384(), elliptic.P256()} {
		p := software(t, "bms-cmu-1", curve).party()
		c := must[*edhoc.Credential](t)(p.Credential())
		point := must[[]byte](t)(p.Key.ECDSA().Bytes())
		n := (len(point) - 1) / 2
		kid := p.Key.Kid()
		crv := map[int]string{48: "02", 32: "01"}[n]
		want := "a2" + "02" + "69" + hex.EncodeToString([]byte("bms-cmu-1")) + "08a101a5" + "0102" + "0248" + hex.EncodeToString(kid[:]) +
			"20" + crv + "2158" + hex.EncodeToString([]byte{byte(n)}) + hex.EncodeToString(point[1:1+n]) +
			"2258" + hex.EncodeToString([]byte{byte(n)}) + hex.EncodeToString(point[1+n:])
		if got := hex.EncodeToString(c.Bytes()); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// cheat is a gateway or node that holds the right keys and puts what it wants into EAD_3 or EAD_4.
func cheat(t testing.TB, own, peer *side) edhoc.Config {
	t.Helper()
	cfg, err := config(own.name, own.signer, peer.party(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestRequestIsChecked(t *testing.T) {
	node, gateway := software(t, "node", elliptic.P256()), software(t, "gateway", elliptic.P256())
	good := big()
	goodValue := must[[]byte](t)(good.encode())
	change := func(f func(r *Request)) []byte {
		r := big()
		f(&r)
		return must[[]byte](t)(identity.Marshal(&r))
	}
	for _, c := range []struct {
		name string
		ead  []edhoc.EAD
		want error
	}{
		{"as it should be", []edhoc.EAD{item(goodValue)}, nil},
		{"with something else that is not critical", []edhoc.EAD{{Label: 7}, item(goodValue)}, nil},
		{"missing", nil, ErrRequest},
		{"another label", []edhoc.EAD{{Label: 7, Value: goodValue}}, ErrRequest},
		{"another critical label", []edhoc.EAD{{Label: 7, Critical: true}, item(goodValue)}, edhoc.CheckEADUnknown},
		{"not critical", []edhoc.EAD{{Label: Label, Value: goodValue}}, ErrRequest},
		{"without a value", []edhoc.EAD{{Label: Label, Critical: true}}, ErrRequest},
		{"twice", []edhoc.EAD{item(goodValue), item(goodValue)}, ErrRequest},
		{"empty", []edhoc.EAD{item([]byte{})}, ErrRequest},
		{"rubbish", []edhoc.EAD{item([]byte{0xff})}, ErrRequest},
		{"something behind it", []edhoc.EAD{item(append(bytes.Clone(goodValue), 0))}, ErrRequest},
		{"an element short", []edhoc.EAD{item(append([]byte{0x84}, goodValue[1:len(goodValue)-17]...))}, ErrRequest},
		{"an element more", []edhoc.EAD{item(append(append([]byte{0x86}, goodValue[1:]...), 0))}, ErrRequest},
		{"a short hash", []edhoc.EAD{item(must[[]byte](t)(identity.Marshal([]any{1, 1, 1, make([]byte, 31), bytes.Repeat([]byte{1}, 16)})))}, ErrRequest},
		{"a long start", []edhoc.EAD{item(must[[]byte](t)(identity.Marshal([]any{1, 1, 1, make([]byte, 32), bytes.Repeat([]byte{1}, 17)})))}, ErrRequest},
		{"a negative floor", []edhoc.EAD{item(must[[]byte](t)(identity.Marshal([]any{-1, 1, 1, make([]byte, 32), bytes.Repeat([]byte{1}, 16)})))}, ErrRequest},
		{"a floor beyond 32 bits", []edhoc.EAD{item(must[[]byte](t)(identity.Marshal([]any{uint64(1 << 32), 1, 1, make([]byte, 32), bytes.Repeat([]byte{1}, 16)})))}, ErrRequest},
		{"a start of zeros", []edhoc.EAD{item(change(func(r *Request) { r.Start = [16]byte{} }))}, ErrRequest},
		{"next counter 0", []edhoc.EAD{item(change(func(r *Request) { r.NextCounter = 0 }))}, ErrRequest},
		{"next counter beyond 48 bits", []edhoc.EAD{item(change(func(r *Request) { r.NextCounter = 1 << 48 }))}, ErrRequest},
		{"sending above its floor", []edhoc.EAD{item(change(func(r *Request) { r.Floor = 1 }))}, ErrRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := must[*edhoc.Initiator](t)(edhoc.NewInitiator(cheat(t, node, gateway)))
			g := gateway.gateway(t, node)
			m2 := must[[]byte](t)(g.Message1(must[[]byte](t)(i.Message1())))
			must[*edhoc.Peer](t)(i.Message2(m2))
			m3 := must[[]byte](t)(i.Message3(c.ead...))
			r, err := g.Message3(m3)
			if c.want == nil {
				if err != nil || *r != good {
					t.Fatalf("%+v, %v", r, err)
				}
				return
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if _, err := g.Agree(Grant{Epoch: 1<<32 - 1, CounterFloor: MaxCounter}); !errors.Is(err, ErrOrder) {
				t.Fatalf("agreed behind a refused message_3: %v", err)
			}
		})
	}
	// A node does not send such a request either.
	n, g := node.node(t, gateway), gateway.gateway(t, node)
	if err := n.Message2(must[[]byte](t)(g.Message1(must[[]byte](t)(n.Message1())))); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Message3(Request{}); !errors.Is(err, ErrRequest) {
		t.Fatal(err)
	}
	must[[]byte](t)(n.Message3(good))
	if _, err := n.Message3(good); !errors.Is(err, edhoc.CheckState) {
		t.Fatalf("message_3 was made twice: %v", err)
	}
}

func TestGrantIsChecked(t *testing.T) {
	node, gateway := software(t, "node", elliptic.P256()), software(t, "gateway", elliptic.P256())
	r := big()
	r.Floor, r.SendingEpoch, r.NextCounter = 10, 9, 1000
	grant := func(epoch uint32, floor uint64) edhoc.EAD {
		return item(must[[]byte](t)(identity.Marshal(&Grant{Epoch: epoch, CounterFloor: floor})))
	}
	for _, c := range []struct {
		name string
		ead  []edhoc.EAD
		want error
	}{
		{"as it should be", []edhoc.EAD{grant(11, 1000)}, nil},
		{"more", []edhoc.EAD{grant(1<<32-1, MaxCounter)}, nil},
		{"missing", nil, ErrGrant},
		{"not critical", []edhoc.EAD{{Label: Label, Value: grant(11, 1000).Value}}, ErrGrant},
		{"rubbish", []edhoc.EAD{item([]byte{0xff})}, ErrGrant},
		{"not in its shortest form", []edhoc.EAD{item([]byte{0x82, 0x18, 0x0b, 0x19, 0x03, 0xe8})}, ErrGrant},
		{"the floor itself", []edhoc.EAD{grant(10, 1000)}, ErrGrant},
		{"the sending epoch", []edhoc.EAD{grant(9, 1000)}, ErrGrant},
		{"epoch 0", []edhoc.EAD{grant(0, 1000)}, ErrGrant},
		{"counters taken back", []edhoc.EAD{grant(11, 999)}, ErrGrant},
		{"counters beyond 48 bits", []edhoc.EAD{grant(11, 1<<48)}, ErrGrant},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := node.node(t, gateway)
			res := must[*edhoc.Responder](t)(edhoc.NewResponder(cheat(t, gateway, node)))
			must[*edhoc.Offer](t)(res.Message1(must[[]byte](t)(n.Message1())))
			if err := n.Message2(must[[]byte](t)(res.Message2())); err != nil {
				t.Fatal(err)
			}
			must[*edhoc.Peer](t)(res.Message3(must[[]byte](t)(n.Message3(r))))
			a, err := n.Message4(must[[]byte](t)(res.Message4(c.ead...)))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if (a != nil) != (c.want == nil) {
				t.Fatal("an agreement beside an error")
			}
		})
	}
	// A gateway does not grant such a thing either, and only once, and only in its turn.
	n, g := node.node(t, gateway), gateway.gateway(t, node)
	if _, err := g.Agree(Grant{Epoch: 11, CounterFloor: 1000}); !errors.Is(err, ErrOrder) {
		t.Fatal(err)
	}
	if _, err := g.Message4(); !errors.Is(err, ErrOrder) {
		t.Fatal(err)
	}
	if err := n.Message2(must[[]byte](t)(g.Message1(must[[]byte](t)(n.Message1())))); err != nil {
		t.Fatal(err)
	}
	must[*Request](t)(g.Message3(must[[]byte](t)(n.Message3(r))))
	if _, err := g.Agree(Grant{Epoch: 10, CounterFloor: 1000}); !errors.Is(err, ErrGrant) {
		t.Fatal(err)
	}
	must[*Agreement](t)(g.Agree(Grant{Epoch: 11, CounterFloor: 1000}))
	if _, err := g.Agree(Grant{Epoch: 12, CounterFloor: 1000}); !errors.Is(err, ErrOrder) {
		t.Fatal(err)
	}
	if _, err := n.Message4([]byte{0x40}); !errors.Is(err, edhoc.CheckAEAD) {
		t.Fatal(err)
	}
}

// TestOnlyTheOwner: on the control identifier of one node, no other node's handshake succeeds, though its key is good.
func TestOnlyTheOwner(t *testing.T) {
	gateway := software(t, "gateway", elliptic.P384())
	owner, other := software(t, "owner", elliptic.P384()), software(t, "other", elliptic.P384())
	n, g := other.node(t, gateway), gateway.gateway(t, owner)
	if err := n.Message2(must[[]byte](t)(g.Message1(must[[]byte](t)(n.Message1())))); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Message3(must[[]byte](t)(n.Message3(big()))); !errors.Is(err, edhoc.CheckCredentialUnknown) {
		t.Fatal(err)
	}
	// The same key under another name is another identity.
	renamed := *owner
	renamed.name = "renamed"
	n, g = renamed.node(t, gateway), gateway.gateway(t, owner)
	if err := n.Message2(must[[]byte](t)(g.Message1(must[[]byte](t)(n.Message1())))); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Message3(must[[]byte](t)(n.Message3(big()))); !errors.Is(err, edhoc.CheckSignature) {
		t.Fatal(err)
	}
}

func TestConfiguration(t *testing.T) {
	p384, p256 := software(t, "a", elliptic.P384()), software(t, "b", elliptic.P256())
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		own    string
		signer crypto.Signer
		peer   Party
		want   error
	}{
		{"keys on two curves", "a", p384.signer, p256.party(), ErrKey},
		{"no own name", "", p384.signer, software(t, "x", elliptic.P384()).party(), ErrName},
		{"no name of the peer", "a", p384.signer, Party{Key: p384.public}, ErrName},
		{"no key of the peer", "a", p384.signer, Party{Name: "x"}, identity.ErrKey},
		{"a key of another curve", "a", p521, p384.party(), identity.ErrKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := NewNode(NodeConfig{Name: c.own, Signer: c.signer, Gateway: c.peer}); !errors.Is(err, c.want) {
				t.Errorf("node: %v", err)
			}
			if _, err := NewGateway(GatewayConfig{Name: c.own, Signer: c.signer, Node: c.peer}); !errors.Is(err, c.want) {
				t.Errorf("gateway: %v", err)
			}
		})
	}
}

// TestGatewayEphemeralFailure: a TPM that makes no key ends this handshake, with its own error.
func TestGatewayEphemeralFailure(t *testing.T) {
	no := errors.New("no key today")
	node, gateway := software(t, "node", elliptic.P256()), software(t, "gateway", elliptic.P256())
	gateway.ephemeral = func(ecdh.Curve) (edhoc.EphemeralKey, error) { return nil, no }
	node.ephemeral = gateway.ephemeral
	if _, err := node.node(t, gateway).Message1(); !errors.Is(err, no) {
		t.Fatal(err)
	}
	node.ephemeral = nil
	g := gateway.gateway(t, node)
	m1 := must[[]byte](t)(node.node(t, gateway).Message1())
	if _, err := g.Message1(m1); !errors.Is(err, no) {
		t.Fatal(err)
	}
	if _, err := g.Message1(m1); !errors.Is(err, edhoc.CheckState) {
		t.Fatal(err)
	}
}

// TestTPMEphemerals: of the right curve, usable until destroyed, and nothing stays in the TPM.
func TestTPMEphemerals(t *testing.T) {
	s := must[edhoc.Suite](t)(edhoc.SuiteByID(24))
	device := edhoctest.TPM(t, s)
	make := TPMEphemerals(device, 0)
	if _, err := make(ecdh.P256()); err == nil || !strings.Contains(err.Error(), "P-384") {
		t.Fatal(err)
	}
	k := must[edhoc.EphemeralKey](t)(make(ecdh.P384()))
	other := must[edhoc.EphemeralKey](t)(make(ecdh.P384()))
	if k.Curve() != ecdh.P384() || k.PublicKey().Equal(other.PublicKey()) {
		t.Fatal("not a fresh key on P-384")
	}
	for range 2 {
		z := must[[]byte](t)(k.ECDH(other.PublicKey()))
		if !bytes.Equal(z, must[[]byte](t)(other.ECDH(k.PublicKey()))) || len(z) != 48 {
			t.Fatal("shared secret")
		}
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.ECDH(other.PublicKey()); !errors.Is(err, ErrDestroyed) {
		t.Fatal(err)
	}
	if objects, sessions, err := device.Handles(context.Background()); err != nil || len(objects)+len(sessions) != 0 {
		t.Fatalf("%x, %x, %v", objects, sessions, err)
	}
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := make(ecdh.P384()); err == nil {
		t.Fatal("a key from a closed TPM")
	}
}

func TestNextEpoch(t *testing.T) {
	for _, c := range []struct {
		node, gateway uint32
		acceptable    []uint32
		want          uint32
		err           error
	}{
		{0, 0, nil, 1, nil},
		{7, 3, nil, 8, nil},
		{3, 7, nil, 8, nil},
		{7, 7, []uint32{7}, 8, nil},
		{255, 255, []uint32{0, 1}, 258, nil},
		{261, 261, []uint32{6, 7, 264}, 265, nil},
		{1 << 16, 0, nil, 1<<16 + 1, nil},
		{1<<16 + 1, 0, nil, 0, ErrFloor},
		{1<<32 - 1, 1<<32 - 1, nil, 0, ErrEpochs},
		{1<<32 - 2, 1<<32 - 2, []uint32{255}, 0, ErrEpochs},
		{1<<32 - 2, 1<<32 - 2, nil, 1<<32 - 1, nil},
	} {
		got, err := NextEpoch(c.node, c.gateway, c.acceptable)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("NextEpoch(%d, %d, %v) = %d, %v, want %d, %v", c.node, c.gateway, c.acceptable, got, err, c.want, c.err)
		}
	}
	all := make([]uint32, 256)
	for i := range all {
		all[i] = uint32(i)
	}
	if _, err := NextEpoch(1, 1, all); !errors.Is(err, ErrEpochs) {
		t.Error(err)
	}
}
