// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"unsafe"
)

// The twin of the side-by-side kernels: the same algorithm on the same slots, step by step in plain Go. It is for
// reading and for tests; it is slow, and its time depends on the key.

// twinLanes is how many PDUs a group has.
const twinLanes = 4

var twin = kernel{
	name: "twin", expand: expandTwin,
	lanes: twinLanes, open: openTwin, seal: sealTwin, tag: tagTwin, crypt: cryptTwin,
}

// element is a block in GHASH: its bytes reversed, as two little-endian words. Coefficients count from the lowest bit,
// so this is the reflected form of SP 800-38D.
type element struct{ lo, hi uint64 }

func fromBlock(b [16]byte) element {
	return element{lo: binary.BigEndian.Uint64(b[8:]), hi: binary.BigEndian.Uint64(b[:8])}
}

func (e element) block() (b [16]byte) {
	binary.BigEndian.PutUint64(b[8:], e.lo)
	binary.BigEndian.PutUint64(b[:8], e.hi)
	return b
}

// stored is how a slot holds an element: little-endian words, as a register is stored.
func (e element) stored() (b [16]byte) {
	binary.LittleEndian.PutUint64(b[:8], e.lo)
	binary.LittleEndian.PutUint64(b[8:], e.hi)
	return b
}

func fromStored(b [16]byte) element {
	return element{lo: binary.LittleEndian.Uint64(b[:8]), hi: binary.LittleEndian.Uint64(b[8:])}
}

func (e element) add(o element) element { return element{e.lo ^ o.lo, e.hi ^ o.hi} }

// product is a carry-less product before it is reduced: low and high block, and what straddles the two.
type product struct{ low, middle, high element }

func (p product) add(o product) product {
	return product{p.low.add(o.low), p.middle.add(o.middle), p.high.add(o.high)}
}

// clmul is PCLMULQDQ.
func clmul(a, b uint64) element {
	var p element
	for i := range 64 {
		if b>>i&1 == 1 {
			p.lo ^= a << i
			p.hi ^= a >> 1 >> (63 - i)
		}
	}
	return p
}

func multiply(a, b element) product {
	return product{
		low:    clmul(a.lo, b.lo),
		middle: clmul(a.lo, b.hi).add(clmul(a.hi, b.lo)),
		high:   clmul(a.hi, b.hi),
	}
}

// reduce divides by x^128 modulo the polynomial (Montgomery): each of the two folds clears the lowest 64 coefficients by
// adding a multiple of the polynomial, and shifts them out.
func (p product) reduce() element {
	low := p.low.add(element{0, p.middle.lo})
	high := p.high.add(element{p.middle.hi, 0})
	for range 2 {
		low = element{low.hi, low.lo}.add(clmul(low.lo, 0xc2<<56))
	}
	return low.add(high)
}

// timesX multiplies by x.
func (e element) timesX() element {
	lost := e.hi >> 63
	return element{e.lo << 1, e.hi<<1 | e.lo>>63}.add(element{lost, lost * (0xc2 << 56)})
}

// expandTwin fills a slot.
func expandTwin(slot *keySlot, key *[KeySize]byte, iv *[IVSize]byte) {
	var w [60][4]byte // FIPS 197, 5.2
	for i := range w {
		switch {
		case i < 8:
			w[i] = [4]byte(key[4*i:])
			continue
		case i%8 == 0:
			p := w[i-1]
			w[i] = [4]byte{sbox(p[1]) ^ 1<<(i/8-1), sbox(p[2]), sbox(p[3]), sbox(p[0])}
		case i%8 == 4:
			p := w[i-1]
			w[i] = [4]byte{sbox(p[0]), sbox(p[1]), sbox(p[2]), sbox(p[3])}
		default:
			w[i] = w[i-1]
		}
		for j := range 4 {
			w[i][j] ^= w[i-8][j]
		}
	}
	round := func(i int) (r [16]byte) {
		for j := range 4 {
			copy(r[4*j:], w[4*i+j][:])
		}
		return r
	}
	for i := range slot.round {
		slot.round[i] = round(i + 1)
	}
	first := round(0)
	h := fromBlock(encryptTwin(slot, first)).timesX() // AES(0): zero XOR the first round key is what goes in
	slot.first = xor(first, append(iv[:], 0, 0, 0, 0))
	power := h
	for i := len(slot.power) - 1; i >= 0; i-- {
		slot.power[i] = power.stored()
		power = multiply(power, h).reduce()
	}
	for n := range slot.length {
		slot.length[n] = multiply(element{lo: 8 * uint64(n), hi: 8 * AADSize}, h).reduce().stored()
	}
}

// cipherTwin encrypts counter block number i of a record: IV and first round key are in the slot as one.
func cipherTwin(slot *keySlot, aad []byte, i uint32) [16]byte {
	var b [16]byte
	copy(b[0:4], aad[0:4])    // stream id
	copy(b[6:12], aad[10:16]) // counter
	binary.BigEndian.PutUint32(b[12:], i)
	return encryptTwin(slot, xor(b, slot.first[:]))
}

// encryptTwin does the rounds 1 to 14.
func encryptTwin(slot *keySlot, state [16]byte) [16]byte {
	for i := range 13 {
		state = aesenc(state, slot.round[i], true)
	}
	return aesenc(state, slot.round[13], false)
}

// lanes4 is what a 64-byte register holds.
type lanes4 [4][16]byte

// loadTwin is the masked load: AAD and ciphertext of a record, zero behind them.
func loadTwin(record []byte) (l lanes4) {
	data := record[:len(record)-TagSize]
	for i := range l {
		data = data[copy(l[i][:], data):]
	}
	return l
}

func keystreamTwin(slot *keySlot, aad []byte) (l lanes4) {
	for i := range l {
		l[i] = cipherTwin(slot, aad, uint32(i+1))
	}
	return l
}

// hashTwin is GHASH of one PDU: the products of all lanes summed, reduced once, and the product of the length block.
func hashTwin(slot *keySlot, data lanes4, n int) [16]byte {
	first := len(slot.power) - (n+15)/16 - 2 // the power that the AAD meets
	var sum product
	for i := range data {
		var power element // behind the powers lie other things, which meet zeros
		if first+i < len(slot.power) {
			power = fromStored(slot.power[first+i])
		}
		sum = sum.add(multiply(fromBlock(data[i]), power))
	}
	return sum.reduce().add(fromStored(slot.length[n])).block()
}

// forTwin says that a group is one for the kernel.
func forTwin(group []Op, open bool) bool {
	for i := range group {
		op := &group[i]
		n := len(op.Record) - Overhead
		if uint(n) > fastText || open && n > cap(op.Dst) || op.Key == nil || op.Key.slot == nil {
			return false
		}
	}
	return true
}

func openTwin(first *Op, groups int, aside *aside) (done, accepted int) {
	ops := unsafe.Slice(first, groups*twinLanes)
	for ; done < len(ops) && forTwin(ops[done:done+twinLanes], true); done += twinLanes {
		for i := range twinLanes {
			op := &ops[done+i]
			n := len(op.Record) - Overhead
			data := loadTwin(op.Record)
			stream := keystreamTwin(op.Key.slot, data[0][:])
			tag := xor(hashTwin(op.Key.slot, data, n), stream[0][:])
			op.OK = tag == [16]byte(op.Record[AADSize+n:])
			// Zeros instead of plaintext, and another place for them, if the tag is wrong; else all is the same.
			var mask byte
			dst := unsafe.SliceData(op.Dst)
			place := unsafe.SliceData(aside.place(dst, n))
			op.N = 0
			if op.OK {
				mask, place, op.N = 0xFF, dst, n
				accepted++
			}
			for j := range n {
				text := data[1+j/16][j%16] ^ stream[1+j/16][j%16]
				unsafe.Slice(place, n)[j] = text & mask
			}
		}
	}
	return done, accepted
}

func sealTwin(first *Op, groups int) (done int) {
	ops := unsafe.Slice(first, groups*twinLanes)
	for ; done < len(ops) && forTwin(ops[done:done+twinLanes], false); done += twinLanes {
		// All loads come before the first store: an operation may come twice.
		var data [twinLanes]lanes4
		for i := range data {
			data[i] = loadTwin(ops[done+i].Record)
		}
		for i := range data {
			op := &ops[done+i]
			n := len(op.Record) - Overhead
			stream := keystreamTwin(op.Key.slot, data[i][0][:])
			for j := range n {
				data[i][1+j/16][j%16] ^= stream[1+j/16][j%16]
				op.Record[AADSize+j] = data[i][1+j/16][j%16]
			}
			tag := xor(hashTwin(op.Key.slot, data[i], n), stream[0][:])
			copy(op.Record[AADSize+n:], tag[:])
		}
	}
	return done
}

// tagTwin hashes sixteen blocks at a time; what is left, up to sixteen, is hashed with the length block.
func tagTwin(slot *keySlot, record *byte, n int, write bool) bool {
	r := unsafe.Slice(record, Overhead+n)
	data := r[:AADSize+n]
	var state element
	// The state joins the first block, or stands alone when no block is left.
	chunk := func(part []byte, first int) (sum product) {
		for i := 0; i == 0 || 16*i < len(part); i++ {
			var b [16]byte
			copy(b[:], part[min(16*i, len(part)):])
			x := fromBlock(b)
			if i == 0 {
				x = x.add(state)
			}
			sum = sum.add(multiply(x, fromStored(slot.power[first+i])))
		}
		return sum
	}
	for ; len(data) >= 256; data = data[256:] {
		state = chunk(data[:256], 1).reduce()
	}
	last := len(slot.power) - 1 // H^1
	length := element{lo: 8 * uint64(n), hi: 8 * AADSize}
	sum := chunk(data, last-(len(data)+15)/16).add(multiply(length, fromStored(slot.power[last])))
	j0 := cipherTwin(slot, r[:AADSize], 1)
	tag := xor(sum.reduce().block(), j0[:])
	if write {
		copy(r[AADSize+n:], tag[:])
		return true
	}
	return tag == [16]byte(r[AADSize+n:])
}

func cryptTwin(slot *keySlot, record *byte, n int, dst *byte) {
	r, d := unsafe.Slice(record, AADSize+n), unsafe.Slice(dst, n)
	for i := 0; i < n; i += 16 {
		stream := cipherTwin(slot, r[:AADSize], uint32(2+i/16))
		for j := i; j < min(i+16, n); j++ {
			d[j] = r[AADSize+j] ^ stream[j-i]
		}
	}
}

func xor(a [16]byte, b []byte) [16]byte {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}

// aesenc is one round of AES (FIPS 197, 5.1) as AESENC does it: ShiftRows, SubBytes, MixColumns, AddRoundKey; the last
// round has no MixColumns.
func aesenc(state, key [16]byte, mix bool) (out [16]byte) {
	for c := range 4 {
		var col [4]byte
		for r := range 4 {
			col[r] = sbox(state[4*((c+r)%4)+r])
		}
		if mix {
			col = mixColumn(col)
		}
		for r := range 4 {
			out[4*c+r] = col[r] ^ key[4*c+r]
		}
	}
	return out
}

func mixColumn(c [4]byte) (out [4]byte) {
	for r := range 4 {
		a, b := c[r], c[(r+1)%4]
		out[r] = double(a) ^ double(b) ^ b ^ c[(r+2)%4] ^ c[(r+3)%4]
	}
	return out
}

func double(a byte) byte { return a<<1 ^ a>>7*0x1b }

// sbox is SubBytes: the inverse in GF(2^8), a^254, and an affine map.
func sbox(a byte) byte { return sboxTable()[a] }

var sboxTable = sync.OnceValue(func() *[256]byte {
	var table [256]byte
	for i := range table {
		inverse, power := byte(1), byte(i)
		for range 7 {
			power = fieldMul(power, power)
			inverse = fieldMul(inverse, power)
		}
		b := inverse
		table[i] = b ^ bits.RotateLeft8(b, 1) ^ bits.RotateLeft8(b, 2) ^ bits.RotateLeft8(b, 3) ^ bits.RotateLeft8(b, 4) ^ 0x63
	}
	return &table
})

func fieldMul(a, b byte) (p byte) {
	for ; b > 0; b >>= 1 {
		p ^= a * (b & 1)
		a = double(a)
	}
	return p
}
