// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Marshal writes a document as YAML. What it writes reads back as an equal document, zero values of fields with a
// default excepted, which read back as the default. A document that Parse would refuse is an error here, so no file is
// written that cannot be read.
func Marshal(d Document) ([]byte, error) {
	var spec *yaml.Node
	switch d := d.(type) {
	case *Policy:
		spec = policyNode(d)
	case *Binding:
		spec = bindingNode(d)
	default:
		return nil, fmt.Errorf("write document: unknown type %T", d)
	}
	root := block(
		field{"apiVersion", plain(APIVersion)},
		field{"kind", plain(d.Kind())},
		field{"metadata", block(field{"name", str(d.DocumentName())})},
		field{"spec", spec},
	)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	if _, err := Parse(d.DocumentName(), b.Bytes()); err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	return b.Bytes(), nil
}

func policyNode(p *Policy) *yaml.Node {
	sources := list()
	for _, s := range p.DataSources {
		sources.Content = append(sources.Content, flow(
			field{"identifier", str(s.Identifier)},
			field{"samplingRate", plain(s.SamplingRate.String())},
			field{"sensitivity", plain(s.Sensitivity.String())}))
	}
	c, k, t := p.CryptographicProfile, p.KeyManagement, p.Transport
	return block(
		field{"dataSources", sources},
		field{"cryptographicProfile", block(
			field{"cipher", plain(c.Cipher)},
			field{"keyDerivationFunction", plain(c.KeyDerivationFunction)},
			field{"authenticationTagLength", plain(fmt.Sprintf("%d bits", c.AuthenticationTagLength))})},
		field{"keyManagement", block(
			field{"provider", plain(k.Provider)},
			field{"hsmConfig", block(
				field{"vendor", plain(k.HSMConfig.Vendor)},
				field{"keyStorage", plain(k.HSMConfig.KeyStorage)})},
			field{"rotationPolicy", block(
				field{"interval", plain(FormatDuration(k.RotationPolicy.Interval))},
				field{"trigger", plain(k.RotationPolicy.Trigger)})})},
		field{"transport", block(
			field{"integrityEnforcement", plain(t.IntegrityEnforcement)},
			field{"replayProtection", block(
				field{"enabled", boolean(t.ReplayProtection.Enabled)},
				field{"windowSize", integer(t.ReplayProtection.WindowSize)})})},
	)
}

func bindingNode(b *Binding) *yaml.Node {
	g := b.Gateway
	gateway := block(
		field{"name", str(g.Name)},
		field{"identity", identityNode(g.Identity)},
		field{"tpm", plain(g.TPM)},
		field{"stateDirectory", plain(g.StateDirectory)})
	if g.User != "" {
		add(gateway, field{"user", str(g.User)})
	}
	if g.BPFFS != "" {
		add(gateway, field{"bpffs", plain(g.BPFFS)})
	}
	if g.Grace != 0 {
		add(gateway, field{"grace", plain(FormatDuration(g.Grace))})
	}
	ring := block(field{"slots", integer(g.Ring.Slots)}, field{"socket", plain(g.Ring.Socket)})
	if g.Ring.Group != "" {
		add(ring, field{"group", str(g.Ring.Group)})
	}
	add(gateway,
		field{"candidateRing", plain(formatSize(g.CandidateRing))},
		field{"ring", ring},
		field{"control", block(field{"socket", plain(g.Control.Socket)})})

	interfaces, sources, nodes := list(), list(), list()
	for _, i := range b.Interfaces {
		interfaces.Content = append(interfaces.Content, flow(
			field{"name", str(i.Name)},
			field{"index", integer(i.Index)},
			field{"carrier", plain(string(i.Carrier))}))
	}
	for _, s := range b.Sources {
		sources.Content = append(sources.Content, flow(field{"identifier", str(s.Identifier)}, field{"source", integer(s.ID)}))
	}
	for _, n := range b.Nodes {
		heartbeats, streams := list(), list()
		for _, h := range n.Heartbeats {
			heartbeats.Content = append(heartbeats.Content, frameNode(h.StreamID, h.Interface, h.CANID))
		}
		for _, s := range n.Streams {
			streams.Content = append(streams.Content, streamNode(s))
		}
		nodes.Content = append(nodes.Content, block(
			field{"name", str(n.Name)},
			field{"identity", identityNode(n.Identity)},
			field{"heartbeats", heartbeats},
			field{"streams", streams}))
	}
	spec := block(
		field{"policy", str(b.Policy)},
		field{"gateway", gateway},
		field{"interfaces", interfaces},
		field{"sources", sources},
		field{"nodes", nodes})
	if e := escalationNode(&b.Escalation); len(e.Content) > 0 {
		add(spec, field{"escalation", e})
	}
	if b.Destinations != nil {
		add(spec, field{"events", eventsNode(b.Destinations)})
	}
	return spec
}

// escalationNode writes what differs from the defaults as a whole; what is written is written out.
func escalationNode(e *Escalation) *yaml.Node {
	n := block()
	if e.Interval != 0 {
		add(n, field{"interval", plain(FormatDuration(e.Interval))})
	}
	if len(e.Thresholds) > 0 {
		thresholds := list()
		for _, t := range e.Thresholds {
			thresholds.Content = append(thresholds.Content, flow(
				field{"sensitivity", plain(t.Sensitivity.String())}, field{"cause", plain(t.Cause.String())}, field{"raise", integer(t.Raise)},
				field{"of", integer(t.Of)}, field{"clear", integer(t.Clear)}, field{"latchAfter", integer(t.LatchAfter)}))
		}
		add(n, field{"thresholds", thresholds})
	}
	if len(e.Kinds) > 0 {
		kinds := list()
		for _, k := range e.Kinds {
			kinds.Content = append(kinds.Content, flow(
				field{"kind", plain(k.Kind.String())}, field{"count", integer(k.Count)}, field{"immediate", boolean(k.Immediate)},
				field{"latch", boolean(k.Latch)}))
		}
		add(n, field{"kinds", kinds})
	}
	return n
}

func identityNode(id Identity) *yaml.Node {
	return block(
		field{"kid", str(id.KID.String())},
		field{"publicKey", str(id.String())})
}

func frameNode(stream uint32, iface string, id CANID) *yaml.Node {
	digits := 3
	if id.Extended() {
		digits = 8
	}
	// Not Number: other flags, such as that of a remote frame, must come back as an error.
	number := fmt.Sprintf("0x%0*X", digits, uint32(id)&^CANEFF)
	return flow(
		field{"stream", integer(stream)},
		field{"interface", str(iface)},
		field{"id", scalar(number, "!!int", 0)},
		field{"extended", boolean(id.Extended())})
}

func streamNode(s Stream) *yaml.Node {
	n := frameNode(s.StreamID, s.Interface, s.CANID)
	add(n, field{"source", str(s.Source)})
	if !s.SamplingRate.IsZero() {
		add(n, field{"samplingRate", plain(s.SamplingRate.String())})
	}
	if len(s.Signals) > 0 {
		n.Style = 0 // signals on lines of their own
		signals := list()
		for _, one := range s.Signals {
			signals.Content = append(signals.Content, signalNode(one))
		}
		add(n, field{"signals", signals})
	}
	return n
}

func signalNode(s Signal) *yaml.Node {
	n := flow(
		field{"name", str(s.Name)},
		field{"startBit", integer(s.StartBit)},
		field{"length", integer(s.Length)},
		field{"byteOrder", plain(string(s.ByteOrder))},
		field{"signed", boolean(s.Signed)})
	if s.Scale != 0 {
		add(n, field{"scale", number(s.Scale)})
	}
	add(n, field{"offset", number(s.Offset)})
	if s.Unit != "" {
		add(n, field{"unit", str(s.Unit)})
	}
	if m := s.Multiplexor; m != nil {
		values := list()
		values.Style = yaml.FlowStyle
		for _, v := range m.Values {
			values.Content = append(values.Content, integer(v))
		}
		add(n, field{"multiplexor", flow(field{"signal", str(m.Signal)}, field{"values", values})})
	}
	return n
}

// field is one field of a mapping.
type field struct {
	name string
	node *yaml.Node
}

// block returns a mapping of names and nodes, one field a line.
func block(fields ...field) *yaml.Node { return add(&yaml.Node{Kind: yaml.MappingNode}, fields...) }

// flow returns a mapping on one line.
func flow(fields ...field) *yaml.Node {
	return add(&yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}, fields...)
}

// add appends names and nodes to a mapping.
func add(n *yaml.Node, fields ...field) *yaml.Node {
	for _, f := range fields {
		n.Content = append(n.Content, plain(f.name), f.node)
	}
	return n
}

func list() *yaml.Node { return &yaml.Node{Kind: yaml.SequenceNode} }

func scalar(text, tag string, style yaml.Style) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: text, Tag: tag, Style: style}
}

// plain is a string that the encoder may write without quotes, str one that it must quote: a name can look like a number.
func plain(s string) *yaml.Node { return scalar(s, "!!str", 0) }
func str(s string) *yaml.Node   { return scalar(s, "!!str", yaml.DoubleQuotedStyle) }

func boolean(b bool) *yaml.Node { return scalar(strconv.FormatBool(b), "!!bool", 0) }

func integer[T int | uint8 | uint32 | uint64](n T) *yaml.Node {
	return scalar(fmt.Sprint(n), "!!int", 0)
}

func number(f float64) *yaml.Node {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	tag := "!!float"
	if _, err := strconv.ParseInt(text, 10, 64); err == nil {
		tag = "!!int" // what the reader resolves it to, so that it needs no explicit tag
	}
	return scalar(text, tag, 0)
}
