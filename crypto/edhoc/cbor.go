// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"errors"
	"math/big"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// The bounds below are far above what an EDHOC message holds and keep a hostile one cheap.
const (
	maxNesting  = 8
	maxElements = 256
	maxPairs    = 64
)

// codec holds the two immutable modes; they are made once, at first use.
type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

var modes = sync.OnceValue(func() codec {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("edhoc: cbor encoding options: " + err.Error())
	}
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		IntDec:           cbor.IntDecConvertSignedOrBigInt,
		MapKeyByteString: cbor.MapKeyByteStringAllowed,
		UTF8:             cbor.UTF8RejectInvalid,
		MaxNestedLevels:  maxNesting,
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxPairs,
	}.DecMode()
	if err != nil {
		panic("edhoc: cbor decoding options: " + err.Error())
	}
	return codec{enc, dec}
})

// raw is a sequence that is already encoded.
type raw []byte

// sequence encodes values deterministically (RFC 8949, 4.2.1), one after another. A value is an integer, text, []byte,
// bool, or a map or slice of those, so that encoding cannot fail; or raw.
func sequence(values ...any) []byte {
	var out []byte
	for _, v := range values {
		if r, ok := v.(raw); ok {
			out = append(out, r...)
			continue
		}
		b, err := modes().enc.Marshal(v)
		if err != nil {
			panic("edhoc: cbor encoding: " + err.Error())
		}
		out = append(out, b...)
	}
	return out
}

// item is one decoded data item with the bytes it came from.
type item struct {
	raw []byte
	val any // int64, *big.Int, []byte, string, []any, map[any]any, bool, float64, nil, cbor.SimpleValue
}

// items decodes a whole CBOR sequence. Each item must be well formed and in its deterministic encoding: the library
// does not insist on shortest forms and key order, so each value is encoded again and compared.
func items(b []byte) ([]item, *Error) {
	var out []item
	for len(b) > 0 {
		var v any
		rest, err := modes().dec.UnmarshalFirst(b, &v)
		if err != nil {
			var indefinite *cbor.IndefiniteLengthError
			if errors.As(err, &indefinite) {
				return nil, fail(CheckDeterminism, "item %d: %w", len(out)+1, err)
			}
			return nil, fail(CheckCBOR, "item %d: %w", len(out)+1, err)
		}
		own := b[:len(b)-len(rest)]
		again, err := modes().enc.Marshal(v)
		if err != nil || !bytes.Equal(again, own) {
			return nil, fail(CheckDeterminism, "item %d is not in its deterministic encoding", len(out)+1)
		}
		out = append(out, item{raw: own, val: v})
		b = rest
	}
	return out, nil
}

// isInt reports whether the item is an integer of any size.
func (i item) isInt() bool {
	switch i.val.(type) {
	case int64, big.Int, *big.Int:
		return true
	}
	return false
}

// identifier gives the byte string that the item stands for by RFC 9528, 3.3.2: an integer of -24 to 23 is its own
// encoding, every other identifier is a byte string, and a byte string that could be such an integer must be one.
func (i item) identifier() ([]byte, *Error) {
	switch v := i.val.(type) {
	case int64:
		if v < -24 || v > 23 {
			return nil, fail(CheckCDDL, "integer %d where an identifier of -24 to 23 belongs", v)
		}
		return bytes.Clone(i.raw), nil
	case []byte:
		if isShortInt(v) {
			return nil, fail(CheckIdentifier, "byte string %x where the integer of that encoding belongs", v)
		}
		return bytes.Clone(v), nil
	}
	return nil, fail(CheckCDDL, "an identifier is a byte string or an integer")
}

// isShortInt reports whether b is the one-byte encoding of an integer (-24 to 23).
func isShortInt(b []byte) bool {
	return len(b) == 1 && (b[0] <= 0x17 || b[0] >= 0x20 && b[0] <= 0x37)
}

// encodeIdentifier is the inverse of item.identifier.
func encodeIdentifier(b []byte) []byte {
	if isShortInt(b) {
		return bytes.Clone(b)
	}
	return sequence(b)
}

// oneByteString decodes a message that is a single byte string (message_2, message_3, message_4).
func oneByteString(msg []byte) ([]byte, *Error) {
	seq, e := items(msg)
	if e != nil {
		return nil, e
	}
	if len(seq) != 1 {
		return nil, fail(CheckCDDL, "%d data items where one belongs", len(seq))
	}
	b, ok := seq[0].val.([]byte)
	if !ok {
		return nil, fail(CheckCDDL, "the data item is not a byte string")
	}
	return b, nil
}
