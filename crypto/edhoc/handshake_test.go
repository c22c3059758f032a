// SPDX-License-Identifier: Apache-2.0

package edhoc

import (
	"bytes"
	"fmt"
	"testing"
)

func TestHandshakeAllMethodsAndSuites(t *testing.T) {
	for _, id := range []int{0, 1, 2, 3, 4, 5, 6, 24, -24} {
		for method := SignatureSignature; method <= StaticStatic; method++ {
			t.Run(fmt.Sprintf("suite=%d/method=%d", id, method), func(t *testing.T) {
				b := newBench(t, method, id)
				h := b.through(t, 5)
				defer h.close()
				if !bytes.Equal(h.si.TH4(), h.sr.TH4()) {
					t.Fatal("TH_4 differs")
				}
				ki, err := h.si.Exporter(52753, []byte("context"), 48)
				if err != nil {
					t.Fatal(err)
				}
				kr, err := h.sr.Exporter(52753, []byte("context"), 48)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(ki, kr) {
					t.Fatal("exported keys differ")
				}
				if h.i.eph != nil || h.r.eph != nil {
					t.Fatal("an ephemeral key outlived the exchange")
				}
				if h.i.State() != StatePersisted || h.r.State() != StatePersisted {
					t.Fatalf("states %v and %v", h.i.State(), h.r.State())
				}
			})
		}
	}
}
