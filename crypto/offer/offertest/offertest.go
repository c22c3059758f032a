// SPDX-License-Identifier: Apache-2.0

// Package offertest makes test vectors of offer and reply, by a second
// implementation of HPKE's sender that takes its ephemeral key from outside.
//
// It is for tests and for the published vectors only: a fixed ephemeral key
// gives no secrecy. It may import crypto/identity, crypto/offer and
// crypto/schedule.
package offertest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/schedule"
)

// Hex is bytes that JSON shows in hexadecimal.
type Hex []byte

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// Vector is one agreement with everything that is needed to follow it. Private
// keys are scalars, big-endian, as long as the field; public keys of identities
// are DER SubjectPublicKeyInfo. The signatures are those of RFC 6979.
type Vector struct {
	KEM              uint16 `json:"kem"`
	GatewayPrivate   Hex    `json:"gateway_private"`
	GatewayPublic    Hex    `json:"gateway_public"`
	GatewayKid       Hex    `json:"gateway_kid"`
	NodePrivate      Hex    `json:"node_private"`
	NodePublic       Hex    `json:"node_public"`
	NodeKid          Hex    `json:"node_kid"`
	OfferPrivate     Hex    `json:"offer_private"`
	EphemeralPrivate Hex    `json:"ephemeral_private"`
	OfferID          Hex    `json:"offer_id"`
	Epoch            uint32 `json:"epoch"`
	BindingHash      Hex    `json:"binding_hash"`
	Floor            uint32 `json:"floor"`
	FirstCounter     uint64 `json:"first_counter"`
	Start            Hex    `json:"start"`
	Offer            Hex    `json:"offer"`
	OfferHash        Hex    `json:"offer_hash"`
	Fingerprint      string `json:"fingerprint"`
	Reply            Hex    `json:"reply"`
	PayloadHash      Hex    `json:"payload_hash"`
	PRK              Hex    `json:"prk"`
}

// Build makes the vector of a KEM from fixed inputs: the same one every time.
func Build(kem uint16) (*Vector, error) {
	curve, ec := ecdh.P384(), elliptic.P384()
	if kem == offer.KEMP256 {
		curve, ec = ecdh.P256(), elliptic.P256()
	} else if kem != offer.KEMP384 {
		return nil, fmt.Errorf("build vector: %w", offer.ErrKEM)
	}
	size := (ec.Params().BitSize + 7) / 8
	gateway, err := newSigner(ec, scalar("gateway identity", size))
	if err != nil {
		return nil, err
	}
	node, err := newSigner(ec, scalar("node identity", size))
	if err != nil {
		return nil, err
	}
	key, err := curve.NewPrivateKey(scalar("offer key", size))
	if err != nil {
		return nil, err
	}
	ephemeral, err := curve.NewPrivateKey(scalar("ephemeral key", size))
	if err != nil {
		return nil, err
	}
	p := offer.Params{Node: node.pub.Kid(), Epoch: 7, Binding: sha256.Sum256([]byte("binding"))}
	copy(p.ID[:], scalar("offer id", offer.IDSize))
	o, err := offer.New(gateway, key.PublicKey(), p)
	if err != nil {
		return nil, err
	}
	r := offer.Reply{Floor: 6, FirstCounter: 65537}
	copy(r.Start[:], scalar("start", schedule.StartSize))
	reply, payload, secrets, err := Answer(o, node, ephemeral, r)
	if err != nil {
		return nil, err
	}
	gatewayKid, nodeKid, offerHash, payloadHash := gateway.pub.Kid(), node.pub.Kid(), o.Hash(), sha512.Sum384(payload)
	return &Vector{
		KEM:              kem,
		GatewayPrivate:   scalar("gateway identity", size),
		GatewayPublic:    gateway.pub.DER(),
		GatewayKid:       gatewayKid[:],
		NodePrivate:      scalar("node identity", size),
		NodePublic:       node.pub.DER(),
		NodeKid:          nodeKid[:],
		OfferPrivate:     key.Bytes(),
		EphemeralPrivate: ephemeral.Bytes(),
		OfferID:          o.ID[:],
		Epoch:            o.Epoch,
		BindingHash:      o.Binding[:],
		Floor:            r.Floor,
		FirstCounter:     r.FirstCounter,
		Start:            r.Start[:],
		Offer:            o.Bytes(),
		OfferHash:        offerHash[:],
		Fingerprint:      offer.Fingerprint(o.Bytes()),
		Reply:            reply,
		PayloadHash:      payloadHash[:],
		PRK:              secrets.PRK,
	}, nil
}

// Check takes the vector's reply to its offer with package offer and compares
// every result.
func (v *Vector) Check() error {
	curve := ecdh.P384()
	if v.KEM == offer.KEMP256 {
		curve = ecdh.P256()
	}
	gateway, err := identity.ParseDER(v.GatewayPublic)
	if err != nil {
		return err
	}
	node, err := identity.ParseDER(v.NodePublic)
	if err != nil {
		return err
	}
	key, err := curve.NewPrivateKey(v.OfferPrivate)
	if err != nil {
		return err
	}
	o, err := offer.Parse(gateway, v.Offer)
	if err != nil {
		return err
	}
	a, err := o.Accept(node, key, v.Reply, nil)
	if err != nil {
		return err
	}
	defer a.PRK.Wipe()
	got := *v
	gatewayKid, nodeKid, offerHash := gateway.Kid(), node.Kid(), o.Hash()
	got.KEM, got.Epoch, got.Floor, got.FirstCounter = o.KEM, o.Epoch, a.Floor, a.FirstCounter
	got.GatewayKid, got.NodeKid, got.OfferID, got.BindingHash = gatewayKid[:], nodeKid[:], o.ID[:], o.Binding[:]
	got.Start, got.OfferHash, got.PayloadHash, got.PRK = a.Start[:], offerHash[:], a.PayloadHash[:], a.PRK[:]
	got.Fingerprint = offer.Fingerprint(v.Offer)
	have, err := json.Marshal(got)
	if err != nil {
		return err
	}
	want, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return errors.New("vector differs from what its offer and reply give")
	}
	return nil
}

// scalar is public: the first bytes of SHA-512 over a label, with the top bit
// clear so that it is below the order of either curve.
func scalar(label string, size int) []byte {
	sum := sha512.Sum512([]byte("cellward test vector: " + label))
	sum[0] &= 0x7F
	return sum[:size]
}

// signer signs as RFC 6979 says.
type signer struct {
	key *ecdsa.PrivateKey
	pub *identity.PublicKey
}

func newSigner(curve elliptic.Curve, d []byte) (*signer, error) {
	key, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil {
		return nil, err
	}
	pub, err := identity.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &signer{key, pub}, nil
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.key.Public() }

// Sign implements crypto.Signer.
func (s *signer) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	h := crypto.SHA256
	if len(digest) == sha512.Size384 {
		h = crypto.SHA384
	}
	return s.key.Sign(nil, digest, h)
}

// Secrets are what an agreement goes through: all of it is to be gone when it is over, but for PRK.
type Secrets struct {
	DH, KEM, Schedule, AESKey, Nonce, Exporter, PRK []byte
}

// Derive is the key schedule of RFC 9180's SetupBase and Export, written out, from the result of the exchange between the
// encapsulated key and the offer's.
func Derive(o *offer.Offer, enc, dh []byte) *Secrets {
	s := &Secrets{DH: dh}
	// 4.1: DHKEM. P-256 goes with SHA-256, P-384 with SHA-384.
	kemHash, secretSize := sha512.New384, 48
	if o.KEM == offer.KEMP256 {
		kemHash, secretSize = sha256.New, 32
	}
	kem := kdf{kemHash, binary.BigEndian.AppendUint16([]byte("KEM"), o.KEM)}
	s.KEM = kem.expand(kem.extract(nil, "eae_prk", dh), "shared_secret", append(bytes.Clone(enc), o.PublicKey().Bytes()...), secretSize)
	// 5.1: key schedule, mode_base, KDF 0x0002, AEAD 0x0002.
	suite := kdf{sha512.New384, append(binary.BigEndian.AppendUint16([]byte("HPKE"), o.KEM), 0, 2, 0, 2)}
	context := append([]byte{0}, suite.extract(nil, "psk_id_hash", nil)...)
	context = append(context, suite.extract(nil, "info_hash", []byte("cellward v1 hpke"))...)
	s.Schedule = suite.extract(s.KEM, "secret", nil)
	s.AESKey = suite.expand(s.Schedule, "key", context, 32)
	s.Nonce = suite.expand(s.Schedule, "base_nonce", context, 12)
	s.Exporter = suite.expand(s.Schedule, "exp", context, 48)
	offerHash := o.Hash()
	s.PRK = suite.expand(s.Exporter, "sec", append([]byte("cellward v1 epoch"), offerHash[:]...), 48)
	return s
}

// Answer is RFC 9180's SetupBaseS, Seal and Export, written out, and the reply that a node signs.
func Answer(o *offer.Offer, node crypto.Signer, ephemeral *ecdh.PrivateKey, r offer.Reply) (reply, payload []byte, s *Secrets, err error) {
	dh, err := ephemeral.ECDH(o.PublicKey())
	if err != nil {
		return nil, nil, nil, err
	}
	enc := ephemeral.PublicKey().Bytes()
	s = Derive(o, enc, dh)
	offerHash := o.Hash()
	body, err := identity.Marshal([]any{r.Floor, r.FirstCounter, r.Start[:]})
	if err != nil {
		return nil, nil, nil, err
	}
	block, err := aes.NewCipher(s.AESKey)
	if err != nil {
		return nil, nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, nil, err
	}
	const contextReply = "cellward reply 1"
	payload, err = identity.Marshal([]any{contextReply, offerHash[:], enc, aead.Seal(nil, s.Nonce, body, offerHash[:])})
	if err != nil {
		return nil, nil, nil, err
	}
	reply, err = identity.Sign(node, contextReply, payload)
	return reply, payload, s, err
}

// kdf is RFC 9180, 4: labelled HKDF.
type kdf struct {
	hash  func() hash.Hash
	suite []byte
}

func (k kdf) extract(salt []byte, label string, ikm []byte) []byte {
	in := append([]byte("HPKE-v1"), k.suite...)
	in = append(append(in, label...), ikm...)
	prk, err := hkdf.Extract(k.hash, in, salt)
	if err != nil {
		panic(err) // FIPS mode with a short key: not with these
	}
	return prk
}

func (k kdf) expand(prk []byte, label string, info []byte, size int) []byte {
	in := binary.BigEndian.AppendUint16(nil, uint16(size))
	in = append(append(in, "HPKE-v1"...), k.suite...)
	in = append(append(in, label...), info...)
	out, err := hkdf.Expand(k.hash, prk, string(in), size)
	if err != nil {
		panic(err) // only sizes above 255 hashes
	}
	return out
}
