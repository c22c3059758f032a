// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/secretmem"
	"github.com/cellward/cellward/crypto/spdu"
)

// StateVersion is the version of the encoded node state. Another version is refused.
const StateVersion = 1

// CounterBlock is how many counters a node reserves ahead. A crash wastes at most one block of the 2^48.
const CounterBlock = 65536

// epochCounters is how far above its first counter an epoch reaches; gateway and filter refuse what lies beyond.
const epochCounters = 1 << 32

var (
	// ErrState says that the decrypted node state is not one this version wrote.
	ErrState = errors.New("node state is damaged or of another version")
	// ErrNoEpoch says that the node has agreed no key yet.
	ErrNoEpoch = errors.New("node has no epoch: enrol it with an offer of the gateway")
	// ErrExhausted says that the epoch or the counter has come to its end; a new epoch is needed.
	ErrExhausted = errors.New("counters of the epoch are used up")
	// ErrEpochFloor says that an offer names an epoch that is not above the node's floor.
	ErrEpochFloor = errors.New("offered epoch is not above the node's floor")
)

// State is what a node keeps: the secret of its epoch and the ceiling below which every counter may have been used. A copy shares
// the secret. It is not safe for concurrent use.
type State struct {
	Gateway identity.Kid
	// Floor is the highest epoch number ever taken.
	Floor uint32
	Epoch uint32
	// PRK is nil as long as there is no epoch.
	PRK *secretmem.Box[schedule.PRK]
	// Base is the first counter of the epoch.
	Base uint64
	// Ceiling is the first counter that was never reserved, shared by all streams of the node.
	Ceiling uint64
	// Agreed is the wall-clock time of the agreement in seconds since 1970.
	Agreed      int64
	BindingHash [32]byte

	// secrets is where PRK lies.
	secrets *secretmem.Arena
}

// encodedState is a state as it is stored.
type encodedState struct {
	Version     int          `cbor:"1,keyasint"`
	Gateway     identity.Kid `cbor:"2,keyasint"`
	Floor       uint32       `cbor:"3,keyasint"`
	Epoch       uint32       `cbor:"4,keyasint"`
	PRK         schedule.PRK `cbor:"5,keyasint"`
	Base        uint64       `cbor:"6,keyasint"`
	Ceiling     uint64       `cbor:"7,keyasint"`
	Agreed      int64        `cbor:"8,keyasint"`
	BindingHash [32]byte     `cbor:"9,keyasint"`
}

// maxEncoded is an upper bound of the encoding in bytes.
const maxEncoded = 512

// NewState returns the state of a node that has agreed nothing. Counter 0 is never used.
func NewState() *State { return &State{Ceiling: 1, secrets: new(secretmem.Arena)} }

// Marshal encodes s. The result holds a secret: it goes to the vault and is wiped.
func (s *State) Marshal() ([]byte, error) {
	// The encoder's own buffers would keep the secret; this one is given its buffer, which never grows.
	mode, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		return nil, fmt.Errorf("make encoder of node state: %w", err)
	}
	b := make([]byte, 0, maxEncoded)
	secretmem.Do(func() {
		x := &encodedState{
			Version: StateVersion, Gateway: s.Gateway, Floor: s.Floor, Epoch: s.Epoch, Base: s.Base, Ceiling: s.Ceiling,
			Agreed: s.Agreed, BindingHash: s.BindingHash,
		}
		defer x.PRK.Wipe()
		copy(x.PRK[:], s.PRK.Get()[:])
		buf := bytes.NewBuffer(b)
		err = mode.MarshalToBuffer(x, buf)
		b = buf.Bytes()
	})
	if err != nil {
		clear(b)
		return nil, fmt.Errorf("encode node state: %w", err)
	}
	return b, nil
}

// UnmarshalState decodes and checks a node state.
func UnmarshalState(b []byte) (_ *State, err error) {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("make decoder of node state: %w", err)
	}
	s := NewState()
	secretmem.Do(func() {
		x := new(encodedState)
		defer x.PRK.Wipe()
		if err = mode.Unmarshal(b, x); err != nil {
			err = fmt.Errorf("%w: %w", ErrState, err)
			return
		}
		if err = x.check(); err != nil {
			return
		}
		s.Gateway, s.Floor, s.Epoch, s.Base, s.Ceiling, s.Agreed, s.BindingHash = x.Gateway, x.Floor, x.Epoch, x.Base, x.Ceiling, x.Agreed, x.BindingHash
		if x.Epoch != 0 {
			s.PRK, err = s.keep(&x.PRK)
		}
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *encodedState) check() error {
	switch {
	case s.Version != StateVersion:
		return fmt.Errorf("%w: version %d, want %d", ErrState, s.Version, StateVersion)
	case s.Ceiling == 0, s.Ceiling > spdu.MaxCounter+1:
		return fmt.Errorf("%w: ceiling %d is out of range", ErrState, s.Ceiling)
	case s.Epoch > s.Floor, s.Epoch != 0 && (s.Base == 0 || s.Base >= s.Ceiling):
		return fmt.Errorf("%w: epoch %d does not fit floor %d, base %d and ceiling %d", ErrState, s.Epoch, s.Floor, s.Base, s.Ceiling)
	}
	return nil
}

// keep copies a secret to where a state can hold it. The caller wipes his own.
func (s *State) keep(prk *schedule.PRK) (*secretmem.Box[schedule.PRK], error) {
	b, err := secretmem.NewBox[schedule.PRK](s.secrets)
	if err != nil {
		return nil, fmt.Errorf("keep secret of the epoch: %w", err)
	}
	copy(b.Get()[:], prk[:])
	return b, nil
}

// Run is one start of the node: every stream continues at counter F under keys that depend on Random.
type Run struct {
	F      uint64
	Random [16]byte
}

// begin reserves the first block of a start. The caller makes s durable before it uses the run.
func (s *State) begin(random io.Reader) (Run, error) {
	var r Run
	// No randomness, no sending: a start without fresh bytes could repeat (key, nonce) after a rollback of the storage.
	if _, err := io.ReadFull(random, r.Random[:]); err != nil {
		return Run{}, fmt.Errorf("draw the start's random bytes: %w", err)
	}
	r.F = s.Ceiling
	if err := s.reserve(r.F); err != nil {
		return Run{}, err
	}
	return r, nil
}

// reserve raises the ceiling by whole blocks until counter lies below it.
func (s *State) reserve(counter uint64) error {
	if counter < s.Ceiling {
		return nil
	}
	next := s.Ceiling + ((counter-s.Ceiling)/CounterBlock+1)*CounterBlock
	if next > spdu.MaxCounter+1 || (s.Epoch != 0 && next > s.Base+epochCounters) {
		return fmt.Errorf("%w: epoch %d, counter %d", ErrExhausted, s.Epoch, counter)
	}
	s.Ceiling = next
	return nil
}

// enroll moves s to a new epoch, whose first counter is the old ceiling, and reserves the block of the run that agrees it.
func (s *State) enroll(gateway identity.Kid, epoch uint32, binding [32]byte, agreed int64) (Run, error) {
	if epoch <= s.Floor {
		return Run{}, fmt.Errorf("%w: epoch %d, floor %d", ErrEpochFloor, epoch, s.Floor)
	}
	next := *s
	next.Gateway, next.Floor, next.Epoch, next.BindingHash, next.Agreed = gateway, epoch, epoch, binding, agreed
	next.Base = s.Ceiling
	run, err := next.begin(rand.Reader)
	if err != nil {
		return Run{}, err
	}
	*s = next
	return run, nil
}
