// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// formVerdict is the table of docs/protocol.md in other words.
func formVerdict(form string, length int, b byte) string {
	version, kind, pad := b&3, b>>2&3, int(b>>4)
	maxPad := 0
	switch form {
	case nameFD:
		pads := map[int]int{32: 4, 48: 15, 64: 15}
		limit, ok := pads[length]
		if !ok {
			return plaintext
		}
		maxPad = limit
	case nameClassic:
		if length < 28 || length > 384 {
			return plaintext
		}
	default:
		if length < 28 || length > 2048 {
			return plaintext
		}
	}
	switch {
	case version != 1 || kind == 2:
		return malformed
	case kind == 3 && form == nameFD:
		if length != 48 || pad != 8 {
			return malformed
		}
	case kind == 3:
		if length != 40 || pad != 0 {
			return malformed
		}
	case pad > maxPad:
		return malformed
	}
	return wellFormed
}

func TestForms(t *testing.T) {
	counts := make(map[string]int)
	for _, c := range committed(t).Forms {
		b := unhex(t, c.FirstByte)
		if len(b) != 1 {
			t.Fatalf("first byte %q", c.FirstByte)
		}
		if want := formVerdict(c.Form, c.Length, b[0]); c.Verdict != want {
			t.Errorf("%s, %d bytes, first byte %s: %s, but by its description %s", c.Form, c.Length, c.FirstByte, c.Verdict, want)
		}
		counts[c.Form+" "+c.Verdict]++
	}
	for _, form := range []string{nameFD, nameClassic, nameGeneric} {
		for _, verdict := range []string{wellFormed, plaintext, malformed} {
			if counts[form+" "+verdict] == 0 {
				t.Errorf("no case of %s on %s", verdict, form)
			}
		}
	}
}

// TestEveryPDUIsWellFormed: each PDU of the file passes the form rules of its carrier.
func TestEveryPDUIsWellFormed(t *testing.T) {
	f := committed(t)
	check := func(form, pdu string) {
		b := unhex(t, pdu)
		if v := formVerdict(form, len(b), b[0]); v != wellFormed {
			t.Errorf("%s, %s: %s", form, pdu[:16], v)
		}
	}
	for _, c := range f.Samples {
		check(c.Form, c.SPDU)
	}
	for _, c := range f.Heartbeats {
		check(c.Form, c.SPDU)
	}
	for _, c := range f.BadPlaintexts {
		check(c.Form, c.SPDU)
	}
	for _, c := range f.StartRecords {
		check(c.Form, c.SPDU)
	}
}
