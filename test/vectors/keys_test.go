// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// mac is HMAC-SHA-384.
func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha512.New384, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// expand is HKDF-Expand of RFC 5869, 2.3, with SHA-384.
func expand(prk, info []byte, n int) []byte {
	var okm, last []byte
	for i := byte(1); len(okm) < n; i++ {
		last = mac(prk, last, info, []byte{i})
		okm = append(okm, last...)
	}
	return okm[:n]
}

func u16(v uint16) []byte { return binary.LittleEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// u48 is the lower six bytes of a little-endian u64.
func u48(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v)[:6] }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// TestExpand holds the hand-made HKDF-Expand against a published value: RFC 5869 has none for SHA-384, this one was computed
// with OpenSSL (openssl kdf -kdfopt mode:EXPAND_ONLY -kdfopt digest:SHA384
// -kdfopt info:cellward -kdfopt hexkey:000102... -keylen 100 HKDF).
func TestExpand(t *testing.T) {
	const want = "315d425bd291c147e9b9b2788c7edea2268aaa2f56279766cc1e39314ae981b928fa703870855e0ffccfcda34161447ebf9007c48c0709a36788c35499b49d3c" +
		"aa8fc73fe4e78a3c2fa78e2190f4daba9630ba00a8d234680b5b99adfa707b1b77b5656a"
	got := expand(count(0, 48), []byte("cellward"), 100)
	if hex.EncodeToString(got) != want {
		t.Errorf("expand = %x", got)
	}
}

func TestTrafficKeys(t *testing.T) {
	keys := make(map[string]string)
	for _, c := range committed(t).TrafficKeys {
		t.Run(c.Name, func(t *testing.T) {
			prk, start := unhex(t, c.PRK), unhex(t, c.Start)
			if len(prk) != 48 || len(start) != 16 || c.SourceID == 0 || c.Epoch == 0 {
				t.Fatalf("no such case is possible: %+v", c)
			}
			info := join([]byte("cellward v1 traffic"), u32(c.SourceID), u32(c.Epoch), start)
			okm := expand(prk, info, 44)
			same(t, "info", c.Info, info)
			same(t, "okm", c.OKM, okm)
			same(t, "key", c.Key, okm[:32])
			same(t, "iv", c.IV, okm[32:])
			if other, ok := keys[c.OKM]; ok {
				t.Errorf("the same as %q", other)
			}
			keys[c.OKM] = c.Name
		})
	}
}

func TestEpochKeys(t *testing.T) {
	f := committed(t)
	for label, list := range map[string][]epochKey{"cellward v1 start": f.StartKeys, "cellward v1 control": f.ControlKeys} {
		for _, c := range list {
			t.Run(label+"/"+c.Name, func(t *testing.T) {
				info := join([]byte(label), u32(c.Epoch))
				same(t, "info", c.Info, info)
				same(t, "key", c.Key, expand(unhex(t, c.PRK), info, 48))
			})
		}
	}
}
