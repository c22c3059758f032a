// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/spdu"
)

// formCase says what becomes of a PDU by its length and its first byte alone.
type formCase struct {
	Form      string `json:"form"`
	Length    int    `json:"length"`
	FirstByte string `json:"first_byte"`
	Verdict   string `json:"verdict"`
}

// What the form alone decides.
const (
	wellFormed = "well_formed"
	plaintext  = "plaintext_on_protected"
	malformed  = "malformed"
)

// first makes the first byte of a header.
func first(version, kind, pad byte) byte { return version | kind<<2 | pad<<4 }

func makeForms(f *file) error {
	add := func(form string, length int, firstByte byte) error {
		carrier, err := formOf(form)
		if err != nil {
			return err
		}
		pdu := make([]byte, length)
		if length > 0 {
			pdu[0] = firstByte
		}
		verdict := wellFormed
		switch _, err := spdu.Parse(carrier, pdu); {
		case err == nil:
		case errors.Is(err, spdu.ErrLength):
			verdict = plaintext
		case errors.Is(err, spdu.ErrMalformed):
			verdict = malformed
		default:
			return fmt.Errorf("%s of %d bytes: %w", form, length, err)
		}
		f.Forms = append(f.Forms, formCase{form, length, x([]byte{firstByte}), verdict})
		return nil
	}
	var errs []error
	// Lengths around every limit.
	for _, length := range []int{0, 1, 8, 28, 31, 32, 33, 40, 47, 48, 49, 63, 64} {
		errs = append(errs, add(nameFD, length, first(1, 0, 0)))
	}
	for _, length := range []int{27, 28, 32, 64, 384, 385} {
		errs = append(errs, add(nameClassic, length, first(1, 0, 0)))
	}
	for _, length := range []int{0, 27, 28, 29, 384, 2048, 2049} {
		errs = append(errs, add(nameGeneric, length, first(1, 0, 0)))
	}
	// Versions and kinds.
	for _, b := range []byte{first(0, 0, 0), first(2, 0, 0), first(3, 0, 0), first(1, 1, 0), first(1, 2, 0), first(1, 3, 0), 0xFF} {
		errs = append(errs, add(nameFD, 48, b), add(nameGeneric, 48, b))
	}
	// Pads: how many are allowed depends on the length, and a start record has exactly one.
	for _, c := range []struct {
		form   string
		length int
		kind   byte
		pad    byte
	}{
		{nameFD, 32, 0, 4}, {nameFD, 32, 0, 5}, {nameFD, 32, 1, 5}, {nameFD, 48, 0, 15}, {nameFD, 64, 0, 15},
		{nameFD, 48, 3, 8}, {nameFD, 48, 3, 7}, {nameFD, 48, 3, 9}, {nameFD, 32, 3, 8}, {nameFD, 64, 3, 8},
		{nameClassic, 32, 0, 1}, {nameClassic, 40, 3, 0}, {nameClassic, 48, 3, 8},
		{nameGeneric, 32, 0, 1}, {nameGeneric, 40, 3, 0}, {nameGeneric, 40, 3, 8}, {nameGeneric, 41, 3, 0},
	} {
		errs = append(errs, add(c.form, c.length, first(1, c.kind, c.pad)))
	}
	return errors.Join(errs...)
}
