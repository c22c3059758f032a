// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// Why a signed message is refused.
var (
	// ErrEncoding: not COSE_Sign1, or not in its one encoding.
	ErrEncoding = errors.New("malformed or not deterministically encoded")
	// ErrHeader: a header parameter other than alg and kid, both protected.
	ErrHeader = errors.New("unexpected COSE header parameter")
	// ErrAlgorithm: the algorithm is not the key's.
	ErrAlgorithm = errors.New("another signature algorithm than the key's")
	// ErrSigner: the kid is not the expected signer's.
	ErrSigner = errors.New("signed by another key than expected")
	// ErrContext: the payload is meant for something else.
	ErrContext = errors.New("payload has another context")
	// ErrSignature: the signature does not verify.
	ErrSignature = errors.New("signature does not verify")
)

// MaxMessage is the most bytes that Verify looks at.
const MaxMessage = 4096

// Sign returns a tagged COSE_Sign1 (RFC 9052, 4.2) over payload, with alg and
// kid in the protected header and nothing in the other. payload is a CBOR array
// in Marshal's encoding whose first element is the text context: every kind of
// message has its own, so that a signature made for one can never be shown as
// another.
func Sign(signer crypto.Signer, context string, payload []byte) ([]byte, error) {
	pub, err := NewPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := checkPayload(context, payload); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	s, err := cose.NewSigner(pub.Algorithm(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	m := message(pub, payload)
	if err := m.Sign(rand.Reader, nil, s); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("sign: message of %d bytes, %d are possible", len(b), MaxMessage)
	}
	return b, nil
}

func message(pub *PublicKey, payload []byte) *cose.Sign1Message {
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(pub.Algorithm())
	m.Headers.Protected[cose.HeaderLabelKeyID] = pub.kid[:]
	m.Payload = payload
	return m
}

// Verify checks that msg was signed with pub's private key by Sign with the same
// context, and returns the payload. Form comes first, then the signature; the
// payload is returned, and so acted on, only after both.
func Verify(pub *PublicKey, context string, msg []byte) (payload []byte, err error) {
	if len(msg) > MaxMessage {
		return nil, fmt.Errorf("verify: %w: %d bytes", ErrEncoding, len(msg))
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(msg); err != nil {
		return nil, fmt.Errorf("verify: %w: %w", ErrEncoding, err)
	}
	if err := checkHeaders(pub, &m.Headers); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	// Written again from what was understood: this settles every length,
	// order and tag at once.
	same := message(pub, m.Payload)
	same.Signature = m.Signature
	again, err := same.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("verify: %w: %w", ErrEncoding, err)
	}
	if !bytes.Equal(again, msg) {
		return nil, fmt.Errorf("verify: %w", ErrEncoding)
	}
	if err := checkPayload(context, m.Payload); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v, err := cose.NewVerifier(pub.Algorithm(), pub.key)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if err := m.Verify(nil, v); err != nil {
		return nil, fmt.Errorf("verify: %w: %w", ErrSignature, err)
	}
	return m.Payload, nil
}

// SignerKid returns the kid that a signed message claims, for choosing the
// pinned key to verify it with. It is not verified.
func SignerKid(msg []byte) (Kid, error) {
	if len(msg) > MaxMessage {
		return Kid{}, fmt.Errorf("read kid: %w: %d bytes", ErrEncoding, len(msg))
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(msg); err != nil {
		return Kid{}, fmt.Errorf("read kid: %w: %w", ErrEncoding, err)
	}
	kid, ok := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
	if !ok || len(kid) != KidSize {
		return Kid{}, fmt.Errorf("read kid: %w", ErrHeader)
	}
	return Kid(kid), nil
}

func checkHeaders(pub *PublicKey, h *cose.Headers) error {
	if len(h.Unprotected) != 0 || len(h.Protected) != 2 {
		return ErrHeader
	}
	alg, err := h.Protected.Algorithm()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	kid, ok := h.Protected[cose.HeaderLabelKeyID].([]byte)
	if !ok {
		return ErrHeader
	}
	if alg != pub.Algorithm() {
		return fmt.Errorf("%w: %v", ErrAlgorithm, alg)
	}
	if subtle.ConstantTimeCompare(kid, pub.kid[:]) != 1 {
		return fmt.Errorf("%w: kid %x, expected %v", ErrSigner, kid, pub.kid)
	}
	return nil
}

func checkPayload(context string, payload []byte) error {
	var elements []cbor.RawMessage
	if err := decMode().Unmarshal(payload, &elements); err != nil {
		return fmt.Errorf("%w: payload: %w", ErrEncoding, err)
	}
	var whole any
	if err := Unmarshal(payload, &whole); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	var got string
	if len(elements) == 0 || decMode().Unmarshal(elements[0], &got) != nil {
		return fmt.Errorf("%w: it does not begin with one", ErrContext)
	}
	if got != context {
		return fmt.Errorf("%w: %q, expected %q", ErrContext, got, context)
	}
	return nil
}
