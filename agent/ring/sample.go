// SPDX-License-Identifier: Apache-2.0

package ring

import "strings"

// Flags say what a reader should know about a sample.
type Flags uint16

// The flags of a slot.
const (
	// FlagGapBefore: at least one counter of the stream before this one has not been published.
	FlagGapBefore Flags = 1 << iota
	// FlagFirstOfEpoch: the first sample of the stream under its epoch.
	FlagFirstOfEpoch
	// FlagStale: the sample was delayed on its way.
	FlagStale
	// FlagFault: a security fault of the stream's source stood when the sample was published.
	FlagFault
)

// flagNames are the words for the flags, lowest bit first.
func flagNames() [4]string {
	return [...]string{"gap_before", "first_of_epoch", "stale", "fault"}
}

// Names returns the words for the flags that are set, lowest bit first: gap_before, first_of_epoch, stale, fault.
func (f Flags) Names() []string {
	var names []string
	for i, name := range flagNames() {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the words for the flags that are set, separated by "|".
func (f Flags) String() string { return strings.Join(f.Names(), "|") }

// FaultState is the state of the security fault of the whole channel.
type FaultState uint32

// The states of the fault word.
const (
	FaultNone FaultState = iota
	FaultSuspect
	FaultRaised
	FaultLatched
)

// String returns the word for the state: ok, suspect, fault, latched.
func (s FaultState) String() string {
	switch s {
	case FaultNone:
		return "ok"
	case FaultSuspect:
		return "suspect"
	case FaultRaised:
		return "fault"
	case FaultLatched:
		return "latched"
	}
	return "unknown"
}

// Sample is one verified sample.
type Sample struct {
	// Stream is the index of the sample's stream in the ring's stream table: the position in Config.Streams for the
	// producer, the argument of Reader.Stream for a reader.
	Stream      uint32
	Epoch       uint32
	Counter     uint64 // 48 bits
	SourceTime  uint32 // milliseconds since the start of the node's run, modulo 2^32
	Flags       Flags
	ReceiveTime int64 // CLOCK_BOOTTIME in ns, taken by the filter
	PublishTime int64 // CLOCK_BOOTTIME in ns; Publish sets it in the ring and ignores it here
	// Position counts the samples of a ring from 0; Publish ignores it.
	Position uint64
	// Body is the payload that the node would have sent unprotected. Publish copies it. What a reader gets is valid
	// until the next call of Next.
	Body []byte
}
