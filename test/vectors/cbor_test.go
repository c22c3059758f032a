// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// cborHead is the head of a data item in its shortest form (RFC 8949, 3 and 4.2.1).
func cborHead(major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 1<<8:
		return []byte{major | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{major | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{major | 27}, n)
}

func cborUint(n uint64) []byte  { return cborHead(0, n) }
func cborBytes(b []byte) []byte { return append(cborHead(2, uint64(len(b))), b...) }
func cborText(s string) []byte  { return append(cborHead(3, uint64(len(s))), s...) }

func cborArray(items ...[]byte) []byte {
	return append(cborHead(4, uint64(len(items))), join(items...)...)
}

// TestCBOR holds the few encoders against RFC 8949, appendix A.
func TestCBOR(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{cborUint(0), "00"}, {cborUint(23), "17"}, {cborUint(24), "1818"}, {cborUint(100), "1864"}, {cborUint(1000), "1903e8"},
		{cborUint(1000000), "1a000f4240"}, {cborUint(1000000000000), "1b000000e8d4a51000"},
		{cborBytes([]byte{1, 2, 3, 4}), "4401020304"}, {cborText("IETF"), "6449455446"},
		{cborArray(cborUint(1), cborUint(2), cborUint(3)), "83010203"}, {cborArray(), "80"},
	} {
		want, err := hex.DecodeString(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.got, want) {
			t.Errorf("%x, want %s", c.got, c.want)
		}
	}
}
