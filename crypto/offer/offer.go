// SPDX-License-Identifier: Apache-2.0

package offer

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cellward/cellward/crypto/identity"
)

// Contexts of what is signed.
const (
	contextOffer = "cellward offer 1"
	contextReply = "cellward reply 1"
)

// Sizes in bytes.
const (
	IDSize      = 16
	BindingSize = sha256.Size
	HashSize    = sha512.Size384 // of offers and payloads
)

// KEM ids of RFC 9180, 7.1.
const (
	KEMP256 = 0x0010
	KEMP384 = 0x0011
)

// Why an offer is refused. What is wrong with its signature or its encoding is
// one of the errors of crypto/identity.
var (
	// ErrField: a field of a payload has a wrong length or value.
	ErrField = errors.New("field of a wrong length or value")
	// ErrGateway: the offer names another gateway than the one that signed.
	ErrGateway = errors.New("offer names another gateway than its signer")
	// ErrNode: the offer is for another node.
	ErrNode = errors.New("offer is for another node")
	// ErrBinding: the node knows another binding than the gateway.
	ErrBinding = errors.New("offer is for another binding")
	// ErrEpoch: the epoch is not above the node's floor.
	ErrEpoch = errors.New("epoch is not above the floor")
	// ErrKEM: the KEM is neither 0x0011 nor 0x0010, or not that of the key.
	ErrKEM = errors.New("unsupported KEM")
	// ErrPublicKey: the offer's public key is no point of its curve.
	ErrPublicKey = errors.New("invalid public key")
)

// Offer is a verified offer. It does not change once made.
type Offer struct {
	ID      [IDSize]byte
	Gateway identity.Kid
	Node    identity.Kid
	Epoch   uint32
	KEM     uint16
	Binding [BindingSize]byte

	public *ecdh.PublicKey
	msg    []byte
	hash   [HashSize]byte
}

// offerPayload is the signed array.
type offerPayload struct {
	_       struct{} `cbor:",toarray"`
	Context string
	ID      []byte
	Gateway []byte
	Node    []byte
	Epoch   uint32
	KEM     uint16
	Public  []byte
	Binding []byte
}

// Params say what is offered to whom.
type Params struct {
	Node    identity.Kid
	Epoch   uint32            // from 1
	Binding [BindingSize]byte // hash of the node's part of the binding
	// ID tells offers apart; zero means a random one.
	ID [IDSize]byte
}

// New makes an offer, signed by the gateway's identity, of a key whose private
// half serves this offer only.
func New(gateway crypto.Signer, key *ecdh.PublicKey, p Params) (*Offer, error) {
	pub, err := identity.NewPublicKey(gateway.Public())
	if err != nil {
		return nil, fmt.Errorf("make offer: %w", err)
	}
	if p.Epoch == 0 {
		return nil, fmt.Errorf("make offer: %w: epoch 0", ErrField)
	}
	if p.ID == [IDSize]byte{} {
		_, _ = rand.Read(p.ID[:]) // never fails (crypto/rand)
	}
	kem, err := kemOf(key.Curve())
	if err != nil {
		return nil, fmt.Errorf("make offer: %w", err)
	}
	kid := pub.Kid()
	payload, err := identity.Marshal(offerPayload{
		Context: contextOffer,
		ID:      p.ID[:],
		Gateway: kid[:],
		Node:    p.Node[:],
		Epoch:   p.Epoch,
		KEM:     kem,
		Public:  key.Bytes(),
		Binding: p.Binding[:],
	})
	if err != nil {
		return nil, fmt.Errorf("make offer: %w", err)
	}
	msg, err := identity.Sign(gateway, contextOffer, payload)
	if err != nil {
		return nil, fmt.Errorf("make offer: %w", err)
	}
	// Read back as the node will read it: what is wrong shows here.
	return Parse(pub, msg)
}

// Parse verifies an offer against the gateway's pinned public key. The gateway
// itself uses it to take up its own offer after a restart.
func Parse(gateway *identity.PublicKey, msg []byte) (*Offer, error) {
	payload, err := identity.Verify(gateway, contextOffer, msg)
	if err != nil {
		return nil, fmt.Errorf("read offer: %w", err)
	}
	var p offerPayload
	if err := identity.Unmarshal(payload, &p); err != nil {
		return nil, fmt.Errorf("read offer: %w", err)
	}
	o := &Offer{Epoch: p.Epoch, KEM: p.KEM, msg: bytes.Clone(msg), hash: sha512.Sum384(msg)}
	for _, f := range []struct {
		name string
		dst  []byte
		src  []byte
	}{
		{"offer id", o.ID[:], p.ID},
		{"gateway kid", o.Gateway[:], p.Gateway},
		{"node kid", o.Node[:], p.Node},
		{"binding hash", o.Binding[:], p.Binding},
	} {
		if len(f.src) != len(f.dst) {
			return nil, fmt.Errorf("read offer: %w: %s of %d bytes", ErrField, f.name, len(f.src))
		}
		copy(f.dst, f.src)
	}
	if o.Gateway != gateway.Kid() {
		return nil, fmt.Errorf("read offer: %w: %v", ErrGateway, o.Gateway)
	}
	if o.Epoch == 0 {
		return nil, fmt.Errorf("read offer: %w: epoch 0", ErrField)
	}
	curve, err := curveOf(o.KEM)
	if err != nil {
		return nil, fmt.Errorf("read offer: %w", err)
	}
	if o.public, err = curve.NewPublicKey(p.Public); err != nil {
		return nil, fmt.Errorf("read offer: %w: %w", ErrPublicKey, err)
	}
	return o, nil
}

// Bytes returns the signed message.
func (o *Offer) Bytes() []byte { return bytes.Clone(o.msg) }

// Hash is SHA-384 over the signed message.
func (o *Offer) Hash() [HashSize]byte { return o.hash }

// PublicKey returns the offered key.
func (o *Offer) PublicKey() *ecdh.PublicKey { return o.public }

// Fingerprint is for comparing an offer by voice or by eye, before the gateway's
// key is pinned: SHA-256 over the signed message as 16 groups of 4 hexadecimal
// digits. All of it is to be compared: an attacker can make many offers and look
// for one whose first groups fit.
func Fingerprint(msg []byte) string {
	sum := sha256.Sum256(msg)
	var groups []string
	for i := 0; i < len(sum); i += 2 {
		groups = append(groups, hex.EncodeToString(sum[i:i+2]))
	}
	return strings.Join(groups, " ")
}

func kemOf(curve ecdh.Curve) (uint16, error) {
	switch curve {
	case ecdh.P384():
		return KEMP384, nil
	case ecdh.P256():
		return KEMP256, nil
	}
	return 0, fmt.Errorf("%w: curve %v", ErrKEM, curve)
}

func curveOf(kem uint16) (ecdh.Curve, error) {
	switch kem {
	case KEMP384:
		return ecdh.P384(), nil
	case KEMP256:
		return ecdh.P256(), nil
	}
	return nil, fmt.Errorf("%w: 0x%04X", ErrKEM, kem)
}
