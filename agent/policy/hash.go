// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// ErrUnknownName is returned for a name that a binding does not have.
var ErrUnknownName = errors.New("unknown name")

// bindingLabel begins every canonical form. A change of the form changes the label.
const bindingLabel = "cellward binding 1"

// The canonical form of a node's part of a binding, as CBOR arrays (RFC 8949). See docs/documents.md.
type (
	canonicalNode struct {
		_          struct{} `cbor:",toarray"`
		Label      string
		Name       string
		KID        []byte
		PublicKey  []byte
		Heartbeats []canonicalHeartbeat // ascending by stream id
		Streams    []canonicalStream    // ascending by stream id
	}
	canonicalHeartbeat struct {
		_         struct{} `cbor:",toarray"`
		StreamID  uint32
		Interface uint8
		Carrier   string
		CANID     uint32 // with CANEFF
	}
	canonicalStream struct {
		_         struct{} `cbor:",toarray"`
		StreamID  uint32
		Interface uint8
		Carrier   string
		CANID     uint32 // with CANEFF
		SourceID  uint32
		Source    string
	}
)

// CanonicalForm returns what [Binding.BindingHash] hashes: the node's identity, and where each of its streams
// travels and whose data it carries, in deterministic CBOR (RFC 8949, 4.2.1). Names of interfaces, rates and signals are
// not in it, since no byte on the wire depends on them.
func (b *Binding) CanonicalForm(node string) ([]byte, error) {
	n, ok := b.Node(node)
	if !ok {
		return nil, fmt.Errorf("canonical form of node %q: %w", node, ErrUnknownName)
	}
	form := canonicalNode{
		Label: bindingLabel, Name: n.Name, KID: n.Identity.KID[:], PublicKey: n.Identity.PublicKey,
		Heartbeats: []canonicalHeartbeat{}, Streams: []canonicalStream{},
	}
	for _, h := range n.Heartbeats {
		i, ok := b.iface(h.Interface)
		if !ok {
			return nil, fmt.Errorf("canonical form of node %q: interface %q: %w", node, h.Interface, ErrUnknownName)
		}
		form.Heartbeats = append(form.Heartbeats, canonicalHeartbeat{
			StreamID: h.StreamID, Interface: i.Index, Carrier: string(i.Carrier), CANID: uint32(h.CANID),
		})
	}
	for _, s := range n.Streams {
		i, okInterface := b.iface(s.Interface)
		source, okSource := b.source(s.Source)
		if !okInterface || !okSource {
			return nil, fmt.Errorf("canonical form of node %q: interface %q, source %q: %w", node, s.Interface, s.Source, ErrUnknownName)
		}
		form.Streams = append(form.Streams, canonicalStream{
			StreamID: s.StreamID, Interface: i.Index, Carrier: string(i.Carrier), CANID: uint32(s.CANID),
			SourceID: source.ID, Source: source.Identifier,
		})
	}
	slices.SortFunc(form.Heartbeats, func(x, y canonicalHeartbeat) int { return cmp.Compare(x.StreamID, y.StreamID) })
	slices.SortFunc(form.Streams, func(x, y canonicalStream) int { return cmp.Compare(x.StreamID, y.StreamID) })
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("canonical form of node %q: %w", node, err)
	}
	encoded, err := mode.Marshal(form)
	if err != nil {
		return nil, fmt.Errorf("canonical form of node %q: %w", node, err)
	}
	return encoded, nil
}

// BindingHash returns SHA-256 over the canonical form of a node's part of the binding. Both sides put it into the key
// agreement, so that they hold a common key only if they mean the same by it.
func (b *Binding) BindingHash(node string) ([32]byte, error) {
	form, err := b.CanonicalForm(node)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(form), nil
}
