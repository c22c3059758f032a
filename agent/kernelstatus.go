// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
)

// KernelStatus is what the kernel itself says of the filter, read from its hooks and the pinned maps without an agent's
// help. Names are those of the binding, where one was given.
type KernelStatus struct {
	Release    string            `json:"release"`
	BPFFS      string            `json:"bpffs"`
	Pins       PinStatus         `json:"pins"`
	Interfaces []KernelInterface `json:"interfaces"`
	Nodes      []KernelNode      `json:"nodes"`
	Streams    []KernelStream    `json:"streams"`
	// HookError says why the hooks of the interfaces could not be asked.
	HookError string `json:"hook_error,omitempty"`
}

// PinStatus says whose the pinned maps are. An agent takes them over if boot and binding are its own, and layout is or can be migrated.
type PinStatus struct {
	LayoutVersion uint32            `json:"layout_version"`
	Layout        string            `json:"layout"`
	SameLayout    bool              `json:"same_layout"`
	SameBoot      bool              `json:"same_boot"`
	Ready         bool              `json:"ready"`
	AgeS          int64             `json:"age_s"`
	Tables        string            `json:"tables"` // hash of what gives slots and indexes their meaning
	Maps          map[string]uint32 `json:"maps"`   // ids, for `bpftool map dump id`
	Foreign       []string          `json:"foreign,omitempty"`
	// Migration is "prepared" or "committed" where the maps are on their way to another layout; what is told is of the set in effect.
	Migration string `json:"migration,omitempty"`
	// Former are rings of another layout that an agent has still to read, or reads.
	Former []FormerRings `json:"former,omitempty"`
}

// FormerRings are the rings that an interface had in another layout.
type FormerRings struct {
	Folder string          `json:"folder"` // of the pins
	Slot   uint32          `json:"slot"`   // of the interface
	Rings  map[string]Fill `json:"rings"`
}

// KernelInterface is the filter of one interface. Verdicts are those of filter and agent, as in InterfaceStatus.
type KernelInterface struct {
	Slot uint32 `json:"slot"`
	// Name and Ifindex are empty where the interface is gone or lives in another network namespace.
	Name     string            `json:"name"`
	Ifindex  int               `json:"ifindex"`
	Attached bool              `json:"attached"`
	State    string            `json:"state"`
	Hook     string            `json:"hook,omitempty"`
	Link     uint32            `json:"link"`
	Program  *KernelProgram    `json:"program,omitempty"`
	Others   []KernelProgram   `json:"others,omitempty"` // at the same hook, in their order
	First    bool              `json:"first"`            // no other program judges before the filter
	Maps     map[string]uint32 `json:"maps"`
	Rings    map[string]Fill   `json:"rings"`
	Verdicts map[string]uint64 `json:"verdicts"`
}

// Fill is how full a ring is, in bytes; Used is null where it could not be read.
type Fill struct {
	Used *uint64 `json:"used"`
	Size uint64  `json:"size"`
}

// KernelProgram is a program at a hook.
type KernelProgram struct {
	ID    uint32 `json:"id"`
	Name  string `json:"name"`
	Tag   string `json:"tag"`
	Hook  string `json:"hook,omitempty"`
	Link  uint32 `json:"link,omitempty"`
	AgeS  int64  `json:"age_s"`
	JITed bool   `json:"jited"`
	Error string `json:"error,omitempty"`
}

// KernelNode is what the filter knows of a node.
type KernelNode struct {
	Index    uint32        `json:"index"`
	Name     string        `json:"name,omitempty"`
	Verified uint64        `json:"highest_verified"`
	Epochs   []KernelEpoch `json:"epochs"`
}

// KernelEpoch is an epoch that the filter accepts.
type KernelEpoch struct {
	Number uint32   `json:"epoch"`
	Base   uint64   `json:"base"`
	Starts []uint64 `json:"starts"`
}

// KernelStream is a protected identifier.
type KernelStream struct {
	Slot       uint32 `json:"slot"`
	Stream     uint32 `json:"stream"`
	Node       uint32 `json:"node"`
	Interface  uint32 `json:"interface"` // its slot
	CANID      string `json:"id"`
	Role       string `json:"role"`
	Source     string `json:"source,omitempty"`
	WindowSize uint16 `json:"window_size"`
	Highest    uint64 `json:"highest"`
	Committed  uint64 `json:"committed"`
	Published  uint64 `json:"published"`
	Shed       uint64 `json:"shed"`
	// Refused is as in StreamStatus.
	Refused map[string]uint64 `json:"refused"`
}

// What KernelInterface.State says.
const (
	StateAttached  = "attached"
	StateGone      = "interface is gone"
	StateElsewhere = "attached in another network namespace"
	StateNoLink    = "no pinned link: not filtering" // or the interface has never been there
	StateUnknown   = "link cannot be read"
)

// ReadKernel reads what is pinned under root and what runs at the hooks of the caller's network namespace. binding gives
// names; it may be nil. loader.ErrNoPins means that there is nothing.
func ReadKernel(root string, binding *policy.Binding) (*KernelStatus, error) {
	i, err := loader.Inspect(root)
	if err != nil {
		return nil, err
	}
	hooks, hookErr := loader.Hooks()
	return newKernelStatus(i, hooks, hookErr, binding), nil
}

func newKernelStatus(i *loader.Inspection, hooks []loader.Hook, hookErr error, binding *policy.Binding) *KernelStatus {
	now := uint64(bootTime())
	k := &KernelStatus{
		Release: kernelRelease(), BPFFS: i.Root,
		Pins: PinStatus{
			LayoutVersion: i.Meta.LayoutVersion, Layout: hex.EncodeToString(i.Meta.Layout[:]), SameLayout: i.Meta.SameLayout,
			SameBoot: i.Meta.SameBoot, Ready: i.Meta.Ready, Tables: hex.EncodeToString(i.Meta.Binding[:]), Maps: i.MapIDs, Foreign: i.Foreign,
		},
		Interfaces: []KernelInterface{}, Nodes: []KernelNode{}, Streams: []KernelStream{},
	}
	k.Pins.Migration = i.Migration
	for _, f := range i.Former {
		k.Pins.Former = append(k.Pins.Former, FormerRings{f.Folder, f.Slot, map[string]Fill{"candidates": newFill(f.Candidates), "control": newFill(f.Control)}})
	}
	if created := i.Meta.CreatedNS; created != 0 && now > created {
		k.Pins.AgeS = int64(now-created) / 1e9
	}
	if hookErr != nil {
		k.HookError = hookErr.Error()
	}
	for _, b := range i.Buses {
		k.Interfaces = append(k.Interfaces, newKernelInterface(b, hooks, int64(now), i.Meta.SameLayout))
	}
	names := newNames(binding)
	for _, n := range i.Nodes {
		kn := KernelNode{Index: n.Index, Verified: n.HighestVerified, Epochs: []KernelEpoch{}}
		for _, e := range n.Epochs {
			kn.Epochs = append(kn.Epochs, KernelEpoch{Number: e.Epoch, Base: e.Base, Starts: append([]uint64{}, e.Starts...)})
		}
		k.Nodes = append(k.Nodes, kn)
	}
	for _, s := range i.Streams {
		name := names[s.Stream.StreamID]
		k.Streams = append(k.Streams, KernelStream{
			Slot: s.Stream.Slot, Stream: s.Stream.StreamID, Node: s.Stream.Node, Interface: s.Key.Iface,
			CANID: policy.CANID(s.Key.CANID).String(), Role: policy.Role(s.Stream.Role).String(), Source: name.source,
			WindowSize: s.Stream.WindowSize, Highest: s.Highest, Committed: s.Committed, Published: s.Published, Shed: s.Shed,
			Refused: refusedByName(&s.Refused),
		})
		for n := range k.Nodes {
			if k.Nodes[n].Index == s.Stream.Node && name.node != "" {
				k.Nodes[n].Name = name.node
			}
		}
	}
	return k
}

func newKernelInterface(b loader.PinnedBus, hooks []loader.Hook, now int64, sameLayout bool) KernelInterface {
	k := KernelInterface{
		Slot: b.Slot, Link: b.LinkID, Maps: b.MapIDs, Rings: map[string]Fill{"candidates": newFill(b.Candidates), "control": newFill(b.Control)},
		Verdicts: make(map[string]uint64),
	}
	if sameLayout {
		for v := range loader.NumVerdicts {
			k.Verdicts[loader.Verdict(v).String()] = b.Filter[v] + b.Agent[v]
		}
	}
	k.place(b, hooks, now)
	if k.Program == nil && b.Program.ID != 0 {
		p := newKernelProgram(b.Program, now)
		k.Program = &p
	}
	return k
}

// place finds the hook at which the bus's program runs. Without a pinned link it goes by the program or its maps: each instance
// has a ring of its own.
func (k *KernelInterface) place(b loader.PinnedBus, hooks []loader.Hook, now int64) {
	for _, h := range hooks {
		for n, p := range h.Programs {
			if b.LinkID != 0 && p.Link != b.LinkID || b.LinkID == 0 && p.ID != b.Program.ID && !usesMaps(p, b.MapIDs) {
				continue
			}
			own := newKernelProgram(p, now)
			k.Name, k.Ifindex, k.Hook, k.Program, k.Link = h.Interface.Name, h.Interface.Index, p.Hook, &own, p.Link
			k.Attached, k.First, k.State = true, n == 0, StateAttached
			for m, other := range h.Programs {
				if m != n {
					k.Others = append(k.Others, newKernelProgram(other, now))
				}
			}
			return
		}
	}
	switch {
	case b.LinkErr != nil && isPermission(b.LinkErr):
		k.State = StateUnknown
	case b.LinkErr != nil && b.Hook == "" && errors.Is(b.LinkErr, fs.ErrNotExist):
		k.State = StateNoLink
	case b.LinkErr != nil:
		k.State = StateUnknown
	case b.Ifindex == 0:
		k.State = StateGone
	default:
		k.State = StateElsewhere
	}
}

func usesMaps(p loader.Program, maps map[string]uint32) bool {
	for _, id := range p.MapIDs {
		if id == maps["candidates"] {
			return true
		}
	}
	return false
}

func newKernelProgram(p loader.Program, now int64) KernelProgram {
	k := KernelProgram{ID: p.ID, Name: p.Name, Tag: p.Tag, Hook: p.Hook, Link: p.Link, JITed: p.JITed}
	if p.Loaded > 0 {
		k.AgeS = int64((time.Duration(now) - p.Loaded) / time.Second)
	}
	if p.Err != nil {
		k.Error = p.Err.Error()
	}
	return k
}

func newFill(r loader.RingFill) Fill {
	f := Fill{Size: r.Size}
	if r.Known {
		f.Used = &r.Used
	}
	return f
}

// boundName is what a binding calls a stream.
type boundName struct{ node, source string }

func newNames(b *policy.Binding) map[uint32]boundName {
	names := make(map[uint32]boundName)
	if b == nil {
		return names
	}
	for _, n := range b.Nodes {
		for _, h := range n.Heartbeats {
			names[h.StreamID] = boundName{node: n.Name}
		}
		for _, s := range n.Streams {
			names[s.StreamID] = boundName{node: n.Name, source: s.Source}
		}
	}
	return names
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Sprintf("unknown (%v)", err)
	}
	return unix.ByteSliceToString(u.Release[:])
}
