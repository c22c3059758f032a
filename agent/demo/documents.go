// SPDX-License-Identifier: Apache-2.0

package demo

import (
	_ "embed"
	"errors"
	"fmt"
	"math/bits"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/trace"
)

// defaultPolicy is the policy of the demonstration: AES-256-GCM, a TPM 2.0, 30 days, a window of 1,024.
//
//go:embed policy.yaml
var defaultPolicy []byte

// DefaultPolicy returns the policy of the demonstration.
func DefaultPolicy() (*policy.Policy, error) { return policy.ParsePolicy("policy.yaml", defaultPolicy) }

// nodeName is the one node of a binding that is made from a log.
const nodeName = "bmu"

var (
	errTooManyStreams = errors.New("log has more identifiers than a node may have streams; give a binding")
	errNoIdentifier   = errors.New("log leaves no identifier free for a heartbeat stream")
)

// place is where a demonstration keeps its sockets, states and pins.
type place struct {
	dir   string
	bpffs string
}

func (p place) gatewayState() string  { return filepath.Join(p.dir, "gateway") }
func (p place) edgeState() string     { return filepath.Join(p.dir, "edge") }
func (p place) run() string           { return filepath.Join(p.dir, "run") }
func (p place) ringSocket() string    { return filepath.Join(p.run(), "ring.sock") }
func (p place) controlSocket() string { return filepath.Join(p.run(), "control.sock") }
func (p place) policy() string        { return filepath.Join(p.dir, "policy.yaml") }
func (p place) binding() string       { return filepath.Join(p.dir, "binding.yaml") }
func (p place) offer() string         { return filepath.Join(p.dir, "offer") }
func (p place) reply() string         { return filepath.Join(p.dir, "reply") }

// BindingFor makes a binding from what a log holds: every identifier is a stream, in ascending order round-robin to the
// policy's data sources, with the rate that the log shows; each bus of the log gets an interface of its own. layout adds
// signals to streams whose layout is known.
func BindingFor(p *policy.Policy, sum *trace.Summary, layout []trace.Message) (*policy.Binding, map[string]string, error) {
	b := &policy.Binding{Name: "demo", Policy: p.Name}
	names := make(map[string]string)
	node := policy.Node{Name: nodeName}
	for i, s := range p.DataSources {
		b.Sources = append(b.Sources, policy.Source{Identifier: s.Identifier, ID: uint32(i + 1)})
	}
	for i, name := range sum.Buses {
		iface := fmt.Sprintf("can%d", i)
		names[name] = iface
		b.Interfaces = append(b.Interfaces, policy.Interface{Name: iface, Index: uint8(i + 1), Carrier: policy.CANFD})
		id, err := freeIdentifier(sum, name)
		if err != nil {
			return nil, nil, err
		}
		node.Heartbeats = append(node.Heartbeats, policy.Heartbeat{StreamID: uint32(i + 1), Interface: iface, CANID: id})
	}
	streams := slices.Clone(sum.Streams)
	slices.SortStableFunc(streams, func(x, y trace.StreamSummary) int { return int(x.ID) - int(y.ID) })
	for _, s := range streams {
		if s.Count == 0 {
			continue
		}
		n := len(node.Streams)
		st := policy.Stream{
			StreamID: uint32(len(sum.Buses) + 1 + n), Interface: names[s.Bus], CANID: canID(s.StreamKey),
			Source: p.DataSources[n%len(p.DataSources)].Identifier,
		}
		if s.Period > 0 {
			st.SamplingRate = policy.RateOf(s.Period)
		}
		for _, m := range layout {
			if m.ID == s.ID && !s.Extended {
				st.Source, st.Signals = m.Source, signalsOf(m)
			}
		}
		node.Streams = append(node.Streams, st)
	}
	if len(node.Streams)+len(node.Heartbeats) > policy.MaxStreamsPerNode {
		return nil, nil, fmt.Errorf("%w: %d", errTooManyStreams, len(node.Streams))
	}
	b.Nodes = []policy.Node{node}
	return b, names, nil
}

func canID(k trace.StreamKey) policy.CANID {
	if k.Extended {
		return policy.CANID(k.ID | policy.CANEFF)
	}
	return policy.CANID(k.ID)
}

// freeIdentifier finds the highest 11-bit identifier that nobody uses on a bus: the lowest priority, for heartbeats.
func freeIdentifier(sum *trace.Summary, bus string) (policy.CANID, error) {
	for id := uint32(policy.MaxCANSFF); id > 0; id-- {
		if !slices.ContainsFunc(sum.Streams, func(s trace.StreamSummary) bool { return s.Bus == bus && s.ID == id && !s.Extended }) {
			return policy.CANID(id), nil
		}
	}
	return 0, fmt.Errorf("%w on %s", errNoIdentifier, bus)
}

// signalsOf describes the signals of a simulated message in a binding.
func signalsOf(m trace.Message) []policy.Signal {
	selector := ""
	for _, s := range m.Signals {
		if s.Multiplexor {
			selector = s.Name
		}
	}
	var all []policy.Signal
	for _, s := range m.Signals {
		g := policy.Signal{
			Name: s.Name, StartBit: s.StartBit, Length: s.Length, ByteOrder: policy.LittleEndian, Signed: s.Signed,
			Scale: s.Scale, Offset: s.Offset, Unit: s.Unit,
		}
		if s.Multiplexed {
			g.Multiplexor = &policy.Multiplexor{Signal: selector, Values: []uint32{uint32(s.Mux)}}
		}
		all = append(all, g)
	}
	return all
}

// bytesPerCandidate is a record of the 64-byte class with its header in the ring.
const bytesPerCandidate = 96 + 8

// ringBytes sizes a candidate ring so that frames stay below three quarters of it, where shedding begins.
func ringBytes(frames uint64) int {
	const least, most = 1 << 20, 256 << 20
	need := frames * bytesPerCandidate * 4 / 3
	return int(min(max(nextPower(need), least), most))
}

func nextPower(n uint64) uint64 { return 1 << bits.Len64(n) }

// complete fills in what only this demonstration knows: identities, TPM, folders, sockets and sizes.
func complete(b *policy.Binding, at place, tpm string, gateway, node policy.Identity, frames uint64) {
	b.Gateway = policy.Gateway{
		Name: "gateway", Identity: gateway, TPM: tpm, StateDirectory: at.gatewayState(), User: strconv.Itoa(AgentUID),
		BPFFS: at.bpffs, CandidateRing: ringBytes(frames),
		Ring:    policy.Ring{Slots: int(min(max(nextPower(frames), 1<<12), policy.MaxRingSlots)), Socket: at.ringSocket()},
		Control: policy.Control{Socket: at.controlSocket()},
	}
	b.Nodes[0].Identity = node
}
