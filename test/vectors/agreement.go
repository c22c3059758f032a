// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdh"
	"fmt"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/offer/offertest"
)

// agreement is one offer and its reply, with every private key and every value on the way.
type agreement struct {
	Name             string `json:"name"`
	KEM              uint16 `json:"kem"`
	KDF              uint16 `json:"kdf"`
	AEAD             uint16 `json:"aead"`
	Info             string `json:"info"`
	GatewayPrivate   string `json:"gateway_private"`
	GatewayPublic    string `json:"gateway_public"`
	GatewayKid       string `json:"gateway_kid"`
	NodePrivate      string `json:"node_private"`
	NodePublic       string `json:"node_public"`
	NodeKid          string `json:"node_kid"`
	OfferPrivate     string `json:"offer_private"`
	OfferPublic      string `json:"offer_public"`
	EphemeralPrivate string `json:"ephemeral_private"`
	OfferID          string `json:"offer_id"`
	Epoch            uint32 `json:"epoch"`
	BindingHash      string `json:"binding_hash"`
	NodeFloor        uint32 `json:"node_floor"`
	FirstCounter     uint64 `json:"first_counter"`
	Start            string `json:"start"`
	OfferPayload     string `json:"offer_payload"`
	Offer            string `json:"offer"`
	OfferHash        string `json:"offer_hash"`
	Fingerprint      string `json:"fingerprint"`
	Enc              string `json:"enc"`
	SharedSecret     string `json:"shared_secret"`
	Key              string `json:"key"`
	BaseNonce        string `json:"base_nonce"`
	ExporterSecret   string `json:"exporter_secret"`
	Plaintext        string `json:"plaintext"`
	CT               string `json:"ct"`
	ReplyPayload     string `json:"reply_payload"`
	PayloadHash      string `json:"payload_hash"`
	Reply            string `json:"reply"`
	ExporterContext  string `json:"exporter_context"`
	PRK              string `json:"prk"`
}

const hpkeInfo = "cellward v1 hpke"

func makeAgreements(f *file) error {
	for _, c := range []struct {
		name  string
		kem   uint16
		curve ecdh.Curve
	}{
		{"P-384, ES384", offer.KEMP384, ecdh.P384()},
		{"P-256, ES256", offer.KEMP256, ecdh.P256()},
	} {
		v, err := offertest.Build(c.kem)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if err := v.Check(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		a, err := explain(v, c.curve)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		a.Name = c.name
		f.Agreements = append(f.Agreements, a)
	}
	return nil
}

// explain adds what lies between the inputs and the results of a vector.
func explain(v *offertest.Vector, curve ecdh.Curve) (agreement, error) {
	offerPayload, err := payloadOf(v.GatewayPublic, "cellward offer 1", v.Offer)
	if err != nil {
		return agreement{}, err
	}
	replyPayload, err := payloadOf(v.NodePublic, "cellward reply 1", v.Reply)
	if err != nil {
		return agreement{}, err
	}
	var reply struct {
		_         struct{} `cbor:",toarray"`
		Context   string
		OfferHash []byte
		Enc       []byte
		CT        []byte
	}
	if err := identity.Unmarshal(replyPayload, &reply); err != nil {
		return agreement{}, err
	}
	key, err := curve.NewPrivateKey(v.OfferPrivate)
	if err != nil {
		return agreement{}, err
	}
	h, err := newHPKE(v.KEM, key, reply.Enc)
	if err != nil {
		return agreement{}, err
	}
	plain, err := h.open(v.OfferHash, reply.CT)
	if err != nil {
		return agreement{}, err
	}
	return agreement{
		KEM: v.KEM, KDF: kdfSHA384, AEAD: aeadAES256, Info: x([]byte(hpkeInfo)),
		GatewayPrivate: x(v.GatewayPrivate), GatewayPublic: x(v.GatewayPublic), GatewayKid: x(v.GatewayKid),
		NodePrivate: x(v.NodePrivate), NodePublic: x(v.NodePublic), NodeKid: x(v.NodeKid),
		OfferPrivate: x(v.OfferPrivate), OfferPublic: x(key.PublicKey().Bytes()), EphemeralPrivate: x(v.EphemeralPrivate),
		OfferID: x(v.OfferID), Epoch: v.Epoch, BindingHash: x(v.BindingHash),
		NodeFloor: v.Floor, FirstCounter: v.FirstCounter, Start: x(v.Start),
		OfferPayload: x(offerPayload), Offer: x(v.Offer), OfferHash: x(v.OfferHash), Fingerprint: v.Fingerprint,
		Enc: x(reply.Enc), SharedSecret: x(h.shared), Key: x(h.key), BaseNonce: x(h.baseNonce), ExporterSecret: x(h.exporter),
		Plaintext: x(plain), CT: x(reply.CT), ReplyPayload: x(replyPayload), PayloadHash: x(v.PayloadHash), Reply: x(v.Reply),
		ExporterContext: x(append([]byte("cellward v1 epoch"), v.OfferHash...)), PRK: x(v.PRK),
	}, nil
}

// payloadOf verifies a signed message and returns what was signed.
func payloadOf(public []byte, context string, msg []byte) ([]byte, error) {
	key, err := identity.ParseDER(public)
	if err != nil {
		return nil, err
	}
	return identity.Verify(key, context, msg)
}
