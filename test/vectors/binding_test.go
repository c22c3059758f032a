// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"testing"
)

func TestBindings(t *testing.T) {
	for _, c := range committed(t).Bindings {
		t.Run(c.Name, func(t *testing.T) {
			public := unhex(t, c.PublicKey)
			kid := sha256.Sum256(public)
			same(t, "kid", c.Kid, kid[:8])

			place := func(s bindingStream) [][]byte {
				return [][]byte{cborUint(uint64(s.StreamID)), cborUint(uint64(s.Interface)), cborText(s.Carrier), cborUint(uint64(s.CANID))}
			}
			var heartbeats, streams [][]byte
			for _, s := range c.Heartbeats {
				heartbeats = append(heartbeats, cborArray(place(s)...))
			}
			for _, s := range c.Streams {
				streams = append(streams, cborArray(append(place(s), cborUint(uint64(s.SourceID)), cborText(s.SourceName))...))
			}
			form := cborArray(cborText("cellward binding 1"), cborText(c.NodeName), cborBytes(kid[:8]), cborBytes(public),
				cborArray(heartbeats...), cborArray(streams...))
			hash := sha256.Sum256(form)
			same(t, "canonical_form", c.CanonicalForm, form)
			same(t, "binding_hash", c.BindingHash, hash[:])
			for _, list := range [][]bindingStream{c.Heartbeats, c.Streams} {
				for i := 1; i < len(list); i++ {
					if list[i].StreamID <= list[i-1].StreamID {
						t.Error("stream ids do not ascend")
					}
				}
			}
		})
	}
}
