// SPDX-License-Identifier: Apache-2.0

package offer

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// party is a signer with its public key.
type party struct {
	signer crypto.Signer
	pub    *identity.PublicKey
}

func newParty(tb testing.TB, curve elliptic.Curve) party {
	tb.Helper()
	k := must(identity.GenerateKey(curve))(tb)
	return party{k, must(identity.NewPublicKey(k.Public()))(tb)}
}

// fixture is a gateway, a node, the offer's key and the offer.
type fixture struct {
	gateway, node party
	key           *ecdh.PrivateKey
	offer         *Offer
}

var testBinding = sha256.Sum256([]byte("binding")) // constant

func testReply() Reply {
	return Reply{Floor: 4, FirstCounter: 1 << 33, Start: [schedule.StartSize]byte{1, 2, 3}}
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	f := &fixture{
		gateway: newParty(tb, elliptic.P384()),
		node:    newParty(tb, elliptic.P384()),
		key:     must(ecdh.P384().GenerateKey(rand.Reader))(tb),
	}
	f.offer = must(New(f.gateway.signer, f.key.PublicKey(), Params{Node: f.node.pub.Kid(), Epoch: 5, Binding: testBinding}))(tb)
	return f
}

func (f *fixture) answer(tb testing.TB) ([]byte, schedule.PRK) {
	tb.Helper()
	reply, prk, err := f.offer.Answer(f.node.signer, testBinding, testReply())
	if err != nil {
		tb.Fatal(err)
	}
	return reply, prk
}

func TestAgreement(t *testing.T) {
	for _, curves := range []struct {
		name string
		ec   elliptic.Curve
		dh   ecdh.Curve
		kem  uint16
	}{
		{"P-384", elliptic.P384(), ecdh.P384(), KEMP384},
		{"P-256", elliptic.P256(), ecdh.P256(), KEMP256},
		{"mixed", elliptic.P384(), ecdh.P256(), KEMP256},
	} {
		t.Run(curves.name, func(t *testing.T) {
			gateway, node := newParty(t, curves.ec), newParty(t, curves.ec)
			key := must(curves.dh.GenerateKey(rand.Reader))(t)
			p := Params{Node: node.pub.Kid(), Epoch: 5, Binding: testBinding}
			o := must(New(gateway.signer, key.PublicKey(), p))(t)
			if o.ID == [IDSize]byte{} || o.KEM != curves.kem || o.Gateway != gateway.pub.Kid() || o.Node != p.Node || o.Epoch != 5 || o.Binding != testBinding {
				t.Fatalf("%+v", o)
			}
			atNode := must(Parse(gateway.pub, o.Bytes()))(t)
			if atNode.Hash() != o.Hash() || atNode.Hash() != sha512.Sum384(o.Bytes()) {
				t.Fatal("hashes differ")
			}
			reply, prk, err := atNode.Answer(node.signer, testBinding, testReply())
			if err != nil {
				t.Fatal(err)
			}
			again := must(Parse(gateway.pub, o.Bytes()))(t) // after a restart of the gateway
			for _, taken := range []*[HashSize]byte{nil, {}} {
				if taken != nil {
					payload := must(identity.Verify(node.pub, contextReply, reply))(t)
					*taken = sha512.Sum384(payload)
				}
				a := must(again.Accept(node.pub, key, reply, taken))(t)
				if a.PRK != prk || a.Reply != testReply() {
					t.Fatalf("taken as %+v", a.Reply)
				}
				if taken != nil && a.PayloadHash != *taken {
					t.Fatal("payload hash")
				}
			}
			second, other, err := atNode.Answer(node.signer, testBinding, testReply())
			if err != nil {
				t.Fatal(err)
			}
			if other == prk {
				t.Fatal("two answers agree the same secret")
			}
			taken := must(o.Accept(node.pub, key, reply, nil))(t).PayloadHash
			if _, err := o.Accept(node.pub, key, second, &taken); !errors.Is(err, ErrSecondReply) {
				t.Fatalf("a second reply: %v", err)
			}
		})
	}
}

// TestTPM has both sides' keys in TPMs of their own.
func TestTPM(t *testing.T) {
	ctx := t.Context()
	gatewayTPM, nodeTPM := tpmtest.Open(t), tpmtest.Open(t)
	party := func(m *tpm.TPM) party {
		k := must(m.CreateSigningKey(ctx, nil))(t)
		return party{k, must(identity.NewPublicKey(k.Public()))(t)}
	}
	gateway, node := party(gatewayTPM), party(nodeTPM)
	id, value, err := gatewayTPM.CreateCounter(ctx, 0x01800100)
	if err != nil {
		t.Fatal(err)
	}
	batch := tpm.Policy{tpm.CounterEquals(id, value)}
	key := must(gatewayTPM.CreateExchangeKey(ctx, batch))(t)
	o := must(New(gateway.signer, key.PublicKey(), Params{Node: node.pub.Kid(), Epoch: 1, Binding: testBinding}))(t)
	r := Reply{FirstCounter: 1, Start: [16]byte{9}}
	reply, prk, err := o.Answer(node.signer, testBinding, r)
	if err != nil {
		t.Fatal(err)
	}
	stored := must(gatewayTPM.ParseExchangeKey(key.PEM(), batch))(t)
	if a := must(o.Accept(node.pub, stored, reply, nil))(t); a.PRK != prk || a.Reply != r {
		t.Fatalf("taken as %+v", a.Reply)
	}
	// Once the batch is closed the TPM refuses, and that is told from a bad
	// reply.
	if _, err := gatewayTPM.IncrementCounter(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Accept(node.pub, stored, reply, nil); !errors.Is(err, ErrDerive) || !errors.Is(err, tpm.ErrPolicy) {
		t.Fatalf("after the batch was closed: %v", err)
	}
}

func TestNewRefused(t *testing.T) {
	f := newFixture(t)
	p := Params{Node: f.node.pub.Kid(), Epoch: 5, Binding: testBinding}
	if _, err := New(f.gateway.signer, f.key.PublicKey(), Params{Node: p.Node}); !errors.Is(err, ErrField) {
		t.Errorf("epoch 0: %v", err)
	}
	p521 := must(ecdh.P521().GenerateKey(rand.Reader))(t)
	if _, err := New(f.gateway.signer, p521.PublicKey(), p); !errors.Is(err, ErrKEM) {
		t.Errorf("P-521: %v", err)
	}
	other := must(New(f.gateway.signer, f.key.PublicKey(), p))(t)
	if other.ID == f.offer.ID {
		t.Error("two offers have one id")
	}
}

// forgeOffer signs an offer whose payload was changed.
func (f *fixture) forgeOffer(tb testing.TB, change func(*offerPayload)) []byte {
	tb.Helper()
	kid := f.gateway.pub.Kid()
	node := f.node.pub.Kid()
	p := offerPayload{
		Context: contextOffer, ID: make([]byte, IDSize), Gateway: kid[:], Node: node[:], Epoch: 5,
		KEM: KEMP384, Public: f.key.PublicKey().Bytes(), Binding: testBinding[:],
	}
	change(&p)
	return must(identity.Sign(f.gateway.signer, contextOffer, must(identity.Marshal(p))(tb)))(tb)
}

func TestParseRefused(t *testing.T) {
	f := newFixture(t)
	other := newParty(t, elliptic.P384())
	infinity := append([]byte{4}, make([]byte, 96)...)
	p256 := must(ecdh.P256().GenerateKey(rand.Reader))(t)
	otherKid := other.pub.Kid()
	good := func(*offerPayload) {}
	must(Parse(f.gateway.pub, f.forgeOffer(t, good)))(t)
	reply, _ := f.answer(t)
	for name, tc := range map[string]struct {
		msg  []byte
		want error
	}{
		"empty":           {nil, identity.ErrEncoding},
		"other gateway":   {must(New(other.signer, f.key.PublicKey(), Params{Node: f.node.pub.Kid(), Epoch: 5}))(t).Bytes(), identity.ErrSigner},
		"a reply":         {must(identity.Sign(f.gateway.signer, contextReply, must(identity.Marshal([]any{contextReply}))(t)))(t), identity.ErrContext},
		"node's reply":    {reply, identity.ErrSigner},
		"gateway kid":     {f.forgeOffer(t, func(p *offerPayload) { p.Gateway = otherKid[:] }), ErrGateway},
		"short kid":       {f.forgeOffer(t, func(p *offerPayload) { p.Gateway = p.Gateway[:7] }), ErrField},
		"short node":      {f.forgeOffer(t, func(p *offerPayload) { p.Node = p.Node[:7] }), ErrField},
		"long node":       {f.forgeOffer(t, func(p *offerPayload) { p.Node = append(p.Node, 0) }), ErrField},
		"null node":       {f.forgeOffer(t, func(p *offerPayload) { p.Node = nil }), ErrField},
		"short id":        {f.forgeOffer(t, func(p *offerPayload) { p.ID = p.ID[:15] }), ErrField},
		"short binding":   {f.forgeOffer(t, func(p *offerPayload) { p.Binding = p.Binding[:31] }), ErrField},
		"epoch 0":         {f.forgeOffer(t, func(p *offerPayload) { p.Epoch = 0 }), ErrField},
		"unknown KEM":     {f.forgeOffer(t, func(p *offerPayload) { p.KEM = 0x0020 }), ErrKEM},
		"KEM of P-256":    {f.forgeOffer(t, func(p *offerPayload) { p.KEM = KEMP256 }), ErrPublicKey},
		"key of P-256":    {f.forgeOffer(t, func(p *offerPayload) { p.Public = p256.PublicKey().Bytes() }), ErrPublicKey},
		"off the curve":   {f.forgeOffer(t, func(p *offerPayload) { p.Public[96] ^= 1 }), ErrPublicKey},
		"infinity":        {f.forgeOffer(t, func(p *offerPayload) { p.Public = []byte{0} }), ErrPublicKey},
		"zero point":      {f.forgeOffer(t, func(p *offerPayload) { p.Public = infinity }), ErrPublicKey},
		"compressed":      {f.forgeOffer(t, func(p *offerPayload) { p.Public = append([]byte{2 | p.Public[96]&1}, p.Public[1:49]...) }), ErrPublicKey},
		"too few fields":  {must(identity.Sign(f.gateway.signer, contextOffer, must(identity.Marshal([]any{contextOffer, 1}))(t)))(t), identity.ErrEncoding},
		"too many fields": {f.forgeMore(t), identity.ErrEncoding},
		"epoch too large": {f.forgeEpoch(t, 1<<32), identity.ErrEncoding},
		"epoch negative":  {f.forgeEpoch(t, -1), identity.ErrEncoding},
	} {
		if _, err := Parse(f.gateway.pub, tc.msg); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func (f *fixture) forgeMore(tb testing.TB) []byte {
	kid := f.gateway.pub.Kid()
	payload := must(identity.Marshal([]any{contextOffer, make([]byte, 16), kid[:], kid[:], 5, KEMP384, f.key.PublicKey().Bytes(), testBinding[:], 0}))(tb)
	return must(identity.Sign(f.gateway.signer, contextOffer, payload))(tb)
}

func (f *fixture) forgeEpoch(tb testing.TB, epoch int64) []byte {
	kid := f.gateway.pub.Kid()
	payload := must(identity.Marshal([]any{contextOffer, make([]byte, 16), kid[:], kid[:], epoch, KEMP384, f.key.PublicKey().Bytes(), testBinding[:]}))(tb)
	return must(identity.Sign(f.gateway.signer, contextOffer, payload))(tb)
}

func TestAnswerRefused(t *testing.T) {
	f := newFixture(t)
	other := newParty(t, elliptic.P384())
	good := testReply()
	with := func(change func(*Reply)) Reply { r := good; change(&r); return r }
	for name, tc := range map[string]struct {
		node    party
		binding [BindingSize]byte
		r       Reply
		want    error
	}{
		"another node":      {other, testBinding, good, ErrNode},
		"another binding":   {f.node, sha256.Sum256([]byte("x")), good, ErrBinding},
		"floor is epoch":    {f.node, testBinding, with(func(r *Reply) { r.Floor = 5 }), ErrEpoch},
		"floor above epoch": {f.node, testBinding, with(func(r *Reply) { r.Floor = 1<<32 - 1 }), ErrEpoch},
		"counter 0":         {f.node, testBinding, with(func(r *Reply) { r.FirstCounter = 0 }), ErrCounter},
		"counter too large": {f.node, testBinding, with(func(r *Reply) { r.FirstCounter = 1 << 48 }), ErrCounter},
		"start of zeros":    {f.node, testBinding, with(func(r *Reply) { r.Start = [16]byte{} }), ErrStart},
		"signer fails":      {party{brokenSigner{f.node.signer}, f.node.pub}, testBinding, good, errBroken},
	} {
		reply, prk, err := f.offer.Answer(tc.node.signer, tc.binding, tc.r)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if reply != nil || prk != (schedule.PRK{}) {
			t.Errorf("%s: gives a reply or a secret", name)
		}
	}
}

var errBroken = errors.New("broken")

type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return nil, errBroken
}

// forgeReply encrypts any body to the offer and signs whatever results.
func (f *fixture) forgeReply(tb testing.TB, body any, change func(*replyPayload)) []byte {
	tb.Helper()
	pk := must(hpke.NewDHKEMPublicKey(f.offer.public))(tb)
	enc, sender, err := hpke.NewSender(pk, hpke.HKDFSHA384(), hpke.AES256GCM(), []byte(hpkeInfo))
	if err != nil {
		tb.Fatal(err)
	}
	hash := f.offer.Hash()
	p := replyPayload{Context: contextReply, Offer: hash[:], Enc: enc,
		Ciphertext: must(sender.Seal(hash[:], must(identity.Marshal(body))(tb)))(tb)}
	change(&p)
	return must(identity.Sign(f.node.signer, contextReply, must(identity.Marshal(p))(tb)))(tb)
}

func TestAcceptRefused(t *testing.T) {
	f := newFixture(t)
	other := newParty(t, elliptic.P384())
	reply, _ := f.answer(t)
	start := make([]byte, 16)
	start[0] = 1
	good := replyBody{Floor: 4, FirstCounter: 1, Start: start}
	same := func(*replyPayload) {}
	must(f.offer.Accept(f.node.pub, f.key, f.forgeReply(t, good, same), nil))(t)

	otherOffer := must(New(f.gateway.signer, f.key.PublicKey(), Params{Node: f.node.pub.Kid(), Epoch: 5, Binding: testBinding}))(t)
	toOther, _, err := otherOffer.Answer(f.node.signer, testBinding, testReply())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reply []byte
		want  error
	}{
		"empty":             {nil, identity.ErrEncoding},
		"the offer":         {f.offer.Bytes(), identity.ErrSigner},
		"other offer":       {toOther, ErrOtherOffer},
		"hash cut":          {f.forgeReply(t, good, func(p *replyPayload) { p.Offer = p.Offer[:47] }), ErrOtherOffer},
		"enc empty":         {f.forgeReply(t, good, func(p *replyPayload) { p.Enc = nil }), ErrEncapsulated},
		"enc off the curve": {f.forgeReply(t, good, func(p *replyPayload) { p.Enc[50] ^= 1 }), ErrEncapsulated},
		"enc long":          {f.forgeReply(t, good, func(p *replyPayload) { p.Enc = append(p.Enc, 0) }), ErrEncapsulated},
		"enc of another":    {f.forgeReply(t, good, func(p *replyPayload) { p.Enc = f.key.PublicKey().Bytes() }), ErrDecrypt},
		"ciphertext empty":  {f.forgeReply(t, good, func(p *replyPayload) { p.Ciphertext = nil }), ErrDecrypt},
		"ciphertext flip":   {f.forgeReply(t, good, func(p *replyPayload) { p.Ciphertext[0] ^= 1 }), ErrDecrypt},
		"ciphertext cut":    {f.forgeReply(t, good, func(p *replyPayload) { p.Ciphertext = p.Ciphertext[:20] }), ErrDecrypt},
		"floor is epoch":    {f.forgeReply(t, replyBody{Floor: 5, FirstCounter: 1, Start: start}, same), ErrFloor},
		"counter 0":         {f.forgeReply(t, replyBody{Floor: 4, Start: start}, same), ErrCounter},
		"counter too large": {f.forgeReply(t, replyBody{Floor: 4, FirstCounter: 1 << 48, Start: start}, same), ErrCounter},
		"start of zeros":    {f.forgeReply(t, replyBody{Floor: 4, FirstCounter: 1, Start: make([]byte, 16)}, same), ErrStart},
		"start short":       {f.forgeReply(t, replyBody{Floor: 4, FirstCounter: 1, Start: start[:15]}, same), ErrField},
		"body of two":       {f.forgeReply(t, []any{4, 1}, same), identity.ErrEncoding},
		"body of four":      {f.forgeReply(t, []any{4, 1, start, 0}, same), identity.ErrEncoding},
		"floor negative":    {f.forgeReply(t, []any{-1, 1, start}, same), identity.ErrEncoding},
		"floor as float":    {f.forgeReply(t, []any{4.0, 1, start}, same), identity.ErrEncoding},
	} {
		if a, err := f.offer.Accept(f.node.pub, f.key, tc.reply, nil); !errors.Is(err, tc.want) || a != nil {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := f.offer.Accept(other.pub, f.key, reply, nil); !errors.Is(err, ErrNode) {
		t.Errorf("another node's key: %v", err)
	}
	stranger := must(ecdh.P384().GenerateKey(rand.Reader))(t)
	if _, err := f.offer.Accept(f.node.pub, stranger, reply, nil); !errors.Is(err, ErrKey) {
		t.Errorf("another private key: %v", err)
	}
	if _, err := f.offer.Accept(f.node.pub, brokenKey{f.key}, reply, nil); !errors.Is(err, ErrDerive) || !errors.Is(err, errBroken) {
		t.Errorf("a key that fails: %v", err)
	}
}

type brokenKey struct{ ecdh.KeyExchanger }

func (brokenKey) ECDH(*ecdh.PublicKey) ([]byte, error) { return nil, errBroken }

// TestBitFlips flips every bit of an offer and of a reply.
func TestBitFlips(t *testing.T) {
	f := newFixture(t)
	reply, _ := f.answer(t)
	flip := func(name string, msg []byte, take func([]byte) error) {
		if err := take(msg); err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(msg) {
			msg[i/8] ^= 1 << (i % 8)
			if take(msg) == nil {
				t.Fatalf("%s: bit %d of byte %d flipped and still taken", name, i%8, i/8)
			}
			msg[i/8] ^= 1 << (i % 8)
		}
	}
	flip("offer", f.offer.Bytes(), func(b []byte) error { _, err := Parse(f.gateway.pub, b); return err })
	flip("reply", reply, func(b []byte) error { _, err := f.offer.Accept(f.node.pub, f.key, b, nil); return err })
}

func TestFingerprint(t *testing.T) {
	f := newFixture(t)
	text := Fingerprint(f.offer.Bytes())
	if !regexp.MustCompile(`^([0-9a-f]{4} ){15}[0-9a-f]{4}$`).MatchString(text) {
		t.Errorf("%q", text)
	}
	if Fingerprint([]byte("abc")) != "ba78 16bf 8f01 cfea 4141 40de 5dae 2223 b003 61a3 9617 7a9c b410 ff61 f200 15ad" {
		t.Error("not the SHA-256 of FIPS 180-4's example")
	}
}

// TestNoSecretInErrors looks for the secret in what a refusal says.
func TestNoSecretInErrors(t *testing.T) {
	f := newFixture(t)
	reply, prk := f.answer(t)
	taken := [HashSize]byte{1}
	_, err := f.offer.Accept(f.node.pub, f.key, reply, &taken)
	if err == nil || strings.Contains(err.Error(), string(prk[:4])) {
		t.Fatalf("%v", err)
	}
}

func FuzzOffer(f *testing.F) {
	x := newFixture(f)
	f.Add(x.offer.Bytes())
	f.Add(x.offer.Bytes()[:100])
	f.Fuzz(func(t *testing.T, msg []byte) {
		o, err := Parse(x.gateway.pub, msg)
		if err == nil && !bytes.Equal(msg, x.offer.Bytes()) {
			t.Fatalf("an offer that the gateway did not sign: %+v", o)
		}
	})
}

// FuzzOfferPayload has the gateway sign anything: what is taken was written
// exactly so.
func FuzzOfferPayload(f *testing.F) {
	x := newFixture(f)
	payload := must(identity.Verify(x.gateway.pub, contextOffer, x.offer.Bytes()))(f)
	f.Add(payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		msg, err := identity.Sign(x.gateway.signer, contextOffer, payload)
		if err != nil {
			return
		}
		o, err := Parse(x.gateway.pub, msg)
		if err != nil {
			return
		}
		if o.Epoch == 0 || o.Gateway != x.gateway.pub.Kid() || o.public == nil {
			t.Fatalf("%+v", o)
		}
	})
}

// FuzzReply has the node sign and encrypt anything.
func FuzzReply(f *testing.F) {
	x := newFixture(f)
	reply, _ := x.answer(f)
	payload := must(identity.Verify(x.node.pub, contextReply, reply))(f)
	f.Add(reply, payload)
	f.Fuzz(func(t *testing.T, msg, payload []byte) {
		if _, err := x.offer.Accept(x.node.pub, x.key, msg, nil); err == nil && !bytes.Equal(msg, reply) {
			t.Fatal("a reply that the node did not sign")
		}
		signed, err := identity.Sign(x.node.signer, contextReply, payload)
		if err != nil {
			return
		}
		a, err := x.offer.Accept(x.node.pub, x.key, signed, nil)
		if err == nil && (a.Floor >= 5 || a.FirstCounter == 0 || a.Start == [16]byte{}) {
			t.Fatalf("%+v", a.Reply)
		}
	})
}
