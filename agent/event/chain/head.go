// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cellward/cellward/crypto/identity"
)

// Context begins the payload of every signed head, so that a signature for one can be shown as nothing else.
const Context = "cellward log 1"

// Head is a place in a log: everything up to the line Seq, whose hash is Hash.
type Head struct {
	Log  [16]byte // random, of the whole log
	Seq  uint64
	Hash Hash
	Wall int64 // when it was signed, ns since 1970
	// Generation is the value of the hardware counter of the run that has signed it; 0 for none.
	Generation uint64
	// Closed says that the log was closed in order at this place.
	Closed bool
}

// Signer signs heads.
type Signer interface {
	// SignHead returns a COSE_Sign1 over the payload, a CBOR array that begins with Context.
	SignHead(payload []byte) ([]byte, error)
}

// Verifier verifies heads.
type Verifier interface {
	// VerifyHead checks a COSE_Sign1 and returns its payload.
	VerifyHead(message []byte) (payload []byte, err error)
}

// Identity signs with an identity key, such as the one in the TPM: ES384 on P-384, ES256 on P-256.
type Identity struct{ Key crypto.Signer }

// SignHead implements Signer.
func (i Identity) SignHead(payload []byte) ([]byte, error) {
	return identity.Sign(i.Key, Context, payload)
}

// PublicKey verifies what the identity with this public key has signed.
type PublicKey struct{ Key *identity.PublicKey }

// VerifyHead implements Verifier.
func (p PublicKey) VerifyHead(message []byte) ([]byte, error) {
	return identity.Verify(p.Key, Context, message)
}

// ErrHead says that a signed head does not fit its place in the log.
var ErrHead = errors.New("signed head does not fit the log")

type headPayload struct {
	_          struct{} `cbor:",toarray"`
	Context    string
	Log        []byte
	Seq        uint64
	Hash       []byte
	Wall       int64
	Generation uint64
	Closed     bool
}

// sign returns the body of a head line.
func (h Head) sign(s Signer) ([]byte, error) {
	payload, err := identity.Marshal(headPayload{
		Context: Context, Log: h.Log[:], Seq: h.Seq, Hash: h.Hash[:], Wall: h.Wall, Generation: h.Generation, Closed: h.Closed,
	})
	if err != nil {
		return nil, err
	}
	message, err := s.SignHead(payload)
	if err != nil {
		return nil, fmt.Errorf("sign head of event log: %w", err)
	}
	return marshal(bodyHead{base64.RawURLEncoding.EncodeToString(message)}), nil
}

// parseHead verifies the body of a head line.
func parseHead(body []byte, v Verifier) (h Head, err error) {
	var b bodyHead
	if err := unmarshal(body, &b); err != nil {
		return h, err
	}
	message, err := base64.RawURLEncoding.Strict().DecodeString(b.COSE)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrHead, err)
	}
	payload, err := v.VerifyHead(message)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrHead, err)
	}
	var p headPayload
	if err := identity.Unmarshal(payload, &p); err != nil {
		return h, fmt.Errorf("%w: %w", ErrHead, err)
	}
	if p.Context != Context || len(p.Log) != len(h.Log) || len(p.Hash) != len(h.Hash) {
		return h, fmt.Errorf("%w: payload", ErrHead)
	}
	return Head{[16]byte(p.Log), p.Seq, Hash(p.Hash), p.Wall, p.Generation, p.Closed}, nil
}

// String writes what must be known of a head to recognise it: log, line and hash.
func (h Head) String() string { return fmt.Sprintf("%x:%d:%s", h.Log, h.Seq, h.Hash) }

// ParseHead reads what String wrote.
func ParseHead(s string) (h Head, err error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || len(parts[0]) != 2*len(h.Log) {
		return Head{}, fmt.Errorf("%w: want LOG:SEQ:HASH, got %q", ErrHead, s)
	}
	if _, err := hex.Decode(h.Log[:], []byte(parts[0])); err != nil {
		return Head{}, fmt.Errorf("%w: log: %w", ErrHead, err)
	}
	if h.Seq, err = strconv.ParseUint(parts[1], 10, 63); err != nil {
		return Head{}, fmt.Errorf("%w: seq: %w", ErrHead, err)
	}
	if h.Hash, err = ParseHash(parts[2]); err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrHead, err)
	}
	return h, nil
}
