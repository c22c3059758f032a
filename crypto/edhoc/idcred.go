// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"fmt"

	"github.com/veraison/go-cose"
)

// IDCred identifies a credential: ID_CRED_x, a COSE header map with one parameter (RFC 9528, 3.5.3). The zero value
// identifies nothing.
type IDCred struct {
	label int64
	kid   []byte   // kid
	alg   Hash     // x5t
	hash  []byte   // x5t
	chain [][]byte // x5chain, end entity first
}

// ByKID refers to a credential by a key identifier of any length; identifiers that are the encoding of an integer of
// -24 to 23 take one byte on the wire.
func ByKID(kid []byte) IDCred {
	return IDCred{label: cose.HeaderLabelKeyID, kid: append([]byte{}, kid...)}
}

// ByX5T refers to an X.509 certificate (DER) by its hash (RFC 9360, 2).
func ByX5T(alg Hash, certificate []byte) IDCred {
	return IDCred{label: cose.HeaderLabelX5T, alg: alg, hash: alg.sum(certificate)}
}

// ByX5Chain carries an X.509 certificate and what is needed to validate it, each in DER, the end entity's first, as in
// RFC 9360, 2.
func ByX5Chain(certificates ...[]byte) IDCred {
	return IDCred{label: cose.HeaderLabelX5Chain, chain: certificates}
}

// KID is the key identifier, nil for other kinds.
func (id IDCred) KID() []byte { return bytes.Clone(id.kid) }

// X5T is the hash algorithm and hash of a certificate, nil for other kinds.
func (id IDCred) X5T() (Hash, []byte) { return id.alg, bytes.Clone(id.hash) }

// X5Chain is the certificates in DER, end entity first, nil for other kinds.
func (id IDCred) X5Chain() [][]byte { return id.chain }

// Bytes is ID_CRED_x as it is authenticated: always the encoded map. It is nil for the zero value.
func (id IDCred) Bytes() []byte {
	var v any
	switch id.label {
	case cose.HeaderLabelKeyID:
		v = id.kid
	case cose.HeaderLabelX5T:
		v = []any{int64(id.alg), id.hash}
	case cose.HeaderLabelX5Chain:
		if len(id.chain) == 1 {
			v = id.chain[0]
		} else {
			v = id.chain
		}
	default:
		return nil
	}
	return sequence(map[int64]any{id.label: v})
}

// String names kind and value, for a log.
func (id IDCred) String() string {
	switch id.label {
	case cose.HeaderLabelKeyID:
		return fmt.Sprintf("kid %x", id.kid)
	case cose.HeaderLabelX5T:
		return fmt.Sprintf("x5t %d:%x", id.alg, id.hash)
	case cose.HeaderLabelX5Chain:
		return fmt.Sprintf("x5chain of %d", len(id.chain))
	}
	return "no identifier"
}

// wire is ID_CRED_x as it stands in PLAINTEXT_2 and PLAINTEXT_3: a kid in its compact encoding (RFC 9528, 3.5.3.2).
func (id IDCred) wire() []byte {
	if id.label == cose.HeaderLabelKeyID {
		return encodeIdentifier(id.kid)
	}
	return id.Bytes()
}

// parseIDCred reads ID_CRED_x from a plaintext.
func parseIDCred(it item) (IDCred, *Error) {
	m, ok := it.val.(map[any]any)
	if !ok {
		kid, e := it.identifier()
		if e != nil {
			return IDCred{}, e
		}
		return ByKID(kid), nil
	}
	if len(m) != 1 {
		return IDCred{}, fail(CheckIDCredType, "%d header parameters, one is supported", len(m))
	}
	for label, v := range m {
		switch label {
		case cose.HeaderLabelKeyID:
			return IDCred{}, fail(CheckIDCredForm, "a lone kid that is not in its compact encoding")
		case cose.HeaderLabelX5T:
			return parseX5T(v)
		case cose.HeaderLabelX5Chain:
			return parseX5Chain(v)
		default:
			return IDCred{}, fail(CheckIDCredType, "header parameter %v is not supported", label)
		}
	}
	panic("unreachable")
}

func parseX5T(v any) (IDCred, *Error) {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return IDCred{}, fail(CheckIDCredForm, "x5t is not a pair")
	}
	alg, _ := pair[0].(int64) // an algorithm by name is 0, which is none of ours
	hash, _ := pair[1].([]byte)
	switch Hash(alg) {
	case SHA256_64, SHA256, SHA384, SHA512:
	default:
		return IDCred{}, fail(CheckIDCredType, "x5t with hash algorithm %v", pair[0])
	}
	if len(hash) != Hash(alg).Size() {
		return IDCred{}, fail(CheckIDCredForm, "x5t with a hash of %d bytes", len(hash))
	}
	return IDCred{label: cose.HeaderLabelX5T, alg: Hash(alg), hash: bytes.Clone(hash)}, nil
}

func parseX5Chain(v any) (IDCred, *Error) {
	if single, ok := v.([]byte); ok {
		return ByX5Chain(bytes.Clone(single)), nil
	}
	list, ok := v.([]any)
	if !ok || len(list) < 2 {
		return IDCred{}, fail(CheckIDCredForm, "x5chain is neither a certificate nor at least two")
	}
	chain := make([][]byte, len(list))
	for i, c := range list {
		der, ok := c.([]byte)
		if !ok {
			return IDCred{}, fail(CheckIDCredForm, "x5chain: certificate %d is not a byte string", i+1)
		}
		chain[i] = bytes.Clone(der)
	}
	return ByX5Chain(chain...), nil
}
