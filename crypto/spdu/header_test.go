// SPDX-License-Identifier: Apache-2.0

package spdu

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeaderVectors(t *testing.T) {
	for _, c := range []struct {
		hex  string
		want Header
		err  error
	}{
		{"0101010000000000", Header{KindSample, 0, 1, 1}, nil},
		{"41040f0e0d0c0b0a", Header{KindSample, 4, 4, 0x0A0B0C0D0E0F}, nil},
		{"f5ffffffffffffff", Header{KindHeartbeat, 15, 255, MaxCounter}, nil},
		{"8d000000000000a0", Header{KindStart, 8, 0, 0xA00000000000}, nil},
		{"0501020000000000", Header{KindHeartbeat, 0, 1, 2}, nil},
		{"0000000000000000", Header{}, ErrVersion}, // zeroed memory
		{"0201010000000000", Header{}, ErrVersion},
		{"0301010000000000", Header{}, ErrVersion},
		{"ffffffffffffffff", Header{}, ErrVersion},
		{"0901010000000000", Header{}, ErrKind},
		{"01010100000000", Header{}, ErrLength},
		{"", Header{}, ErrLength},
	} {
		b := unhex(t, c.hex)
		h, err := ParseHeader(b)
		if h != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("ParseHeader(%s) = %+v, %v, want %+v, %v", c.hex, h, err, c.want, c.err)
		}
		if err == nil {
			out := make([]byte, HeaderSize)
			if h.Put(out); !bytes.Equal(out, b) {
				t.Errorf("Put(%+v) = %x, want %s", h, out, c.hex)
			}
		}
	}
}

// TestMalformedErrors: length is told from a wrong header, because they are two
// verdicts.
func TestMalformedErrors(t *testing.T) {
	for _, err := range []error{ErrVersion, ErrKind, ErrPad} {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%v does not wrap ErrMalformed", err)
		}
	}
	for _, err := range []error{ErrLength, ErrForm, ErrBadPlaintext, ErrBadMAC} {
		if errors.Is(err, ErrMalformed) {
			t.Errorf("%v wraps ErrMalformed", err)
		}
	}
}

func TestKindNames(t *testing.T) {
	for kind, want := range map[Kind]string{KindSample: "sample", KindHeartbeat: "heartbeat", KindStart: "start", 2: "reserved", 9: "reserved"} {
		if got := kind.String(); got != want {
			t.Errorf("kind %d is %q, want %q", kind, got, want)
		}
	}
}
