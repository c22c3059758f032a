// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cellward/cellward/agent/event/kind"
)

// ErrFiles is returned for a choice of documents that cannot be shown together.
var ErrFiles = errors.New("want one policy, one binding, or one of each")

// View is what `cellward policy show` prints: the documents with every default, reference and unit resolved.
type View struct {
	Policy  *PolicyView  `json:"policy,omitempty"`
	Binding *BindingView `json:"binding,omitempty"`
}

// PolicyView is a policy, resolved.
type PolicyView struct {
	Name                 string           `json:"name"`
	Cipher               string           `json:"cipher"`
	KDF                  string           `json:"keyDerivationFunction"`
	TagBits              int              `json:"authenticationTagBits"`
	Provider             string           `json:"provider"`
	Vendor               string           `json:"vendor"`
	KeyStorage           string           `json:"keyStorage"`
	RotationInterval     string           `json:"rotationInterval"`
	RotationSeconds      float64          `json:"rotationIntervalSeconds"`
	RotationTrigger      string           `json:"rotationTrigger"`
	IntegrityEnforcement string           `json:"integrityEnforcement"`
	WindowSize           int              `json:"replayWindowSize"`
	DataSources          []DataSourceView `json:"dataSources"`
}

// DataSourceView is a data source, resolved.
type DataSourceView struct {
	Identifier   string      `json:"identifier"`
	SourceID     uint32      `json:"source,omitempty"` // from the binding
	SamplingRate string      `json:"samplingRate"`
	PeriodNS     int64       `json:"periodNs"`
	Sensitivity  Sensitivity `json:"sensitivity"`
	Streams      *int        `json:"streams,omitempty"` // from the binding
}

// BindingView is a binding, resolved.
type BindingView struct {
	Name       string          `json:"name"`
	Policy     string          `json:"policy"`
	Gateway    GatewayView     `json:"gateway"`
	Interfaces []InterfaceView `json:"interfaces"` // ascending by index
	Sources    []SourceView    `json:"sources"`
	Nodes      []NodeView      `json:"nodes"`   // ascending by name
	Streams    []StreamView    `json:"streams"` // ascending by id
	// Escalation is there if the document has one: what applies to each sensitivity, and the kinds that it names.
	Escalation *EscalationView `json:"escalation,omitempty"`
}

// EscalationView is an escalation, resolved.
type EscalationView struct {
	IntervalSeconds float64         `json:"intervalSeconds"`
	Thresholds      []ThresholdView `json:"thresholds"`
	Kinds           []KindRuleView  `json:"kinds,omitempty"`
}

// ThresholdView is a threshold.
type ThresholdView struct {
	Sensitivity Sensitivity `json:"sensitivity"`
	Cause       kind.Cause  `json:"cause"`
	Raise       int         `json:"raise"`
	Of          int         `json:"of"`
	Clear       int         `json:"clear"`
	LatchAfter  int         `json:"latchAfter"`
}

// KindRuleView is the rule for a kind.
type KindRuleView struct {
	Kind      kind.Kind `json:"kind"`
	Count     uint64    `json:"count"`
	Immediate bool      `json:"immediate"`
	Latch     bool      `json:"latch"`
}

func (e *Escalation) view() *EscalationView {
	if e.Interval == 0 && e.Thresholds == nil && e.Kinds == nil {
		return nil
	}
	v := &EscalationView{IntervalSeconds: e.IntervalOrDefault().Seconds()}
	for s := Critical; s >= Low; s-- {
		for _, name := range causeNames() {
			c, _ := kind.ParseCause(name)
			v.Thresholds = append(v.Thresholds, ThresholdView(e.Threshold(s, c)))
		}
	}
	for _, k := range e.Kinds {
		v.Kinds = append(v.Kinds, KindRuleView(k))
	}
	return v
}

func (e *EscalationView) writeText(w io.Writer) {
	fmt.Fprintf(w, "\nESCALATION\tCAUSE\tRAISE\tOF\tCLEAR\tLATCH AFTER\n")
	for _, t := range e.Thresholds {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\n", t.Sensitivity, t.Cause, t.Raise, t.Of, t.Clear, t.LatchAfter)
	}
	fmt.Fprintf(w, "interval\t%gs\n", e.IntervalSeconds)
	if len(e.Kinds) > 0 {
		fmt.Fprintf(w, "\nKIND\tCOUNT\tIMMEDIATE\tLATCH\n")
	}
	for _, k := range e.Kinds {
		fmt.Fprintf(w, "%s\t%d\t%t\t%t\n", k.Kind, k.Count, k.Immediate, k.Latch)
	}
}

// GatewayView is a gateway, resolved.
type GatewayView struct {
	Name               string  `json:"name"`
	KID                string  `json:"kid"`
	PublicKey          string  `json:"publicKey"`
	TPM                string  `json:"tpm"`
	StateDirectory     string  `json:"stateDirectory"`
	User               string  `json:"user"`
	BPFFS              string  `json:"bpffs"`
	Grace              string  `json:"grace"`
	GraceSeconds       float64 `json:"graceSeconds"`
	CandidateRingBytes int     `json:"candidateRingBytes"`
	RingSlots          int     `json:"ringSlots"`
	RingSocket         string  `json:"ringSocket"`
	RingGroup          string  `json:"ringGroup,omitempty"`
	ControlSocket      string  `json:"controlSocket"`
}

// InterfaceView is an interface.
type InterfaceView struct {
	Name    string  `json:"name"`
	Index   uint8   `json:"index"`
	Carrier Carrier `json:"carrier"`
}

// SourceView is the number of a data source.
type SourceView struct {
	Identifier string `json:"identifier"`
	SourceID   uint32 `json:"source"`
}

// NodeView is a node, resolved.
type NodeView struct {
	Name        string `json:"name"`
	KID         string `json:"kid"`
	PublicKey   string `json:"publicKey"`
	Curve       string `json:"curve"`
	BindingHash string `json:"bindingHash"`
	Streams     int    `json:"streams"` // heartbeat streams included
}

// StreamView is a stream, resolved. What comes from the policy is absent when only a binding is shown.
type StreamView struct {
	StreamID     uint32       `json:"stream"`
	Role         Role         `json:"role"`
	Node         string       `json:"node"`
	Interface    string       `json:"interface"`
	InterfaceIdx uint8        `json:"interfaceIndex"`
	Carrier      Carrier      `json:"carrier"`
	ID           uint32       `json:"id"`
	Extended     bool         `json:"extended"`
	SourceID     uint32       `json:"source"`
	Source       string       `json:"sourceIdentifier,omitempty"`
	SamplingRate string       `json:"samplingRate,omitempty"`
	PeriodNS     int64        `json:"periodNs,omitempty"`
	Sensitivity  Sensitivity  `json:"sensitivity,omitempty"`
	WindowSize   int          `json:"replayWindowSize,omitempty"`
	Signals      []SignalView `json:"signals,omitempty"`
}

// SignalView is a signal with its defaults.
type SignalView struct {
	Name        string           `json:"name"`
	StartBit    int              `json:"startBit"`
	Length      int              `json:"length"`
	ByteOrder   ByteOrder        `json:"byteOrder"`
	Signed      bool             `json:"signed"`
	Scale       float64          `json:"scale"`
	Offset      float64          `json:"offset"`
	Unit        string           `json:"unit,omitempty"`
	Multiplexor *MultiplexorView `json:"multiplexor,omitempty"`
}

// MultiplexorView says in which bodies a signal is present.
type MultiplexorView struct {
	Signal string   `json:"signal"`
	Values []uint32 `json:"values"`
}

// Show reads a policy, a binding, or one of each in either order, and describes what they say. Errors are those of
// [Load].
func Show(files []string) (View, error) {
	var p *Policy
	var b *parsed
	var errs []error
	for _, file := range files {
		doc, err := load(file, KindPolicy, KindBinding)
		switch {
		case err != nil:
			errs = append(errs, err)
		case doc.policy() != nil && p == nil:
			p = doc.policy()
		case doc.binding() != nil && b == nil:
			b = doc
		default:
			return View{}, fmt.Errorf("show %s: %w", strings.Join(files, ", "), ErrFiles)
		}
	}
	if err := joinErrors(errs...); err != nil {
		return View{}, err
	}
	switch {
	case p != nil && b != nil:
		s, err := bindParsed(p, b)
		if err != nil {
			return View{}, err
		}
		return s.View(), nil
	case b != nil:
		// A policy that wants nothing of its sources stands in, so that the binding resolves by itself.
		s, err := resolve(&Policy{}, b.binding())
		if err != nil {
			return View{}, err
		}
		return View{Binding: s.bindingView()}, nil
	case p != nil:
		return View{Policy: p.view()}, nil
	}
	return View{}, fmt.Errorf("show: %w", ErrFiles)
}

// View describes a set.
func (s *Set) View() View {
	v := View{Policy: s.Policy.view(), Binding: s.bindingView()}
	for i := range v.Policy.DataSources {
		d := &v.Policy.DataSources[i]
		source, _ := s.Binding.source(d.Identifier)
		count := 0
		for _, t := range s.Streams {
			if t.Role == RoleSample && t.SourceID == source.ID {
				count++
			}
		}
		d.SourceID, d.Streams = source.ID, &count
	}
	return v
}

func (p *Policy) view() *PolicyView {
	v := &PolicyView{
		Name:                 p.Name,
		Cipher:               p.CryptographicProfile.Cipher,
		KDF:                  p.CryptographicProfile.KeyDerivationFunction,
		TagBits:              p.CryptographicProfile.AuthenticationTagLength,
		Provider:             p.KeyManagement.Provider,
		Vendor:               p.KeyManagement.HSMConfig.Vendor,
		KeyStorage:           p.KeyManagement.HSMConfig.KeyStorage,
		RotationInterval:     FormatDuration(p.KeyManagement.RotationPolicy.Interval),
		RotationSeconds:      p.KeyManagement.RotationPolicy.Interval.Seconds(),
		RotationTrigger:      p.KeyManagement.RotationPolicy.Trigger,
		IntegrityEnforcement: p.Transport.IntegrityEnforcement,
		WindowSize:           p.Transport.ReplayProtection.WindowSize,
	}
	for _, d := range p.DataSources {
		v.DataSources = append(v.DataSources, DataSourceView{
			Identifier: d.Identifier, SamplingRate: d.SamplingRate.String(), PeriodNS: int64(d.SamplingRate.Period), Sensitivity: d.Sensitivity,
		})
	}
	return v
}

func (s *Set) bindingView() *BindingView {
	g := s.Binding.Gateway
	v := &BindingView{
		Name: s.Binding.Name, Policy: s.Binding.Policy,
		Gateway: GatewayView{
			Name: g.Name, KID: g.Identity.KID.String(), PublicKey: g.Identity.String(),
			TPM: g.TPM, StateDirectory: g.StateDirectory, User: g.User, BPFFS: g.BPFFS,
			Grace: FormatDuration(g.Grace), GraceSeconds: g.Grace.Seconds(), CandidateRingBytes: g.CandidateRing,
			RingSlots: g.Ring.Slots, RingSocket: g.Ring.Socket, RingGroup: g.Ring.Group, ControlSocket: g.Control.Socket,
		},
	}
	for _, i := range s.Interfaces {
		v.Interfaces = append(v.Interfaces, InterfaceView(i))
	}
	for _, source := range s.Binding.Sources {
		v.Sources = append(v.Sources, SourceView{Identifier: source.Identifier, SourceID: source.ID})
	}
	for _, n := range s.Nodes {
		curve := ""
		if key, err := n.Identity.Key(); err == nil {
			curve = key.ECDSA().Curve.Params().Name
		}
		v.Nodes = append(v.Nodes, NodeView{
			Name: n.Name, KID: n.Identity.KID.String(), PublicKey: n.Identity.String(), Curve: curve,
			BindingHash: hex.EncodeToString(n.BindingHash[:]), Streams: len(n.Slots),
		})
	}
	for _, t := range s.Streams {
		v.Streams = append(v.Streams, s.streamView(t))
	}
	v.Escalation = s.Binding.Escalation.view()
	return v
}

func (s *Set) streamView(t ResolvedStream) StreamView {
	v := StreamView{
		StreamID: t.ID, Role: t.Role, Node: s.Nodes[t.Node].Name, Interface: t.Interface.Name, InterfaceIdx: t.Interface.Index,
		Carrier: t.Interface.Carrier, ID: t.CANID.Number(), Extended: t.CANID.Extended(), SourceID: t.SourceID, Source: t.Source,
		SamplingRate: t.Rate.String(), PeriodNS: int64(t.Period), Sensitivity: t.Sensitivity, WindowSize: t.WindowSize,
	}
	for _, g := range t.Signals {
		sv := SignalView{
			Name: g.Name, StartBit: g.StartBit, Length: g.Length, ByteOrder: g.ByteOrder, Signed: g.Signed,
			Scale: g.Scale, Offset: g.Offset, Unit: g.Unit,
		}
		if g.Multiplexor != nil {
			sv.Multiplexor = &MultiplexorView{Signal: g.Multiplexor.Signal, Values: g.Multiplexor.Values}
		}
		v.Signals = append(v.Signals, sv)
	}
	return v
}

// WriteText writes the view as tables.
func (v View) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if v.Policy != nil {
		v.Policy.writeText(t)
	}
	if v.Policy != nil && v.Binding != nil {
		fmt.Fprintln(t)
	}
	if v.Binding != nil {
		v.Binding.writeText(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write documents: %w", err)
	}
	return nil
}

func (p *PolicyView) writeText(w io.Writer) {
	fmt.Fprintf(w, "POLICY\t%s\n", p.Name)
	fmt.Fprintf(w, "cryptography\t%s, %s, tag %d bits\n", p.Cipher, p.KDF, p.TagBits)
	fmt.Fprintf(w, "keys\t%s in %s (%s)\n", p.KeyStorage, p.Provider, p.Vendor)
	fmt.Fprintf(w, "rotation\t%s after %s\n", p.RotationTrigger, p.RotationInterval)
	fmt.Fprintf(w, "transport\t%s, replay window %d\n", p.IntegrityEnforcement, p.WindowSize)
	fmt.Fprintf(w, "\nDATA SOURCE\tSOURCE\tRATE\tPERIOD\tSENSITIVITY\tSTREAMS\n")
	for _, d := range p.DataSources {
		source, streams := "-", "-"
		if d.Streams != nil {
			source, streams = fmt.Sprint(d.SourceID), fmt.Sprint(*d.Streams)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Identifier, source, d.SamplingRate, time.Duration(d.PeriodNS), d.Sensitivity, streams)
	}
}

func (b *BindingView) writeText(w io.Writer) {
	g := b.Gateway
	fmt.Fprintf(w, "BINDING\t%s\n", b.Name)
	fmt.Fprintf(w, "policy\t%s\n", b.Policy)
	fmt.Fprintf(w, "gateway\t%s, kid %s, TPM %s\n", g.Name, g.KID, g.TPM)
	fmt.Fprintf(w, "state\t%s, pinned under %s\n", g.StateDirectory, g.BPFFS)
	fmt.Fprintf(w, "user\t%s, once the filter is attached\n", g.User)
	fmt.Fprintf(w, "grace\t%s beyond the policy's interval\n", g.Grace)
	fmt.Fprintf(w, "candidates\t%s an interface\n", formatSize(g.CandidateRingBytes))
	group := "no group"
	if g.RingGroup != "" {
		group = "group " + g.RingGroup
	}
	fmt.Fprintf(w, "ring\t%d slots, %s, %s\n", g.RingSlots, g.RingSocket, group)
	fmt.Fprintf(w, "control\t%s\n", g.ControlSocket)
	fmt.Fprintf(w, "\nINTERFACE\tINDEX\tCARRIER\n")
	for _, i := range b.Interfaces {
		fmt.Fprintf(w, "%s\t%d\t%s\n", i.Name, i.Index, i.Carrier)
	}
	fmt.Fprintf(w, "\nNODE\tKID\tCURVE\tSTREAMS\tBINDING HASH\n")
	for _, n := range b.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", n.Name, n.KID, n.Curve, n.Streams, n.BindingHash)
	}
	fmt.Fprintf(w, "\nSTREAM\tNODE\tROLE\tINTERFACE\tCAN ID\tSOURCE\tPERIOD\tSENSITIVITY\tSIGNALS\n")
	for _, s := range b.Streams {
		id := CANID(s.ID)
		if s.Extended {
			id |= CANEFF
		}
		period := "-" // of the policy, which is not shown
		if s.PeriodNS > 0 {
			period = time.Duration(s.PeriodNS).String()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", s.StreamID, s.Node, s.Role, s.Interface, id,
			dash(s.Source), period, dash(s.Sensitivity.String()), len(s.Signals))
	}
	if b.Escalation != nil {
		b.Escalation.writeText(w)
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
