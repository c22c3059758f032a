// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/secretmem"
	"github.com/cellward/cellward/loader"
)

// ErrIdentity says that a state folder holds another identity than the one that the binding pins for the node.
var ErrIdentity = errors.New("identity in the state folder is not the node's in the binding")

// NodeOptions say which node seals what.
type NodeOptions struct {
	Set     *policy.Set
	Node    string
	Station station.Options
	// Netns is the path of the network namespace of the node's interfaces; empty: the caller's.
	Netns string
	// Interfaces maps interfaces of the binding to the names they have here; a name that is missing stands for itself.
	Interfaces map[string]string
	// Buses maps bus names of the source to interfaces of the binding. A node with one interface needs none.
	Buses  map[string]string
	Source trace.Source
	// Ready is called when all is open that the node needs, and before its first frame; nil: nothing is. An error ends the run.
	Ready func() error
	// Speed is a factor on the pace of the time stamps; 0 sends as fast as it goes.
	Speed float64
}

// Report says what a run of a node has done.
type Report struct {
	Node         string `json:"node"`
	Epoch        uint32 `json:"epoch"`
	FirstCounter uint64 `json:"first_counter"`
	Offered      uint64 `json:"offered"`
	Sealed       uint64 `json:"sealed"`
	Unclaimed    uint64 `json:"unclaimed"`
	Other        uint64 `json:"remote_or_error"`
	// Dropped counts frames that the kernel had no room for because this node did not take them in time; they were never offered.
	Dropped    uint64  `json:"dropped"`
	Heartbeats uint64  `json:"heartbeats"`
	Starts     uint64  `json:"start_records"`
	KeyMemory  string  `json:"key_memory"`
	ElapsedS   float64 `json:"elapsed_s"`
}

// OpenNode opens a node's state folder and checks its identity against the binding.
func OpenNode(ctx context.Context, set *policy.Set, name string, o station.Options) (*station.Station, error) {
	node, ok := set.Node(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownNode, name)
	}
	s, err := station.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open node %s: %w", name, err)
	}
	if s.Public.Kid() != identity.Kid(node.Identity.KID) {
		return nil, errors.Join(fmt.Errorf("open node %s: %w: %s, want %s", name, ErrIdentity, s.Public.Kid(), node.Identity.KID), s.Close())
	}
	return s, nil
}

// RunNode starts a node and seals a source to its end, or until ctx ends.
func RunNode(ctx context.Context, o NodeOptions) (report Report, err error) {
	s, err := OpenNode(ctx, o.Set, o.Node, o.Station)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	store, err := OpenStore(s.Vault)
	if err != nil {
		return Report{}, err
	}
	defer store.Wipe()
	if err := s.ReleaseTPM(); err != nil {
		return Report{}, err
	}
	conns, buses, err := o.connect()
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	if err != nil {
		return Report{}, err
	}
	keys := new(aead.KeyMemory)
	selected, err := aead.Select(aead.Options{Keys: keys})
	if err != nil {
		return Report{}, err
	}
	if o.Ready != nil {
		if err := o.Ready(); err != nil {
			return Report{}, err
		}
	}
	begun := time.Now()
	sealer, err := NewSealer(store, Options{Set: o.Set, Node: o.Node, Engine: selected.Engine, Buses: buses, Names: o.Buses})
	if err != nil {
		return Report{}, err
	}
	defer sealer.Close()
	// What the TPM and the libraries have left on the way to here.
	secretmem.Collect()
	err = sealer.Feed(ctx, o.Source, o.Speed)
	c, epoch := sealer.Counts(), store.state.Epoch
	var dropped uint64
	if l, ok := o.Source.(interface{ Dropped() uint64 }); ok {
		dropped = l.Dropped()
	}
	return Report{
		Node: o.Node, Epoch: epoch, FirstCounter: sealer.Run().F, Offered: c.Offered, Sealed: c.Sealed, Unclaimed: c.Unclaimed,
		Other: c.Other, Dropped: dropped, Heartbeats: c.Heartbeats, Starts: c.Starts, ElapsedS: time.Since(begun).Seconds(),
		KeyMemory: max(keys.Backing().Kind, store.state.secrets.Backing().Kind).String(),
	}, err
}

// connect opens the node's interfaces. What it returns is to be closed even with an error.
func (o *NodeOptions) connect() (conns []*loader.CANConn, buses map[string]Sender, err error) {
	var ns *loader.Netns
	if o.Netns != "" {
		if ns, err = loader.OpenNetns(o.Netns); err != nil {
			return nil, nil, err
		}
		defer ns.Close()
	}
	node, _ := o.Set.Node(o.Node)
	buses = make(map[string]Sender)
	for _, slot := range node.Slots {
		name := o.Set.Streams[slot].Interface.Name
		if buses[name] != nil {
			continue
		}
		local := name
		if l, ok := o.Interfaces[name]; ok {
			local = l
		}
		c, err := loader.OpenCAN(ns, local)
		if err != nil {
			return conns, nil, err
		}
		conns = append(conns, c)
		buses[name] = c
	}
	return conns, buses, nil
}
