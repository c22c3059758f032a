// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"testing"
)

// Kinds of a PDU and their numbers on the wire.
func kindNumber(t *testing.T, name string) byte {
	t.Helper()
	switch name {
	case "sample":
		return 0
	case "heartbeat":
		return 1
	case "start":
		return 3
	}
	t.Fatalf("kind %q", name)
	return 0
}

// padFor is how many zeros follow n bytes of plaintext: on CAN FD up to the next of 32, 48 and 64 bytes, elsewhere none.
func padFor(t *testing.T, form string, n int) int {
	t.Helper()
	if form != nameFD {
		return 0
	}
	for _, size := range []int{32, 48, 64} {
		if room := size - 8 - 16; n <= room {
			return room - n
		}
	}
	t.Fatalf("%d bytes of plaintext fit no CAN FD frame", n)
	return 0
}

// header is the eight bytes at the front of a PDU.
func header(kind byte, pad int, epoch uint32, counter uint64) []byte {
	return join([]byte{1 | kind<<2 | byte(pad)<<4, byte(epoch)}, u48(counter))
}

// nonce is IV XOR (u32 stream id || u16 0 || u48 counter).
func nonce(iv []byte, stream uint32, counter uint64) []byte {
	n := join(u32(stream), u16(0), u48(counter))
	for i := range n {
		n[i] ^= iv[i]
	}
	return n
}

// gcm is AES-256-GCM of the standard library, without any code of the product.
func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	g, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// checkSealed computes everything around a plaintext from the description.
func checkSealed(t *testing.T, f *file, c *sealed, plain []byte, pad int) {
	t.Helper()
	var key *trafficKey
	for i := range f.TrafficKeys {
		if f.TrafficKeys[i].Name == c.TrafficKey {
			key = &f.TrafficKeys[i]
		}
	}
	if key == nil || key.Epoch != c.Epoch {
		t.Fatalf("no traffic key %q of epoch %d", c.TrafficKey, c.Epoch)
	}
	if (c.Kind == "heartbeat") != (key.SourceID == 0xFFFFFFFF) {
		t.Errorf("a %s under the key of source %d", c.Kind, key.SourceID)
	}
	same(t, "key", c.Key, unhex(t, key.Key))
	same(t, "iv", c.IV, unhex(t, key.IV))

	head := header(kindNumber(t, c.Kind), pad, c.Epoch, c.Counter)
	aad := join(u32(c.StreamID), u32(c.Epoch), head)
	n := nonce(unhex(t, c.IV), c.StreamID, c.Counter)
	if c.Pad != pad {
		t.Errorf("pad is %d, want %d", c.Pad, pad)
	}
	same(t, "header", c.Header, head)
	same(t, "aad", c.AAD, aad)
	same(t, "nonce", c.Nonce, n)
	same(t, "plaintext", c.Plaintext, plain)
	same(t, "spdu", c.SPDU, append(bytes.Clone(head), gcm(t, unhex(t, c.Key)).Seal(nil, n, plain, aad)...))

	pdu := unhex(t, c.SPDU)
	opened, err := gcm(t, unhex(t, c.Key)).Open(nil, unhex(t, c.Nonce), pdu[8:], unhex(t, c.AAD))
	if err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("the PDU opens as %x, %v", opened, err)
	}
}

func TestSamples(t *testing.T) {
	f := committed(t)
	sizes := make(map[string]map[int]bool)
	for _, c := range f.Samples {
		t.Run(c.Name, func(t *testing.T) {
			plain := join(u32(c.SourceTime), unhex(t, c.Body))
			pad := padFor(t, c.Form, len(plain))
			checkSealed(t, f, &c.sealed, append(plain, make([]byte, pad)...), pad)
		})
		if sizes[c.Form] == nil {
			sizes[c.Form] = make(map[int]bool)
		}
		sizes[c.Form][len(c.SPDU)/2] = true
	}
	for _, want := range []int{32, 48, 64} {
		if !sizes[nameFD][want] {
			t.Errorf("no sample in a CAN FD frame of %d bytes", want)
		}
	}
	for _, want := range []int{28, 2048} {
		if !sizes[nameGeneric][want] {
			t.Errorf("no sample of %d bytes in generic form", want)
		}
	}
}

func TestHeartbeats(t *testing.T) {
	f := committed(t)
	for _, c := range f.Heartbeats {
		t.Run(c.Name, func(t *testing.T) {
			var plain []byte
			for _, e := range c.Entries {
				plain = append(plain, join(u32(e.StreamID), u48(e.NextCounter))...)
			}
			pad := padFor(t, c.Form, len(plain))
			checkSealed(t, f, &c.sealed, append(plain, make([]byte, pad)...), pad)
		})
	}
}

// TestBadPlaintexts: the tag of each is good, and what is inside breaks a rule.
func TestBadPlaintexts(t *testing.T) {
	f := committed(t)
	for _, c := range f.BadPlaintexts {
		t.Run(c.Name, func(t *testing.T) {
			plain := unhex(t, c.Plaintext)
			checkSealed(t, f, &c, plain, c.Pad)
			if goodPlaintext(c.Kind, plain, c.Pad) {
				t.Error("the plaintext breaks no rule")
			}
		})
	}
	// The rules take what is good, so the test above can fail.
	for _, c := range f.Samples {
		if !goodPlaintext(c.Kind, unhex(t, c.Plaintext), c.Pad) {
			t.Errorf("sample %q breaks a rule", c.Name)
		}
	}
	for _, c := range f.Heartbeats {
		if !goodPlaintext(c.Kind, unhex(t, c.Plaintext), c.Pad) {
			t.Errorf("heartbeat %q breaks a rule", c.Name)
		}
	}
}

// goodPlaintext is the receiver's rule for what is under a good tag.
func goodPlaintext(kind string, plain []byte, pad int) bool {
	if pad > len(plain) {
		return false
	}
	text, padding := plain[:len(plain)-pad], plain[len(plain)-pad:]
	if !bytes.Equal(padding, make([]byte, pad)) {
		return false
	}
	if kind == "sample" {
		return len(text) >= 4
	}
	if len(text) == 0 || len(text)%10 != 0 {
		return false
	}
	for ; len(text) > 0; text = text[10:] {
		stream := binary.LittleEndian.Uint32(text)
		next := binary.LittleEndian.Uint64(append(bytes.Clone(text[4:10]), 0, 0))
		if stream == 0 || stream == 0xFFFFFFFF || next == 0 {
			return false
		}
	}
	return true
}

// TestNoncesDoNotRepeat: no two PDUs of the file share key and nonce.
func TestNoncesDoNotRepeat(t *testing.T) {
	f := committed(t)
	seen := make(map[string]string)
	check := func(c *sealed) {
		if other, ok := seen[c.Key+c.Nonce]; ok && other != c.SPDU {
			t.Errorf("%s %q: key and nonce of another PDU", c.Kind, c.Name)
		}
		seen[c.Key+c.Nonce] = c.SPDU
	}
	for i := range f.Samples {
		check(&f.Samples[i].sealed)
	}
	for i := range f.Heartbeats {
		check(&f.Heartbeats[i].sealed)
	}
	for i := range f.BadPlaintexts {
		check(&f.BadPlaintexts[i])
	}
}

func TestStartRecords(t *testing.T) {
	f := committed(t)
	for _, c := range f.StartRecords {
		t.Run(c.Name, func(t *testing.T) {
			var key []byte
			for _, k := range f.StartKeys {
				if k.Epoch == c.Epoch {
					key = unhex(t, k.Key)
				}
			}
			pad := 0
			if c.Form == nameFD {
				pad = 8
			}
			head := header(3, pad, c.Epoch, c.F)
			clear := join(unhex(t, c.Start), make([]byte, pad))
			input := join(u32(c.StreamID), u32(c.Epoch), head, clear)
			tag := mac(key, input)[:16]
			same(t, "mac_key", c.MACKey, key)
			same(t, "mac_input", c.MACInput, input)
			same(t, "mac", c.MAC, tag)
			same(t, "spdu", c.SPDU, join(head, clear, tag))
			if want := map[string]int{nameFD: 48, nameGeneric: 40}[c.Form]; len(c.SPDU) != 2*want {
				t.Errorf("%d bytes, want %d", len(c.SPDU)/2, want)
			}
		})
	}
}
