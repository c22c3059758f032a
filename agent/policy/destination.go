// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// MaxDestinations is how many places events may go to.
const MaxDestinations = 8

// DestinationType says what kind of place events go to.
type DestinationType string

// The types of destinations.
const (
	ToStderr  DestinationType = "stderr"
	ToFile    DestinationType = "file"
	ToSyslog  DestinationType = "syslog"
	ToJournal DestinationType = "journal"
	ToCAN     DestinationType = "can"
)

// Encoding is how lines are written.
type Encoding string

// The encodings.
const (
	EncodeJSON Encoding = "json"
	EncodeText Encoding = "text"
	EncodeCEF  Encoding = "cef"
	EncodeOCSF Encoding = "ocsf"
)

// Destination is a place that events go to, besides the event log. Fields that its type does not have are zero.
type Destination struct {
	Type     DestinationType
	Encoding Encoding // of stderr and file; "" when marshalling: json
	Path     string   // of a file, or of a socket: of syslog on unix or unixgram, and of the journal ("": systemd's)
	Network  string   // of syslog: unixgram, unix, udp or tcp
	Address  string   // of syslog on udp or tcp: IP address and port. No names: an agent that is confined asks no name server
	// Interface and CANID are of can.
	Interface string
	CANID     CANID
}

// Remote says that the destination is reached over IP.
func (d *Destination) Remote() bool { return d.Network == "udp" || d.Network == "tcp" }

// defaultDestinations is where events go if a binding says nothing: to the service manager's log.
func defaultDestinations() []Destination {
	return []Destination{{Type: ToStderr, Encoding: EncodeJSON}}
}

// DestinationsOrDefault returns where events go: as the binding says, or as JSON lines to stderr.
func (b *Binding) DestinationsOrDefault() []Destination {
	if b.Destinations == nil {
		return defaultDestinations()
	}
	return b.Destinations
}

func addressPattern() pattern {
	return pattern{
		what: "an IP address and a port, such as 192.0.2.1:514 or [2001:db8::1]:514",
		expr: regexp.MustCompile(`^([0-9.]{7,15}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}$`),
	}
}

// decodeEvents reads spec.events.
func (d *bindingDecoder) decodeEvents(v value) []Destination {
	o, ok := v.object("destinations")
	if !ok {
		return nil
	}
	all := []Destination{}
	if v, ok := o.required("destinations"); ok {
		for _, item := range v.list(MaxDestinations) {
			all = append(all, d.destination(item))
		}
	}
	return all
}

func (d *bindingDecoder) destination(item value) (x Destination) {
	o, ok := item.object("type", "encoding", "path", "network", "address", "interface", "id", "extended")
	if !ok {
		return x
	}
	v, ok := o.required("type")
	if !ok {
		return x
	}
	name, ok := v.oneOf(string(ToStderr), string(ToFile), string(ToSyslog), string(ToJournal), string(ToCAN))
	if !ok {
		return x
	}
	x.Type = DestinationType(name)
	fields := map[DestinationType][]string{
		ToStderr: {"type", "encoding"}, ToFile: {"type", "encoding", "path"}, ToSyslog: {"type", "network", "path", "address"},
		ToJournal: {"type", "path"}, ToCAN: {"type", "interface", "id", "extended"},
	}[x.Type]
	for f, v := range o.fields {
		if !slices.Contains(fields, f) {
			v.errorf("a destination of type %s has no %s", name, f)
		}
	}
	switch x.Type {
	case ToStderr, ToFile:
		x.Encoding = EncodeJSON
		if v, ok := o.optional("encoding"); ok {
			e, _ := v.oneOf(string(EncodeJSON), string(EncodeText), string(EncodeCEF), string(EncodeOCSF))
			x.Encoding = Encoding(e)
		}
		if x.Type == ToFile {
			if v, ok := o.required("path"); ok {
				x.Path, _ = v.match(pathPattern)
			}
		}
	case ToSyslog:
		d.syslog(o, &x)
	case ToJournal:
		if v, ok := o.optional("path"); ok {
			x.Path, _ = v.match(socketPattern)
		}
	case ToCAN:
		if v, ok := o.required("interface"); ok {
			x.Interface, _ = v.match(interfacePattern)
		}
		id, at, ok := decodeCANID(o)
		if ok && x.Interface != "" {
			// On a protected identifier the gateway would refuse its own frames, and its readers would never know.
			d.frames.add(frameKey{x.Interface, id}, at, "CAN id "+id.String()+" on interface "+x.Interface)
		}
		x.CANID = id
	}
	return x
}

func (d *bindingDecoder) syslog(o object, x *Destination) {
	if v, ok := o.required("network"); ok {
		x.Network, _ = v.oneOf("unixgram", "unix", "udp", "tcp")
	}
	switch x.Network {
	case "":
	case "udp", "tcp":
		if v, ok := o.required("address"); ok {
			if x.Address, ok = v.match(addressPattern()); ok {
				if a, err := netip.ParseAddrPort(x.Address); err != nil || a.Port() == 0 {
					v.want(addressPattern().what)
				}
			}
		}
		if v, ok := o.optional("path"); ok {
			v.errorf("syslog over %s has an address and no path", x.Network)
		}
	default:
		if v, ok := o.required("path"); ok {
			x.Path, _ = v.match(socketPattern)
		}
		if v, ok := o.optional("address"); ok {
			v.errorf("syslog over %s has a path and no address", x.Network)
		}
	}
}

// eventsNode writes spec.events.
func eventsNode(all []Destination) *yaml.Node {
	destinations := list()
	for _, d := range all {
		n := flow(field{"type", plain(string(d.Type))})
		switch d.Type {
		case ToStderr, ToFile:
			if d.Encoding != "" {
				add(n, field{"encoding", plain(string(d.Encoding))})
			}
		case ToSyslog:
			add(n, field{"network", plain(d.Network)})
		case ToCAN:
			number := frameNode(0, d.Interface, d.CANID)
			n.Content = append(n.Content, number.Content[2:]...) // without its stream
		}
		if d.Path != "" {
			add(n, field{"path", str(d.Path)})
		}
		if d.Address != "" {
			add(n, field{"address", str(d.Address)})
		}
		destinations.Content = append(destinations.Content, n)
	}
	return block(field{"destinations", destinations})
}
