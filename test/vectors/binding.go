// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"

	"github.com/cellward/cellward/agent/policy"
)

// binding is a node's part of a binding and its hash.
type binding struct {
	Name          string          `json:"name"`
	NodeName      string          `json:"node_name"`
	Kid           string          `json:"kid"`
	PublicKey     string          `json:"public_key"`
	Heartbeats    []bindingStream `json:"heartbeats"`
	Streams       []bindingStream `json:"streams"`
	CanonicalForm string          `json:"canonical_form"`
	BindingHash   string          `json:"binding_hash"`
}

// bindingStream is a stream of a node. A heartbeat stream has no source.
type bindingStream struct {
	StreamID   uint32 `json:"stream_id"`
	Interface  uint8  `json:"interface"`
	Carrier    string `json:"carrier"`
	CANID      uint32 `json:"can_id"`
	SourceID   uint32 `json:"source_id,omitempty"`
	SourceName string `json:"source_name,omitempty"`
}

func makeBindings(f *file) error {
	const carrier = string(policy.CANFD)
	// Any point of the curve will do; this one has the hash of a label as its private key.
	d := sha256.Sum256([]byte("cellward test vector: binding"))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d[:])
	if err != nil {
		return err
	}
	id, err := policy.NewIdentity(&key.PublicKey)
	if err != nil {
		return err
	}
	for _, v := range []binding{
		{
			Name: "one bus", NodeName: "pack-a",
			Heartbeats: []bindingStream{{StreamID: 1, Interface: 1, Carrier: carrier, CANID: 0x7F0}},
			Streams:    []bindingStream{{StreamID: 2, Interface: 1, Carrier: carrier, CANID: 0x123, SourceID: 1, SourceName: "cell_voltage_array"}},
		},
		{
			Name: "two buses, identifiers of 11 and 29 bits, ids that need 1 to 4 bytes", NodeName: "bmu",
			Heartbeats: []bindingStream{
				{StreamID: 23, Interface: 1, Carrier: carrier, CANID: 0x7F0},
				{StreamID: heartbeatStream, Interface: 2, Carrier: carrier, CANID: policy.CANEFF | 0x1ABCDEF0},
			},
			Streams: []bindingStream{
				{StreamID: 24, Interface: 1, Carrier: carrier, CANID: 0x123, SourceID: 255, SourceName: "pack_current"},
				{StreamID: 256, Interface: 2, Carrier: carrier, CANID: policy.CANEFF | 0x123, SourceID: 65536, SourceName: "estimated_soc"},
				{StreamID: voltageStream, Interface: 2, Carrier: carrier, CANID: 0, SourceID: cellVoltages, SourceName: "cell_voltage_array"},
			},
		},
	} {
		if err := v.fill(id); err != nil {
			return err
		}
		f.Bindings = append(f.Bindings, v)
	}
	return nil
}

// fill computes form and hash. The document has its lists in descending order, which must make no difference.
func (v *binding) fill(id policy.Identity) error {
	names := map[uint8]string{1: "can0", 2: "can1"}
	n := policy.Node{Name: v.NodeName, Identity: id}
	b := policy.Binding{Interfaces: []policy.Interface{{Name: "can1", Index: 2, Carrier: policy.CANFD}, {Name: "can0", Index: 1, Carrier: policy.CANFD}}}
	for i := len(v.Heartbeats) - 1; i >= 0; i-- {
		h := v.Heartbeats[i]
		n.Heartbeats = append(n.Heartbeats, policy.Heartbeat{StreamID: h.StreamID, Interface: names[h.Interface], CANID: policy.CANID(h.CANID)})
	}
	for i := len(v.Streams) - 1; i >= 0; i-- {
		s := v.Streams[i]
		b.Sources = append(b.Sources, policy.Source{Identifier: s.SourceName, ID: s.SourceID})
		n.Streams = append(n.Streams, policy.Stream{StreamID: s.StreamID, Interface: names[s.Interface], CANID: policy.CANID(s.CANID), Source: s.SourceName})
	}
	b.Nodes = []policy.Node{n}
	form, err := b.CanonicalForm(v.NodeName)
	if err != nil {
		return err
	}
	hash, err := b.BindingHash(v.NodeName)
	if err != nil {
		return err
	}
	v.Kid, v.PublicKey = x(id.KID[:]), x(id.PublicKey)
	v.CanonicalForm, v.BindingHash = x(form), x(hash[:])
	return nil
}
