// SPDX-License-Identifier: Apache-2.0

// Package epoch keeps what the gateway knows of every node's epochs: secrets, starts, floors, ages and pending offers.
// It decides which epoch number comes next and whether a key may still be used; it reads and writes nothing by itself
// (agent/vault does) and it sees no frames (package agent does).
//
// It may import crypto/... and the standard library.
package epoch

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
)

// Version is the version of the encoded state. Another version is refused.
const Version = 1

// KnownStarts is how many starts of one epoch the gateway keeps: the run that sends and the one before it, whose last
// frames may still be in the ring buffer when the new start is taken.
const KnownStarts = 2

// MaxOffers bounds the offers that may be pending, so that a forgotten script cannot fill the state.
const MaxOffers = 64

var (
	// ErrState says that the decrypted state is not one this version wrote.
	ErrState = errors.New("epoch state is damaged or of another version")
	// ErrRollback says that a node named a counter or a floor below what the gateway has verified from it: its storage
	// is an older copy.
	ErrRollback = errors.New("node state is older than what the gateway has verified")
)

// Method tells how an epoch was agreed.
type Method string

// MethodHPKE is the offline agreement of RFC 9180: offer and reply.
const MethodHPKE Method = "hpke"

// Start is one run of a node within an epoch: its first counter F and its 16 fresh random bytes.
type Start struct {
	F      uint64   `cbor:"1,keyasint"`
	Random [16]byte `cbor:"2,keyasint"`
}

// Epoch is the lifetime of one secret of one node.
type Epoch struct {
	Number uint32 `cbor:"1,keyasint"`
	// PRK is kept apart from the rest (Encoded). It comes from State.Keep and is freed when the epoch ends.
	PRK *secretmem.Box[schedule.PRK] `cbor:"-"`
	// Base is the first counter of the epoch; every counter below it is refused.
	Base uint64 `cbor:"3,keyasint"`
	// Agreed is the wall-clock time of the agreement in seconds since 1970.
	Agreed int64  `cbor:"4,keyasint"`
	Method Method `cbor:"5,keyasint"`
	// BindingHash is the hash of the node's part of the binding at the agreement.
	BindingHash [32]byte `cbor:"6,keyasint"`
	// Starts are the newest starts, ascending by F, at most KnownStarts.
	Starts []Start `cbor:"7,keyasint"`
	// Used is set, durably, before an agent accepts the first frame. Of a used epoch whose windows are lost nothing may
	// be accepted again but what lies above the ceilings.
	Used bool `cbor:"8,keyasint"`
}

// Node is one transmitting controller.
type Node struct {
	Kid identity.Kid `cbor:"1,keyasint"`
	// Floor is the highest epoch number ever agreed or offered; the next one lies above it.
	Floor uint32 `cbor:"2,keyasint"`
	// Verified is the highest counter verified from the node that was saved.
	Verified uint64 `cbor:"3,keyasint"`
	// Epochs are the acceptable epochs, ascending by number.
	Epochs []*Epoch `cbor:"4,keyasint"`
}

// Offer is a pending HPKE offer. Key is the wrapped private key: only the TPM that made it can use it.
type Offer struct {
	ID      [16]byte     `cbor:"1,keyasint"`
	Node    identity.Kid `cbor:"2,keyasint"`
	Epoch   uint32       `cbor:"3,keyasint"`
	Created int64        `cbor:"4,keyasint"`
	Bytes   []byte       `cbor:"5,keyasint"`
	Key     []byte       `cbor:"6,keyasint"`
	// Batch is what the TPM's counter of offers showed; the key can be used only while it still does.
	Batch uint64 `cbor:"7,keyasint"`
}

// State is everything the gateway keeps about its nodes. It is not safe for concurrent use.
type State struct {
	Version int      `cbor:"1,keyasint"`
	Nodes   []*Node  `cbor:"2,keyasint"`
	Offers  []*Offer `cbor:"3,keyasint"`
	// Ceilings holds a counter for every stream by stream id, above which nothing was published: all counters up to it count
	// as seen when the pinned windows are gone. After a clean stop they are exact.
	Ceilings map[uint32]uint64 `cbor:"4,keyasint"`
	// Batch is what the TPM's counter of offers showed when the last offer was made, 0 if none ever was.
	Batch uint64 `cbor:"5,keyasint"`

	// secrets is where those of the epochs lie.
	secrets secretmem.Arena
}

// Keep copies a secret to where an epoch of this state can hold it. The caller wipes his own. The error wraps
// secretmem.ErrMemory.
func (s *State) Keep(prk *schedule.PRK) (*secretmem.Box[schedule.PRK], error) {
	b, err := secretmem.NewBox[schedule.PRK](&s.secrets)
	if err != nil {
		return nil, fmt.Errorf("keep secret of an epoch: %w", err)
	}
	copy(b.Get()[:], prk[:])
	return b, nil
}

// Backing says what memory the secrets lie in; its kind is secretmem.KindNone while there are none.
func (s *State) Backing() secretmem.Backing { return s.secrets.Backing() }

// New returns an empty state.
func New() *State { return &State{Version: Version} }

func (s *State) check() error {
	if s.Version != Version {
		return fmt.Errorf("%w: version %d, want %d", ErrState, s.Version, Version)
	}
	kids := make(map[identity.Kid]bool)
	for _, n := range s.Nodes {
		if n == nil || kids[n.Kid] {
			return fmt.Errorf("%w: a node is missing or named twice", ErrState)
		}
		kids[n.Kid] = true
		for i, e := range n.Epochs {
			switch {
			case e == nil, e.Number == 0, e.Number > n.Floor, len(e.Starts) > KnownStarts:
				return fmt.Errorf("%w: node %s has an impossible epoch", ErrState, n.Kid)
			case i > 0 && e.Number <= n.Epochs[i-1].Number:
				return fmt.Errorf("%w: epochs of node %s are not ascending", ErrState, n.Kid)
			case e.Base == 0:
				return fmt.Errorf("%w: epoch %d of node %s has no first counter", ErrState, e.Number, n.Kid)
			}
			if !slices.IsSortedFunc(e.Starts, func(a, b Start) int { return cmp.Compare(a.F, b.F) }) {
				return fmt.Errorf("%w: starts of node %s are not ascending", ErrState, n.Kid)
			}
		}
	}
	for _, o := range s.Offers {
		if o == nil {
			return fmt.Errorf("%w: an offer is missing", ErrState)
		}
	}
	return nil
}

// Wipe overwrites every secret of s.
func (s *State) Wipe() {
	for _, n := range s.Nodes {
		for _, e := range n.Epochs {
			e.PRK.Free()
		}
	}
}

// Node returns the node with kid, or nil.
func (s *State) Node(kid identity.Kid) *Node {
	for _, n := range s.Nodes {
		if n.Kid == kid {
			return n
		}
	}
	return nil
}

// AddNode returns the node with kid, adding it when it is new.
func (s *State) AddNode(kid identity.Kid) *Node {
	if n := s.Node(kid); n != nil {
		return n
	}
	n := &Node{Kid: kid}
	s.Nodes = append(s.Nodes, n)
	slices.SortFunc(s.Nodes, func(a, b *Node) int { return bytes.Compare(a.Kid[:], b.Kid[:]) })
	return n
}

// NextEpoch returns the number for the node's next epoch: above the floor, and not congruent modulo 256 to one that is
// still acceptable, since a frame carries only the low 8 bits.
func (n *Node) NextEpoch() (uint32, error) {
	for next := uint64(n.Floor) + 1; next <= 1<<32-1; next++ {
		if !slices.ContainsFunc(n.Epochs, func(e *Epoch) bool { return uint8(e.Number) == uint8(next) }) {
			return uint32(next), nil
		}
	}
	return 0, fmt.Errorf("node %s: all epoch numbers are used", n.Kid)
}

// Agree records a new epoch. verified is the highest counter the gateway has verified from the node: a base at or below it
// is refused with ErrRollback, because counters never go back.
func (n *Node) Agree(e *Epoch, verified uint64) error {
	verified = max(verified, n.Verified)
	if e.Number == 0 || e.Number > n.Floor {
		return fmt.Errorf("node %s: epoch %d was not offered", n.Kid, e.Number)
	}
	if len(n.Epochs) > 0 && e.Number <= n.Epochs[len(n.Epochs)-1].Number {
		return fmt.Errorf("node %s: epoch %d is not above epoch %d", n.Kid, e.Number, n.Epochs[len(n.Epochs)-1].Number)
	}
	if e.Base <= verified {
		return fmt.Errorf("%w: node %s begins epoch %d at counter %d, but counter %d was verified", ErrRollback, n.Kid, e.Number, e.Base, verified)
	}
	for _, other := range n.Epochs {
		if uint8(other.Number) == uint8(e.Number) {
			return fmt.Errorf("node %s: epoch %d cannot be told from epoch %d, which is still acceptable", n.Kid, e.Number, other.Number)
		}
	}
	n.Epochs = append(n.Epochs, e)
	// At most the epoch that the node sends under and the new one stay acceptable; the rest is wiped.
	for len(n.Epochs) > 2 {
		n.Retire(n.Epochs[0].Number)
	}
	return nil
}

// Retire wipes and removes an epoch; it reports whether there was one.
func (n *Node) Retire(number uint32) bool {
	i := slices.IndexFunc(n.Epochs, func(e *Epoch) bool { return e.Number == number })
	if i < 0 {
		return false
	}
	n.Epochs[i].PRK.Free()
	n.Epochs = slices.Delete(n.Epochs, i, i+1)
	return true
}

// AddStart keeps a verified start and drops the oldest when there are too many. The caller has checked that F lies above
// that of every known start.
func (e *Epoch) AddStart(s Start) {
	if len(e.Starts) == KnownStarts {
		e.Starts = slices.Delete(e.Starts, 0, 1)
	}
	e.Starts = append(e.Starts, s)
}

// Age returns the age of the epoch by the wall clock. A wall clock that was put back gives no age below zero; it can make
// a key look younger, which is why the agent takes the larger of this and the time it has itself been running with it.
func (e *Epoch) Age(now time.Time) time.Duration {
	return max(0, now.Sub(time.Unix(e.Agreed, 0)))
}

// MayOffer says whether there is room for one more pending offer.
func (s *State) MayOffer() error {
	if len(s.Offers) >= MaxOffers {
		return fmt.Errorf("%d offers are pending; accept or discard them first", len(s.Offers))
	}
	return nil
}

// AddOffer keeps a pending offer and raises the node's floor, so that no other offer names the same epoch.
func (s *State) AddOffer(o *Offer) error {
	if err := s.MayOffer(); err != nil {
		return err
	}
	n := s.AddNode(o.Node)
	if o.Epoch <= n.Floor {
		return fmt.Errorf("node %s: epoch %d is not above the floor %d", o.Node, o.Epoch, n.Floor)
	}
	n.Floor = o.Epoch
	s.Offers = append(s.Offers, o)
	return nil
}

// CloseOffer removes a pending offer: an offer serves one payload only.
func (s *State) CloseOffer(id [16]byte) {
	s.Offers = slices.DeleteFunc(s.Offers, func(o *Offer) bool { return o.ID == id })
}
