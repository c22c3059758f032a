// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/crypto/identity"
)

// NodeKeys is what the gateway's state folder says about one node.
type NodeKeys struct {
	Node     string      `json:"node"`
	KID      string      `json:"kid"`
	Floor    uint32      `json:"floor"`
	Verified uint64      `json:"highest_verified"`
	Epochs   []EpochKeys `json:"epochs"`
	Pending  []Pending   `json:"pending"`
}

// EpochKeys is one acceptable epoch.
type EpochKeys struct {
	Number uint32 `json:"epoch"`
	Base   uint64 `json:"base"`
	Method string `json:"method"`
	AgeS   int64  `json:"age_s"`
	Used   bool   `json:"used"`
}

// Pending is an offer without a reply.
type Pending struct {
	Epoch   uint32 `json:"epoch"`
	ID      string `json:"id"`
	Created int64  `json:"created"` // seconds since 1970
}

// List reads the gateway's state folder. It shows no secret.
func List(ctx context.Context, set *policy.Set) (all []NodeKeys, err error) {
	g, err := openGateway(ctx, set)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	state := g.state
	now := time.Now()
	for _, n := range set.Nodes {
		k := NodeKeys{Node: n.Name, KID: n.Identity.KID.String(), Epochs: []EpochKeys{}, Pending: []Pending{}}
		kid := identity.Kid(n.Identity.KID)
		if st := state.Node(kid); st != nil {
			k.Floor, k.Verified = st.Floor, st.Verified
			for _, e := range st.Epochs {
				k.Epochs = append(k.Epochs, EpochKeys{e.Number, e.Base, string(e.Method), int64(e.Age(now).Seconds()), e.Used})
			}
		}
		for _, o := range state.Offers {
			if o.Node == kid {
				k.Pending = append(k.Pending, Pending{o.Epoch, fmt.Sprintf("%x", o.ID), o.Created})
			}
		}
		all = append(all, k)
	}
	return all, nil
}

// WriteList writes a list as a table.
func WriteList(w io.Writer, all []NodeKeys) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tKID\tEPOCH\tAGE\tAGREED BY\tUSED\tPENDING OFFERS")
	for _, n := range all {
		if len(n.Epochs) == 0 {
			fmt.Fprintf(t, "%s\t%s\tnone\t-\t-\t-\t%d\n", n.Node, n.KID, len(n.Pending))
		}
		for _, e := range n.Epochs {
			fmt.Fprintf(t, "%s\t%s\t%d\t%v\t%s\t%t\t%d\n", n.Node, n.KID, e.Number, time.Duration(e.AgeS)*time.Second, e.Method, e.Used, len(n.Pending))
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}
