// SPDX-License-Identifier: Apache-2.0

package keyscan

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem/secretmemtest"
)

// secrets collects what is looked for.
type secrets struct {
	t   *testing.T
	all []secretmemtest.Secret
}

func (s *secrets) add(name string, value []byte) {
	s.all = append(s.all, secretmemtest.Secret{Name: name, Value: slices.Clone(value)})
}

// mac adds a key of HMAC, and what the hash is fed with it: the key under either pad (RFC 2104).
func (s *secrets) mac(name string, key []byte) {
	s.add(name, key)
	for pad, what := range map[byte]string{0x36: "ipad", 0x5C: "opad"} {
		padded := slices.Clone(key)
		for i := range padded {
			padded[i] ^= pad
		}
		s.add(name+" under "+what, padded)
	}
}

// epoch adds the secret of an epoch and what comes of it by itself.
func (s *secrets) epoch(number uint32, prk *schedule.PRK) {
	s.t.Helper()
	s.mac("PRK", prk[:])
	var start schedule.StartKey
	var control schedule.ControlKey
	if err := schedule.Start(prk, number, &start); err != nil {
		s.t.Fatal(err)
	}
	if err := schedule.Control(prk, number, &control); err != nil {
		s.t.Fatal(err)
	}
	s.mac("start key", start[:])
	s.mac("control key", control[:])
}

// run adds the traffic keys of one run and all that an engine makes of them.
func (s *secrets) run(number uint32, prk *schedule.PRK, random *[16]byte, sources []uint32) {
	s.t.Helper()
	for _, source := range sources {
		var k schedule.TrafficKey
		if err := schedule.Traffic(prk, source, number, random, &k); err != nil {
			s.t.Fatal(err)
		}
		name := fmt.Sprintf("start %x source %d ", random[:2], source)
		s.add(name+"IV", k.IV[:])
		s.cipher(name, k.Key[:])
	}
}

// cipher adds an AES-256 key, its 15 round keys (FIPS 197, 5.2) with the words in both byte orders, and GHASH's H in both.
func (s *secrets) cipher(name string, key []byte) {
	s.t.Helper()
	s.add(name+"key", key)
	block, err := aes.NewCipher(key)
	if err != nil {
		s.t.Fatal(err)
	}
	h := make([]byte, aes.BlockSize)
	block.Encrypt(h, h)
	s.add(name+"H", h)
	slices.Reverse(h)
	s.add(name+"H reversed", h)
	for i, w := range roundKeys(key) {
		s.add(fmt.Sprintf("%sround key %d", name, i), w[:])
		for j := 0; j < len(w); j += 4 {
			slices.Reverse(w[j : j+4])
		}
		s.add(fmt.Sprintf("%sround key %d as words", name, i), w[:])
	}
}

// roundKeys expands an AES-256 key.
func roundKeys(key []byte) (out [15][16]byte) {
	box := sbox()
	var w [60]uint32
	for i := range w {
		switch {
		case i < 8:
			w[i] = binary.BigEndian.Uint32(key[4*i:])
			continue
		case i%8 == 0:
			w[i] = sub(&box, bits.RotateLeft32(w[i-1], 8)) ^ 1<<(23+i/8)
		case i%8 == 4:
			w[i] = sub(&box, w[i-1])
		default:
			w[i] = w[i-1]
		}
		w[i] ^= w[i-8]
	}
	for i, v := range w {
		binary.BigEndian.PutUint32(out[i/4][i%4*4:], v)
	}
	return out
}

func sub(box *[256]byte, w uint32) uint32 {
	return uint32(box[w>>24])<<24 | uint32(box[w>>16&255])<<16 | uint32(box[w>>8&255])<<8 | uint32(box[w&255])
}

// sbox makes the substitution of FIPS 197, 5.1.1, by walking through the powers of 3 and of its inverse together.
func sbox() (box [256]byte) {
	p, q := byte(1), byte(1)
	for {
		p ^= p<<1 ^ byte(int8(p)>>7)&0x1B
		q ^= q << 1
		q ^= q << 2
		q ^= q << 4
		q ^= byte(int8(q)>>7) & 0x09
		box[p] = q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63
		if p == 1 {
			break
		}
	}
	box[0] = 0x63
	return box
}

// TestRoundKeys: FIPS 197, appendix A.3.
func TestRoundKeys(t *testing.T) {
	key := []byte{
		0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77, 0x81,
		0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14, 0xdf, 0xf4,
	}
	if got := fmt.Sprintf("%x", roundKeys(key)[14]); got != "fe4890d1e6188d0b046df344706c631e" {
		t.Errorf("round key 14 is %s", got)
	}
}
