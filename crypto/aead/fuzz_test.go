// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzEngines gives every engine and std the same batch: records cut out of the input, some of them sealed first, so
// that right tags occur.
//
// The input is a list of {u16 length of the record, u8 key, u8 what to do} and, behind them, the bytes of all records.
func FuzzEngines(f *testing.F) {
	seed := func(parts ...[3]int) {
		var head, body []byte
		for _, p := range parts {
			head = append(binary.LittleEndian.AppendUint16(head, uint16(p[0])), byte(p[1]), byte(p[2]))
			b := make([]byte, p[0])
			fill(b, uint32(p[0]))
			body = append(body, b...)
		}
		f.Add(byte(len(parts)), append(head, body...))
	}
	seed()
	seed([3]int{32, 0, 1})
	seed([3]int{56, 1, 1}, [3]int{56, 2, 1}, [3]int{72, 3, 2}, [3]int{80, 0, 1}, [3]int{81, 1, 0})
	seed([3]int{31, 0, 0}, [3]int{2056, 1, 1}, [3]int{288, 2, 1}, [3]int{289, 2, 3}, [3]int{40, 3, 1})

	const keys = 4
	type contender struct {
		e    Engine
		keys [keys]*Key
	}
	var all []contender
	for _, e := range engines() {
		c := contender{e: e}
		for i := range c.keys {
			c.keys[i] = newKey(f, e, uint32(i))
		}
		all = append(all, c)
	}
	f.Fuzz(func(t *testing.T, count byte, in []byte) {
		n := min(int(count), len(in)/4)
		head, body := in[:4*n], in[4*n:]
		var results [][]byte
		for _, c := range all {
			rest := bytes.Clone(body)
			var ops, sealing []Op
			var flips []func()
			for i := range n {
				h := head[4*i:]
				size := min(int(binary.LittleEndian.Uint16(h)), len(rest))
				op := Op{Key: c.keys[h[2]%keys], Record: rest[:size:size]}
				op.Dst = bytes.Repeat([]byte{canary}, max(0, size-Overhead))
				rest = rest[size:]
				if h[3]&1 != 0 && wellFormed(op.Record) {
					sealing = append(sealing, op)
					if h[3]&2 != 0 {
						flips = append(flips, func() { op.Record[int(h[3])%size] ^= 1 + h[2] })
					}
				}
				ops = append(ops, op)
			}
			if err := c.e.Seal(sealing); err != nil {
				t.Fatalf("engine %s: %v", c.e.Name(), err)
			}
			for _, f := range flips {
				f()
			}
			result := []byte{byte(c.e.Open(ops))}
			for _, op := range ops {
				ok := byte(0)
				if op.OK {
					ok = 1
				}
				result = append(append(binary.LittleEndian.AppendUint16(append(result, ok), uint16(op.N)), op.Record...), op.Dst...)
			}
			results = append(results, result)
		}
		for i, r := range results {
			if !bytes.Equal(r, results[0]) {
				t.Fatalf("engine %s disagrees with %s", all[i].e.Name(), all[0].e.Name())
			}
		}
	})
}
