// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// encMode writes core deterministic CBOR (RFC 8949, 4.2.1).
var encMode = sync.OnceValue(func() cbor.EncMode {
	opts := cbor.CoreDetEncOptions()
	opts.TagsMd = cbor.TagsForbidden
	m, err := opts.EncMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
})

// decMode reads definite lengths only, no tags and no duplicate keys, and little
// of anything.
var decMode = sync.OnceValue(func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  64,
		MaxMapPairs:       16,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
})

// Marshal writes v as core deterministic CBOR, the only encoding that signed
// payloads have. Structs with the field `_ struct{}` tagged "cbor:\",toarray\""
// become arrays.
func Marshal(v any) ([]byte, error) {
	b, err := encMode().Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode CBOR: %w", err)
	}
	return b, nil
}

// Unmarshal reads what Marshal wrote into v and refuses every other encoding of
// the same value, trailing bytes included: it writes v again and compares. On an
// error v holds nothing of use.
func Unmarshal(data []byte, v any) error {
	if err := decMode().Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	again, err := encMode().Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not deterministic", ErrEncoding)
	}
	return nil
}
