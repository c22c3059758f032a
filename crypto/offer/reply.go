// SPDX-License-Identifier: Apache-2.0

package offer

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
)

// Why a reply is refused. What is wrong with its signature or its encoding is
// one of the errors of crypto/identity.
var (
	// ErrOtherOffer: the reply answers another offer.
	ErrOtherOffer = errors.New("reply to another offer")
	// ErrKey: the private key is not the offer's.
	ErrKey = errors.New("not the key of this offer")
	// ErrEncapsulated: the encapsulated key is no point of the curve.
	ErrEncapsulated = errors.New("invalid encapsulated key")
	// ErrDerive: the offer key could not be used; the cause, such as an
	// error of crypto/tpm, is wrapped. It says nothing about the reply.
	ErrDerive = errors.New("cannot use the offer key")
	// ErrDecrypt: the ciphertext does not open.
	ErrDecrypt = errors.New("reply does not decrypt")
	// ErrFloor: the node's floor is not below the epoch.
	ErrFloor = errors.New("node's floor is not below the epoch")
	// ErrCounter: the first counter is 0 or above 2^48-1.
	ErrCounter = errors.New("first counter out of range")
	// ErrStart: the start is all zeros.
	ErrStart = errors.New("start is all zeros")
	// ErrSecondReply: another payload than the one that was taken first.
	ErrSecondReply = errors.New("a different reply to this offer was taken before")
)

// info of HPKE's key schedule, and the prefix of the exporter context.
const (
	hpkeInfo      = "cellward v1 hpke"
	exporterLabel = "cellward v1 epoch"
)

// maxCounter is the last counter of a stream: 48 bits.
const maxCounter = 1<<48 - 1

// Reply is what a node tells the gateway, encrypted.
type Reply struct {
	// Floor is the node's epoch floor before it took this offer: no epoch up
	// to it was acceptable any more.
	Floor uint32
	// FirstCounter is the base of the epoch: F of the run that agreed it.
	FirstCounter uint64
	// Start is the random value of that run.
	Start [schedule.StartSize]byte
}

type replyPayload struct {
	_          struct{} `cbor:",toarray"`
	Context    string
	Offer      []byte
	Enc        []byte
	Ciphertext []byte
}

type replyBody struct {
	_            struct{} `cbor:",toarray"`
	Floor        uint32
	FirstCounter uint64
	Start        []byte
}

func (r *Reply) check(epoch uint32) error {
	switch {
	case r.Floor >= epoch:
		return fmt.Errorf("%w: floor %d, epoch %d", ErrFloor, r.Floor, epoch)
	case r.FirstCounter == 0 || r.FirstCounter > maxCounter:
		return fmt.Errorf("%w: %d", ErrCounter, r.FirstCounter)
	case r.Start == [schedule.StartSize]byte{}:
		return ErrStart
	}
	return nil
}

// Answer is the node's side: it checks that the offer is for this node, under
// the binding that the node knows, and for an epoch above its floor, then draws
// the epoch's secret and signs the reply. The caller stores floor (the offer's
// epoch), secret and counter ceiling durably, in one step, before the reply
// leaves it: a secret that is used after a crash has forgotten it would be
// agreed twice. The caller wipes prk.
func (o *Offer) Answer(node crypto.Signer, binding [BindingSize]byte, r Reply) (reply []byte, prk schedule.PRK, err error) {
	secretmem.Do(func() {
		secret := new(schedule.PRK)
		defer secret.Wipe()
		if reply, err = o.answer(node, binding, r, secret); err == nil {
			prk = *secret
		}
	})
	if err != nil {
		return nil, schedule.PRK{}, fmt.Errorf("answer offer: %w", err)
	}
	return reply, prk, nil
}

func (o *Offer) answer(node crypto.Signer, binding [BindingSize]byte, r Reply, prk *schedule.PRK) ([]byte, error) {
	pub, err := identity.NewPublicKey(node.Public())
	if err != nil {
		return nil, err
	}
	if o.Node != pub.Kid() {
		return nil, fmt.Errorf("%w: %v, this is %v", ErrNode, o.Node, pub.Kid())
	}
	if subtle.ConstantTimeCompare(o.Binding[:], binding[:]) != 1 {
		return nil, ErrBinding
	}
	if o.Epoch <= r.Floor {
		return nil, fmt.Errorf("%w: epoch %d, floor %d", ErrEpoch, o.Epoch, r.Floor)
	}
	if err := r.check(o.Epoch); err != nil {
		return nil, err
	}
	recipient, err := hpke.NewDHKEMPublicKey(o.public)
	if err != nil {
		return nil, err
	}
	enc, sender, err := hpke.NewSender(recipient, hpke.HKDFSHA384(), hpke.AES256GCM(), []byte(hpkeInfo))
	if err != nil {
		return nil, err
	}
	body, err := identity.Marshal(replyBody{Floor: r.Floor, FirstCounter: r.FirstCounter, Start: r.Start[:]})
	if err != nil {
		return nil, err
	}
	ct, err := sender.Seal(o.hash[:], body)
	if err != nil {
		return nil, err
	}
	if err := o.export(sender.Export, prk); err != nil {
		return nil, err
	}
	payload, err := identity.Marshal(replyPayload{Context: contextReply, Offer: o.hash[:], Enc: enc, Ciphertext: ct})
	if err != nil {
		return nil, err
	}
	return identity.Sign(node, contextReply, payload)
}

// Accepted is a reply that was taken. The caller wipes PRK.
type Accepted struct {
	Reply
	PRK schedule.PRK
	// PayloadHash is SHA-384 over the reply's signed payload. The gateway
	// records that of the first reply it takes before it uses the secret.
	PayloadHash [HashSize]byte
}

// Accept is the gateway's side. node is the pinned key of the node that the
// offer names, key the offer's private key. taken is the recorded payload hash,
// or nil if no reply was taken yet: the same payload may be taken again, as
// after a crash, a different one gives ErrSecondReply before the key is used.
// (A node that signs two payloads for one offer has been cloned or rolled back;
// its second signature over the same payload is harmless.)
func (o *Offer) Accept(node *identity.PublicKey, key ecdh.KeyExchanger, reply []byte, taken *[HashSize]byte) (*Accepted, error) {
	a := new(Accepted)
	var err error
	secretmem.Do(func() { err = o.accept(node, key, reply, taken, a) })
	if err != nil {
		a.PRK.Wipe()
		return nil, fmt.Errorf("accept reply: %w", err)
	}
	return a, nil
}

func (o *Offer) accept(node *identity.PublicKey, key ecdh.KeyExchanger, reply []byte, taken *[HashSize]byte, a *Accepted) error {
	if node.Kid() != o.Node {
		return fmt.Errorf("%w: %v, not %v", ErrNode, o.Node, node.Kid())
	}
	if !bytes.Equal(key.PublicKey().Bytes(), o.public.Bytes()) {
		return ErrKey
	}
	payload, err := identity.Verify(node, contextReply, reply)
	if err != nil {
		return err
	}
	var p replyPayload
	if err := identity.Unmarshal(payload, &p); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(p.Offer, o.hash[:]) != 1 {
		return ErrOtherOffer
	}
	a.PayloadHash = sha512.Sum384(payload)
	if taken != nil && *taken != a.PayloadHash {
		return ErrSecondReply
	}
	if _, err := key.Curve().NewPublicKey(p.Enc); err != nil {
		return fmt.Errorf("%w: %w", ErrEncapsulated, err)
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDerive, err)
	}
	recipient, err := hpke.NewRecipient(p.Enc, private, hpke.HKDFSHA384(), hpke.AES256GCM(), []byte(hpkeInfo))
	if err != nil {
		// The encapsulated key is good, so this is the TPM's error.
		return fmt.Errorf("%w: %w", ErrDerive, err)
	}
	body, err := recipient.Open(o.hash[:], p.Ciphertext)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	var b replyBody
	if err := identity.Unmarshal(body, &b); err != nil {
		return err
	}
	if len(b.Start) != len(a.Start) {
		return fmt.Errorf("%w: start of %d bytes", ErrField, len(b.Start))
	}
	a.Reply = Reply{Floor: b.Floor, FirstCounter: b.FirstCounter, Start: [schedule.StartSize]byte(b.Start)}
	if err := a.Reply.check(o.Epoch); err != nil {
		return err
	}
	return o.export(recipient.Export, &a.PRK)
}

// export draws the epoch's secret. The exporter context holds the offer's hash,
// and with it both identities, the epoch and the binding.
func (o *Offer) export(export func(string, int) ([]byte, error), prk *schedule.PRK) error {
	b, err := export(exporterLabel+string(o.hash[:]), len(prk))
	if err != nil {
		return fmt.Errorf("export the epoch's secret: %w", err)
	}
	copy(prk[:], b)
	clear(b)
	return nil
}
