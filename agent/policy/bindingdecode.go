// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math"

	"github.com/cellward/cellward/crypto/identity"
)

// bindingDecoder holds what the parts of a binding must not share.
type bindingDecoder struct {
	binding  *Binding
	places   map[string]value
	names    unique[string] // of gateway and nodes
	kids     unique[identity.Kid]
	streams  unique[uint32]
	frames   unique[frameKey]
	counted  int
	overfull bool
	// Without a readable list of interfaces or sources, every stream would be wrong for that one reason.
	knowInterfaces, knowSources bool
}

// frameKey is what the receiver tells streams apart by.
type frameKey struct {
	iface string
	id    CANID
}

func decodeBinding(name string, spec value, places map[string]value) *Binding {
	d := &bindingDecoder{
		binding: &Binding{Name: name}, places: places, names: unique[string]{}, kids: unique[identity.Kid]{},
		streams: unique[uint32]{}, frames: unique[frameKey]{},
	}
	d.decode(spec)
	return d.binding
}

func (d *bindingDecoder) decode(spec value) {
	o, ok := spec.object("policy", "gateway", "interfaces", "sources", "nodes", "escalation", "events")
	if !ok {
		return
	}
	if v, ok := o.required("policy"); ok {
		d.places[v.path] = v
		d.binding.Policy, _ = v.match(namePattern)
	}
	if v, ok := o.required("gateway"); ok {
		d.gateway(v)
	}
	if v, ok := o.required("interfaces"); ok {
		d.interfaces(v)
	}
	if v, ok := o.required("sources"); ok {
		d.places[v.path] = value{r: v.r, node: v.key, path: v.path} // what is missing in the list is missing at its name
		d.sources(v)
	}
	if v, ok := o.required("nodes"); ok {
		for _, item := range v.list(MaxNodes) {
			d.node(item)
		}
	}
	if v, ok := o.optional("escalation"); ok {
		d.binding.Escalation = decodeEscalation(v)
	}
	if v, ok := o.optional("events"); ok {
		d.binding.Destinations = d.decodeEvents(v)
	}
}

func (d *bindingDecoder) gateway(v value) {
	o, ok := v.object("name", "identity", "tpm", "stateDirectory", "user", "bpffs", "grace", "candidateRing", "ring", "control")
	if !ok {
		return
	}
	g := &d.binding.Gateway
	g.BPFFS, g.Grace, g.User = DefaultBPFFS, DefaultGrace, DefaultUser
	g.Name, g.Identity = d.party(o)
	if v, ok := o.required("tpm"); ok {
		g.TPM, _ = v.match(tpmPattern)
	}
	if v, ok := o.required("stateDirectory"); ok {
		g.StateDirectory, _ = v.match(pathPattern)
	}
	if v, ok := o.optional("user"); ok {
		g.User, _ = v.match(userPattern)
	}
	if v, ok := o.optional("bpffs"); ok {
		g.BPFFS, _ = v.match(pathPattern)
	}
	if v, ok := o.optional("grace"); ok {
		g.Grace, _ = v.duration(MaxGrace)
	}
	if v, ok := o.required("candidateRing"); ok {
		g.CandidateRing, _ = v.size()
	}
	sockets := unique[string]{}
	if v, ok := o.required("ring"); ok {
		g.Ring = decodeRing(v, sockets)
	}
	if v, ok := o.required("control"); ok {
		if o, ok := v.object("socket"); ok {
			g.Control.Socket = socket(o, sockets)
		}
	}
}

// party reads name and identity of the gateway or a node.
func (d *bindingDecoder) party(o object) (name string, id Identity) {
	if v, ok := o.required("name"); ok {
		if name, ok = v.match(namePattern); ok {
			d.names.add(name, v, quoted("name", name))
		}
	}
	if v, ok := o.required("identity"); ok {
		if id = v.identity(); id.PublicKey != nil {
			d.kids.add(id.KID, v, quoted("identity", id.KID.String()))
		}
	}
	return name, id
}

func decodeRing(v value, sockets unique[string]) (r Ring) {
	o, ok := v.object("slots", "socket", "group")
	if !ok {
		return r
	}
	if v, ok := o.required("slots"); ok {
		n, ok := v.integer(MinRingSlots, MaxRingSlots)
		if ok && n&(n-1) != 0 {
			v.want(fmt.Sprintf("a power of two from %d to %d", MinRingSlots, MaxRingSlots))
		}
		r.Slots = int(n)
	}
	r.Socket = socket(o, sockets)
	if v, ok := o.optional("group"); ok {
		r.Group, _ = v.match(groupPattern)
	}
	return r
}

func socket(o object, seen unique[string]) (path string) {
	if v, ok := o.required("socket"); ok {
		if path, ok = v.match(socketPattern); ok {
			seen.add(path, v, quoted("socket", path))
		}
	}
	return path
}

func (d *bindingDecoder) interfaces(v value) {
	names, indices := unique[string]{}, unique[uint8]{}
	items := v.list(MaxInterfaces)
	d.knowInterfaces = len(items) > 0
	for _, item := range items {
		o, ok := item.object("name", "index", "carrier")
		if !ok {
			d.knowInterfaces = false
			continue
		}
		var i Interface
		if v, ok := o.required("name"); ok {
			if i.Name, ok = v.match(interfacePattern); ok {
				names.add(i.Name, v, quoted("interface", i.Name))
			} else {
				d.knowInterfaces = false
			}
		}
		if v, ok := o.required("index"); ok {
			if n, ok := v.integer(1, MaxInterfaces); ok {
				i.Index = uint8(n)
				indices.add(i.Index, v, fmt.Sprintf("index %d", n))
			}
		}
		if v, ok := o.required("carrier"); ok {
			carrier, _ := v.oneOf(carriers()...)
			i.Carrier = Carrier(carrier)
		}
		d.binding.Interfaces = append(d.binding.Interfaces, i)
	}
}

func (d *bindingDecoder) sources(v value) {
	names, ids := unique[string]{}, unique[uint32]{}
	items := v.list(maxDataSources)
	d.knowSources = len(items) > 0
	for _, item := range items {
		o, ok := item.object("identifier", "source")
		if !ok {
			d.knowSources = false
			continue
		}
		var s Source
		if v, ok := o.required("identifier"); ok {
			d.places[v.path] = v
			if s.Identifier, ok = v.match(namePattern); ok {
				names.add(s.Identifier, v, quoted("identifier", s.Identifier))
			} else {
				d.knowSources = false
			}
		}
		if v, ok := o.required("source"); ok {
			if s.ID, ok = v.id(); ok {
				ids.add(s.ID, v, fmt.Sprintf("source id %d", s.ID))
			}
		}
		d.binding.Sources = append(d.binding.Sources, s)
	}
}

// id reads a stream id or a source id.
func (v value) id() (uint32, bool) {
	n, ok := v.integer(1, MaxID)
	return uint32(n), ok
}

// node reads a node and checks that it has exactly one heartbeat stream on each bus that it transmits on.
func (d *bindingDecoder) node(item value) {
	o, ok := item.object("name", "identity", "heartbeats", "streams")
	if !ok {
		return
	}
	var n Node
	n.Name, n.Identity = d.party(o)
	before := d.counted
	heartbeats := unique[string]{}
	heartbeatsField, haveHeartbeats := o.required("heartbeats")
	if haveHeartbeats {
		for _, item := range heartbeatsField.list(MaxInterfaces) {
			n.Heartbeats = append(n.Heartbeats, d.heartbeat(item, heartbeats))
		}
	}
	used := unique[string]{}
	if v, ok := o.required("streams"); ok {
		for _, item := range v.list(MaxStreamsPerNode) {
			n.Streams = append(n.Streams, d.stream(item, heartbeats, haveHeartbeats, used))
		}
		for _, h := range n.Heartbeats {
			if _, ok := used[h.Interface]; !ok && h.Interface != "" {
				heartbeats[h.Interface].errorf("the node has no stream on interface %q, so no heartbeat stream belongs there", h.Interface)
			}
		}
	}
	if count := d.counted - before; count > MaxStreamsPerNode {
		o.errorf("the node has %d streams, heartbeat streams included; at most %d are allowed", count, MaxStreamsPerNode)
	}
	d.binding.Nodes = append(d.binding.Nodes, n)
}

func (d *bindingDecoder) heartbeat(item value, seen unique[string]) (h Heartbeat) {
	o, ok := item.object("stream", "interface", "id", "extended")
	if !ok {
		return h
	}
	h.StreamID, h.Interface, h.CANID = d.frame(o)
	if h.Interface != "" {
		seen.add(h.Interface, o.fields["interface"], quoted("a heartbeat stream of this node on interface", h.Interface))
	}
	return h
}

func (d *bindingDecoder) stream(item value, heartbeats unique[string], haveHeartbeats bool, used unique[string]) (s Stream) {
	o, ok := item.object("stream", "interface", "id", "extended", "source", "samplingRate", "signals")
	if !ok {
		return s
	}
	s.StreamID, s.Interface, s.CANID = d.frame(o)
	if _, again := used[s.Interface]; !again && s.Interface != "" {
		v := o.fields["interface"]
		used[s.Interface] = v
		if _, ok := heartbeats[s.Interface]; !ok && haveHeartbeats {
			v.errorf("the node has no heartbeat stream on interface %q", s.Interface)
		}
	}
	if v, ok := o.required("source"); ok {
		if s.Source, ok = v.match(namePattern); ok {
			if _, ok := d.binding.source(s.Source); !ok && d.knowSources {
				v.errorf("spec.sources has no source %q", s.Source)
			}
		}
	}
	if v, ok := o.optional("samplingRate"); ok {
		s.SamplingRate, _ = v.rate()
	}
	if v, ok := o.optional("signals"); ok {
		i, _ := d.binding.iface(s.Interface)
		s.Signals = decodeSignals(v, i.Carrier.MaxBody())
	}
	return s
}

// frame reads what streams and heartbeat streams have in common. The interface is empty unless it is listed.
func (d *bindingDecoder) frame(o object) (stream uint32, iface string, id CANID) {
	if d.counted++; d.counted > MaxStreams && !d.overfull {
		d.overfull = true
		o.errorf("this is stream number %d, heartbeat streams included; at most %d are allowed", d.counted, MaxStreams)
	}
	if v, ok := o.required("stream"); ok {
		if stream, ok = v.id(); ok {
			d.streams.add(stream, v, fmt.Sprintf("stream id %d", stream))
		}
	}
	if v, ok := o.required("interface"); ok {
		if iface, ok = v.match(interfacePattern); ok {
			if _, ok := d.binding.iface(iface); !ok {
				if d.knowInterfaces {
					v.errorf("spec.interfaces has no interface %q", iface)
				}
				iface = ""
			}
		}
	}
	id, idField, ok := decodeCANID(o)
	if ok && iface != "" {
		d.frames.add(frameKey{iface, id}, idField, fmt.Sprintf("CAN id %s on interface %q", id, iface))
	}
	return stream, iface, id
}

func decodeCANID(o object) (id CANID, at value, ok bool) {
	extended, readable := false, true
	if v, ok := o.optional("extended"); ok {
		extended, readable = v.boolean()
	}
	at, ok = o.required("id")
	if !ok {
		return 0, at, false
	}
	n, ok := at.integer(0, math.MaxUint32)
	switch {
	case !ok || !readable:
		return 0, at, false
	case n > MaxCANEFF:
		at.errorf("a CAN identifier has at most 29 bits (0x1FFFFFFF), got 0x%X", n)
		return 0, at, false
	case extended:
		return CANID(n) | CANEFF, at, true
	case n > MaxCANSFF:
		at.errorf("0x%X has more than 11 bits; a 29-bit identifier says extended: true", n)
		return 0, at, false
	}
	return CANID(n), at, true
}
