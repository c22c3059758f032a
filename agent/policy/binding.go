// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"time"
)

// Limits of a binding.
const (
	MaxStreamsPerNode = 256            // heartbeat streams included
	MaxStreams        = 4096           // of a gateway, heartbeat streams included
	MaxInterfaces     = 63             // what the filter's tables have room for
	MaxNodes          = MaxStreams / 2 // each has at least a stream and a heartbeat stream
	MaxGrace          = 7 * day
	MinRingSlots      = 64
	MaxRingSlots      = 1 << 20
	// MaxID is the greatest stream id and source id. 0 and 0xFFFFFFFF are reserved.
	MaxID = 0xFFFFFFFE
)

// Defaults of a binding.
const (
	DefaultBPFFS = "/sys/fs/bpf/cellward"
	DefaultGrace = 3 * day
	DefaultUser  = "cellward"
)

// HeartbeatSource is the source id of heartbeat streams in the key schedule.
const HeartbeatSource = 0xFFFFFFFF

// HeartbeatPeriod is the time between two heartbeats of a node on one bus.
const HeartbeatPeriod = time.Second

// Carrier is the kind of frames that carry sealed PDUs.
type Carrier string

// CANFD carries one sealed PDU in one CAN FD frame of 32, 48 or 64 bytes.
const CANFD Carrier = "can-fd"

func carriers() []string { return []string{string(CANFD)} }

// MaxBody is the longest sample body in bytes that fits one sealed PDU on the carrier, 0 for an unknown carrier.
func (c Carrier) MaxBody() int {
	if c == CANFD {
		return 36 // 64 less header (8), source time (4) and tag (16)
	}
	return 0
}

// CANID is a CAN identifier: 11 bits, or 29 bits with CANEFF set, as in the kernel's can_id (linux/can.h).
type CANID uint32

// Flag and greatest numbers of a CANID.
const (
	CANEFF    = 0x80000000
	MaxCANSFF = 0x7FF
	MaxCANEFF = 0x1FFFFFFF
)

// Number returns the identifier without its flag.
func (id CANID) Number() uint32 { return uint32(id) & MaxCANEFF }

// Extended reports whether the identifier has 29 bits.
func (id CANID) Extended() bool { return id&CANEFF != 0 }

// String returns the identifier as candump writes it: 3 or 8 hexadecimal digits.
func (id CANID) String() string {
	if id.Extended() {
		return fmt.Sprintf("%08X", id.Number())
	}
	return fmt.Sprintf("%03X", id.Number())
}

// Binding is a SensorDataBinding: what an installation adds to its policy. Lists keep the order of the document.
type Binding struct {
	Name       string
	Policy     string // metadata.name of the policy
	Gateway    Gateway
	Interfaces []Interface
	Sources    []Source
	Nodes      []Node
	Escalation Escalation // when evidence becomes a fault
	// Destinations are where events go besides the event log; nil: see DestinationsOrDefault.
	Destinations []Destination
}

// Gateway is the receiving side.
type Gateway struct {
	Name           string
	Identity       Identity
	TPM            string // path of a device, or "unix:" and the path of a socket
	StateDirectory string
	// User is the name or the number of the user that the agent becomes once its filter is attached; "root" stays what it is.
	// "" when marshalling: DefaultUser.
	User          string
	BPFFS         string        // folder of pinned maps and links; "" when marshalling: DefaultBPFFS
	Grace         time.Duration // how long a key may be used beyond the policy's interval; 0 when marshalling: DefaultGrace
	CandidateRing int           // bytes per interface, a power of two
	Ring          Ring
	Control       Control
}

// Ring is the shared-memory ring of verified samples.
type Ring struct {
	Slots  int    // a power of two
	Socket string // path of the Unix socket that hands the ring out
	Group  string // whose members may read; "": only the agent's own user and root
}

// Control is the control socket.
type Control struct {
	Socket string
}

// Interface is a bus.
type Interface struct {
	Name    string
	Index   uint8 // stable number of the bus in this installation, from 1; not the kernel's ifindex
	Carrier Carrier
}

// Source numbers a data source of the policy.
type Source struct {
	Identifier string
	ID         uint32
}

// Node is a transmitting controller.
type Node struct {
	Name       string
	Identity   Identity
	Heartbeats []Heartbeat // one for each bus of the node
	Streams    []Stream
}

// Heartbeat is the stream on which a node sends heartbeats and start records on one bus.
type Heartbeat struct {
	StreamID  uint32
	Interface string
	CANID     CANID
}

// Stream is one message identifier of one node on one bus.
type Stream struct {
	StreamID     uint32
	Interface    string
	CANID        CANID
	Source       string // identifier of a data source
	SamplingRate Rate   // zero: that of the data source
	Signals      []Signal
}

// Kind returns [KindBinding].
func (*Binding) Kind() string { return KindBinding }

// DocumentName returns metadata.name.
func (b *Binding) DocumentName() string { return b.Name }

// Node returns a node by its name.
func (b *Binding) Node(name string) (Node, bool) {
	for _, n := range b.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

func (b *Binding) iface(name string) (Interface, bool) {
	for _, i := range b.Interfaces {
		if i.Name == name {
			return i, true
		}
	}
	return Interface{}, false
}

func (b *Binding) source(identifier string) (Source, bool) {
	for _, s := range b.Sources {
		if s.Identifier == identifier {
			return s, true
		}
	}
	return Source{}, false
}
