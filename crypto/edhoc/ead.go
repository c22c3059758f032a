// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"crypto/rand"
	"slices"
)

// EAD is one item of external authorization data (RFC 9528, 3.8).
type EAD struct {
	Label    int64  // absolute value of ead_label, above 0
	Critical bool   // a peer that cannot process the item must refuse the message
	Value    []byte // ead_value; nil when the item has none, which differs from an empty one
}

// paddingLabel marks padding, which no receiver ever sees.
const paddingLabel = 0

// Padding makes EAD items that take exactly n bytes in a message and mean nothing (RFC 9528, 3.8.1). n is at least 1
// and at most 65536.
func Padding(n int) ([]EAD, error) {
	if n < 1 || n > 1<<16 {
		return nil, configError("padding of %d bytes", n)
	}
	var out []EAD
	// Some lengths fall between two sizes of the head of a byte string: single labels of one byte fill the rest.
	for n > 0 {
		size := n
		for size > 1 && paddingSize(paddingValue(size)) != size {
			size--
		}
		item := EAD{Label: paddingLabel}
		if size > 1 {
			item.Value = make([]byte, paddingValue(size))
			rand.Read(item.Value)
		}
		out = append(out, item)
		n -= size
	}
	return out, nil
}

// paddingSize is the encoded size of a padding item whose value has n bytes.
func paddingSize(n int) int {
	switch {
	case n < 24:
		return 2 + n
	case n < 256:
		return 3 + n
	default:
		return 4 + n
	}
}

// paddingValue guesses the length of the value that makes an item of the given size, which is at least 2.
func paddingValue(size int) int {
	switch {
	case size < 26:
		return size - 2
	case size < 259:
		return size - 3
	default:
		return size - 4
	}
}

// encodeEAD encodes an EAD field, deterministically.
func encodeEAD(field []EAD) ([]byte, error) {
	var out []byte
	for i, e := range field {
		if e.Label < 0 || e.Label == paddingLabel && e.Critical {
			return nil, configError("EAD item %d: label %d", i+1, e.Label)
		}
		label := e.Label
		if e.Critical {
			label = -label
		}
		out = append(out, sequence(label)...)
		if e.Value != nil {
			out = append(out, sequence(e.Value)...)
		}
	}
	if _, e := criticality(field); e != nil {
		return nil, configError("%w", e.Err)
	}
	return out, nil
}

// parseEAD reads the rest of a message as an EAD field. Padding is dropped (RFC 9528, 3.8.1).
func parseEAD(seq []item) ([]EAD, *Error) {
	var out []EAD
	for i := 0; i < len(seq); i++ {
		label, ok := seq[i].val.(int64)
		if !ok {
			return nil, fail(CheckCDDL, "EAD: data item %d is no label", i+1)
		}
		e := EAD{Label: label}
		if label < 0 {
			e.Label, e.Critical = -label, true
			if e.Label < 0 {
				return nil, fail(CheckCDDL, "EAD: label %d is out of range", label)
			}
		}
		if i+1 < len(seq) {
			if v, ok := seq[i+1].val.([]byte); ok {
				e.Value = slices.Clone(v)
				i++
			}
		}
		out = append(out, e)
	}
	return criticality(out)
}

// criticality drops padding and refuses a label that is critical in one item and not in another.
func criticality(field []EAD) ([]EAD, *Error) {
	var out []EAD
	seen := make(map[int64]bool, len(field))
	for _, e := range field {
		if e.Label == paddingLabel {
			continue
		}
		if was, ok := seen[e.Label]; ok && was != e.Critical {
			return nil, fail(CheckEADCriticality, "EAD label %d is both critical and not", e.Label)
		}
		seen[e.Label] = e.Critical
		out = append(out, e)
	}
	return out, nil
}

// knownEAD checks that every critical item is one that the application named.
func (c *Config) knownEAD(field []EAD) *Error {
	for _, e := range field {
		if e.Critical && !slices.Contains(c.EADLabels, e.Label) {
			return fail(CheckEADUnknown, "critical EAD item with label %d is not known", e.Label)
		}
	}
	return nil
}

// processEAD lets the application judge the content of a field.
func (c *Config) processEAD(message int, field []EAD) *Error {
	if c.ProcessEAD == nil {
		return nil
	}
	if err := c.ProcessEAD(message, field); err != nil {
		return fail(CheckEADRejected, "%w", err)
	}
	return nil
}
