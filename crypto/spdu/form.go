// SPDX-License-Identifier: Apache-2.0

package spdu

import "errors"

// Form is the set of lengths and pads that a carrier allows. Its zero value is
// no form and refused.
type Form uint8

const (
	// FormFD is CAN FD, also inside IEEE 1722 ACF_CAN messages: frames of
	// exactly 32, 48 or 64 bytes with pads of at most 4, 15 and 15.
	FormFD Form = iota + 1
	// FormClassic is classic CAN after reassembly: 28 to 384 bytes, no pad.
	FormClassic
	// FormGeneric is every other carrier (CAN XL, Ethernet, UDP): 28 to
	// 2,048 bytes, no pad.
	FormGeneric
)

// ErrForm reports a value that is none of the forms.
var ErrForm = errors.New("unknown carrier form")

// ErrBodyTooLong reports a body that the carrier cannot take in one SPDU: over
// 36 bytes on CAN FD, 356 on classic CAN, 2,020 elsewhere.
var ErrBodyTooLong = errors.New("body too long for one sealed pdu")

// The three CAN FD payload lengths and the ciphertext that each holds. CAN FD
// has no length between 32, 48 and 64, hence the padding.
const (
	fdSmall, fdMiddle, fdLarge = 32, 48, 64

	fdOverhead  = HeaderSize + TagSize
	fdSmallText = fdSmall - fdOverhead
	fdMidText   = fdMiddle - fdOverhead
	fdLargeText = fdLarge - fdOverhead

	fdSmallMaxPad = 4 // a 32-byte frame holds at least the 4 bytes of source time
)

// MaxBody returns the longest sample body that fits one SPDU of the form in
// bytes: 36, 356 or 2,020.
func MaxBody(form Form) (int, error) {
	switch form {
	case FormFD:
		return fdLargeText - SourceTimeSize, nil
	case FormClassic:
		return MaxSizeClassic - fdOverhead - SourceTimeSize, nil
	case FormGeneric:
		return MaxSize - fdOverhead - SourceTimeSize, nil
	}
	return 0, ErrForm
}

// pad returns how many zero bytes follow n bytes of plaintext in this form.
func (f Form) pad(n int) (int, error) {
	switch f {
	case FormFD:
		switch {
		case n <= fdSmallText:
			return fdSmallText - n, nil
		case n <= fdMidText:
			return fdMidText - n, nil
		case n <= fdLargeText:
			return fdLargeText - n, nil
		}
		return 0, ErrBodyTooLong
	case FormClassic:
		if n > MaxSizeClassic-fdOverhead {
			return 0, ErrBodyTooLong
		}
		return 0, nil
	case FormGeneric:
		if n > MaxSize-fdOverhead {
			return 0, ErrBodyTooLong
		}
		return 0, nil
	}
	return 0, ErrForm
}

// Parse checks that b is, from the first to the last byte, an SPDU in the given
// form and returns its header. The order of checks is the kernel filter's:
// length, version, kind, pad. The errors are ErrForm, ErrLength and those that
// wrap ErrMalformed. A good result says nothing about the tag.
func Parse(form Form, b []byte) (Header, error) {
	var maxPad uint8
	switch form {
	case FormFD:
		switch len(b) {
		case fdSmall:
			maxPad = fdSmallMaxPad
		case fdMiddle, fdLarge:
			maxPad = MaxPad
		default:
			return Header{}, ErrLength
		}
	case FormClassic:
		if len(b) < MinSize || len(b) > MaxSizeClassic {
			return Header{}, ErrLength
		}
	case FormGeneric:
		if len(b) < MinSize || len(b) > MaxSize {
			return Header{}, ErrLength
		}
	default:
		return Header{}, ErrForm
	}
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, err
	}
	if h.Kind == KindStart {
		// A start record has one size and one pad in each form: anything else
		// is this kind in the wrong place.
		size, pad := startSize(form)
		if len(b) != size {
			return Header{}, ErrKind
		}
		if int(h.Pad) != pad {
			return Header{}, ErrPad
		}
		return h, nil
	}
	if h.Pad > maxPad {
		return Header{}, ErrPad
	}
	return h, nil
}
