// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/identity"
)

// Version is that of the messages. An agent refuses another one: then it is stopped and the new one started.
const Version = 2

// State brings the listening sockets of ring and control, and the connections of at most MaxFollowers readers.
const (
	stateSockets = 2
	MaxFollowers = maxFiles - stateSockets
)

// Kind says what a message is. In the order of the conversation, S being the successor and P its predecessor:
//
//	S  Hello     who I am, and by which documents and layout I go
//	P  Welcome   they are mine; with the descriptor of the state folder's lock
//	S  Prepared  everything that can be done beside you is done
//	P  State     I have stopped between two batches: this is all that I know; with the listening sockets of ring and control, and
//	             the connections of the readers that go along to the successor's ring
//	S  Taken     from here on it is mine
//
// Either side says Refused, or closes the connection, in place of its next message.
type Kind uint8

// The kinds.
const (
	KindHello Kind = iota + 1
	KindWelcome
	KindPrepared
	KindState
	KindTaken
	KindRefused
)

// String returns the name in lower case.
func (k Kind) String() string {
	names := [...]string{KindHello: "hello", KindWelcome: "welcome", KindPrepared: "prepared", KindState: "state", KindTaken: "taken", KindRefused: "refused"}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Hello is the successor's first word.
type Hello struct {
	Version int    `cbor:"1,keyasint"`
	Program string `cbor:"2,keyasint"` // its version, for the log
	// Policy and Binding are SHA-256 over the documents' files, Layout is that of the pinned maps (loader.BuildFacts). Layouts may differ:
	// whether the maps can be migrated the successor finds out, who knows the new one.
	Policy  [32]byte `cbor:"3,keyasint"`
	Binding [32]byte `cbor:"4,keyasint"`
	Layout  [32]byte `cbor:"5,keyasint"`
	// Device and Inode are those of the program's file. With IfOther an agent that runs the same file refuses (ErrUnchanged).
	Device  uint64 `cbor:"6,keyasint"`
	Inode   uint64 `cbor:"7,keyasint"`
	IfOther bool   `cbor:"8,keyasint"`
}

// Welcome is the predecessor's answer.
type Welcome struct {
	Program string `cbor:"1,keyasint"`
}

// Prepared and Taken have nothing to add.
type (
	Prepared struct{}
	Taken    struct{}
)

// Refused says why one of the two does not go on.
type Refused struct {
	Reason string `cbor:"1,keyasint"`
	// Unchanged says that both are the same program.
	Unchanged bool `cbor:"2,keyasint"`
}

// State is all that an agent knows and that is neither in the pinned tables nor in the documents. It holds every secret and is to be
// wiped.
type State struct {
	// Epochs and Secrets are the epochs as they are stored (epoch.Encoded); the secrets name what the hardware is still to retire.
	Epochs  []byte `cbor:"1,keyasint"`
	Secrets []byte `cbor:"2,keyasint"`
	// Surplus says that the present file of secrets still holds some that were retired.
	Surplus bool              `cbor:"3,keyasint"`
	Vaults  *station.Handover `cbor:"4,keyasint,omitempty"` // nil: of an agent without a station
	Live    []LiveEpoch       `cbor:"5,keyasint"`
	Streams []Stream          `cbor:"6,keyasint"`
	// Faults are the states of all faults with their evidence (fault.Machine).
	Faults []byte `cbor:"7,keyasint"`
	// Manager is where the service manager listens (NOTIFY_SOCKET), WatchdogUS within what time it wants to hear of the service.
	Manager    string `cbor:"8,keyasint,omitempty"`
	WatchdogUS uint64 `cbor:"9,keyasint,omitempty"`
	// Counted and Refused are what the filters had counted for buses and for streams when events were last made of it.
	Counted []BusCounts `cbor:"10,keyasint"`
	// Refused may be absent: an agent of a layout without stream_refused does not have it, and none of that layout is a successor of
	// one that does.
	Refused []StreamCounts `cbor:"11,keyasint,omitempty"`
}

// Wipe overwrites the secrets.
func (s *State) Wipe() {
	clear(s.Epochs)
	clear(s.Secrets)
	if s.Vaults != nil {
		s.Vaults.Wipe()
	}
}

// LiveEpoch is what an agent has seen of an acceptable epoch. Times are in ns.
type LiveEpoch struct {
	Node     identity.Kid `cbor:"1,keyasint"`
	Number   uint32       `cbor:"2,keyasint"`
	Age      int64        `cbor:"3,keyasint"` // the larger of wall clock's and running clock's
	Promoted int64        `cbor:"4,keyasint"` // CLOCK_BOOTTIME of the first frame; 0: none
	Frames   uint64       `cbor:"5,keyasint"`
	Failed   uint64       `cbor:"6,keyasint"`
}

// Stream is what an agent knows of a stream.
type Stream struct {
	ID uint32 `cbor:"1,keyasint"`
	// Epoch is the newest one under which a frame has verified, Lowest its lowest counter.
	Epoch  uint32 `cbor:"2,keyasint"`
	Lowest uint64 `cbor:"3,keyasint"`
	// Times are when its frames have come (detect.Stream).
	Times []byte `cbor:"4,keyasint"`
}

// BusCounts are verdicts of the filter on a bus.
type BusCounts struct {
	Slot   uint32   `cbor:"1,keyasint"`
	Counts []uint64 `cbor:"2,keyasint"` // by loader.Verdict; those of the layout that both have
}

// StreamCounts are verdicts of the filter on frames of a stream.
type StreamCounts struct {
	ID     uint32   `cbor:"1,keyasint"`
	Counts []uint64 `cbor:"2,keyasint"` // by loader.Verdict, as far as the filter refuses by them
}

// ErrMessage says that a message is none, or not one that may come here.
var ErrMessage = errors.New("message of a take-over was not understood")

// modes returns the encoder and the decoder of all messages. What is decoded comes from a process that may be somebody else's: nothing
// is left open, nothing is deep, and no list is longer than an agent has streams.
func modes() (cbor.EncMode, cbor.DecMode, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, nil, fmt.Errorf("make encoder of messages: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels: 8, MaxArrayElements: 1 << 15, MaxMapPairs: 64, TagsMd: cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		return nil, nil, fmt.Errorf("make decoder of messages: %w", err)
	}
	return enc, dec, nil
}

// Encode encodes a message's body. The caller wipes it.
func Encode(v any) ([]byte, error) {
	enc, _, err := modes()
	if err != nil {
		return nil, err
	}
	b, err := enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return b, nil
}

// Decode decodes a message's body.
func Decode(b []byte, v any) error {
	_, dec, err := modes()
	if err != nil {
		return err
	}
	if err := dec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}
