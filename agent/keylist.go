// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/crypto/identity"
)

// KeyList is what is known of the keys of all nodes. It shows no secret.
type KeyList struct {
	// Via says who has answered: ViaAgent or ViaFolder.
	Via   string     `json:"via"`
	Nodes []NodeKeys `json:"nodes"`
}

// Who did something with keys.
const (
	ViaAgent  = "agent"  // the running agent
	ViaFolder = "folder" // this process, in the state folder
)

// NodeKeys is one node's part.
type NodeKeys struct {
	Node     string      `json:"node"`
	KID      string      `json:"kid"`
	Floor    uint32      `json:"floor"`
	Verified uint64      `json:"highest_verified"`
	Epochs   []EpochKeys `json:"epochs"`
	Pending  []Pending   `json:"pending"`
	// Failures count frames and start records of the node that the running agent has refused, by verdict, since it was started.
	// What the filter refuses is counted by interface.
	Failures map[string]uint64 `json:"failures,omitempty"`
}

// EpochKeys is one acceptable epoch. Times are seconds since 1970.
type EpochKeys struct {
	Number uint32 `json:"epoch"`
	Base   uint64 `json:"base"`
	Method string `json:"method"`
	Agreed int64  `json:"agreed"`
	AgeS   int64  `json:"age_s"`
	// Used says that an agent has run with the epoch.
	Used bool `json:"used"`
	// RotateFrom is when the next epoch should be agreed, Expires when this one is not accepted any more.
	RotateFrom int64 `json:"rotate_from"`
	Expires    int64 `json:"expires"`
	// Due says that the key is to be replaced, and that no newer epoch is agreed.
	Due bool `json:"due"`

	// State, Frames and Failed are the running agent's: empty without one.
	State string `json:"state,omitempty"`
	// Frames have verified under the epoch, Failed carried its number and a wrong tag, since the agent was started.
	Frames *uint64 `json:"frames,omitempty"`
	Failed *uint64 `json:"failed,omitempty"`
}

// What EpochKeys.State says.
const (
	EpochWaiting    = "waiting for the node's start"
	EpochStarted    = "started, no frame yet"
	EpochInUse      = "in use"
	EpochSuperseded = "ends after the overlap"
)

// Pending is an offer without a reply.
type Pending struct {
	Epoch   uint32 `json:"epoch"`
	ID      string `json:"id"`
	Created int64  `json:"created"` // seconds since 1970
}

// dueShare is the part of the rotation interval after which a key is to be replaced, in tenths.
const dueShare = 9

// rotateAfter is the age at which a key is to be replaced.
func rotateAfter(set *policy.Set) time.Duration {
	return set.Policy.KeyManagement.RotationPolicy.Interval / 10 * dueShare
}

// hardLimit is the age beyond which no key is accepted.
func hardLimit(set *policy.Set) time.Duration {
	return set.Policy.KeyManagement.RotationPolicy.Interval + set.Binding.Gateway.Grace
}

// ListKeys reads what a state says about the keys of a set's nodes.
func ListKeys(set *policy.Set, state *epoch.State, now time.Time) *KeyList {
	all := &KeyList{Via: ViaFolder}
	for _, n := range set.Nodes {
		kid := identity.Kid(n.Identity.KID)
		k := NodeKeys{Node: n.Name, KID: n.Identity.KID.String(), Epochs: []EpochKeys{}, Pending: []Pending{}}
		if st := state.Node(kid); st != nil {
			k.Floor, k.Verified = st.Floor, st.Verified
			for i, e := range st.Epochs {
				x := EpochKeys{
					Number: e.Number, Base: e.Base, Method: string(e.Method), Agreed: e.Agreed, AgeS: int64(e.Age(now) / time.Second), Used: e.Used,
					RotateFrom: e.Agreed + int64(rotateAfter(set)/time.Second), Expires: e.Agreed + int64(hardLimit(set)/time.Second),
				}
				x.Due = i == len(st.Epochs)-1 && e.Age(now) >= rotateAfter(set)
				k.Epochs = append(k.Epochs, x)
			}
		}
		for _, o := range state.Offers {
			if o.Node == kid {
				k.Pending = append(k.Pending, Pending{o.Epoch, fmt.Sprintf("%x", o.ID), o.Created})
			}
		}
		all.Nodes = append(all.Nodes, k)
	}
	return all
}

// WriteText writes l as a table, with what is pending and what was refused below.
func (l *KeyList) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tKID\tEPOCH\tAGE\tAGREED BY\tFRAMES\tFAILED\tSTATE\tROTATE FROM\tEXPIRES")
	for _, n := range l.Nodes {
		if len(n.Epochs) == 0 {
			fmt.Fprintf(t, "%s\t%s\tnone\t-\t-\t-\t-\t-\t-\t-\n", n.Node, n.KID)
		}
		for _, e := range n.Epochs {
			fmt.Fprintf(t, "%s\t%s\t%d\t%v\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Node, n.KID, e.Number, time.Duration(e.AgeS)*time.Second, e.Method,
				count(e.Frames), count(e.Failed), e.describe(), date(e.RotateFrom), date(e.Expires))
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	var notes strings.Builder
	for _, n := range l.Nodes {
		for _, p := range n.Pending {
			fmt.Fprintf(&notes, "node %s: offer of epoch %d is pending since %s\n", n.Node, p.Epoch, date(p.Created))
		}
		for _, v := range slices.Sorted(maps.Keys(n.Failures)) {
			fmt.Fprintf(&notes, "node %s: %s %d\n", n.Node, v, n.Failures[v])
		}
	}
	fmt.Fprintf(&notes, "from %s\n", describeVia(l.Via))
	if _, err := io.WriteString(w, notes.String()); err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	return nil
}

func (e *EpochKeys) describe() string {
	s := e.State
	if s == "" {
		s = "not used yet"
		if e.Used {
			s = "used"
		}
	}
	if e.Due {
		s += ", ROTATION DUE"
	}
	return s
}

// describeVia says in words who has done something.
func describeVia(via string) string {
	if via == ViaAgent {
		return "the running agent"
	}
	return "the state folder; no agent is running"
}

func count(n *uint64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func date(seconds int64) string { return time.Unix(seconds, 0).UTC().Format("2006-01-02 15:04Z") }
