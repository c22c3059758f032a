// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cellward/cellward/crypto/edhoc"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
)

const (
	// Label is the EAD label of Request and Grant, where it is critical (-52753 on the wire), and the exporter label of
	// PRK_epoch. It is not registered with IANA.
	Label = 52753

	// exporterContext begins the context of the exporter.
	exporterContext = "cellward v1"

	// MaxCounter is the last counter that a stream can use: 48 bits.
	MaxCounter = 1<<48 - 1
)

// Errors of a handshake beside those of package edhoc.
var (
	// ErrRequest: EAD_3 is missing, malformed or contradicts itself.
	ErrRequest = errors.New("request (EAD_3) is not acceptable")
	// ErrGrant: EAD_4 is missing, malformed, or grants what the node must not take.
	ErrGrant = errors.New("grant (EAD_4) is not acceptable")
	// ErrKey: the two sides' keys are not on one curve.
	ErrKey = errors.New("node and gateway keys are on different curves")
	// ErrName: a credential needs a name.
	ErrName = errors.New("credential without a name")
	// ErrOrder: a step of the handshake was called out of turn.
	ErrOrder = errors.New("handshake step out of turn")
	// ErrFloor: the node's floor is so far above ours that it would burn epochs.
	ErrFloor = errors.New("node floor is too far above the gateway's")
	// ErrEpochs: there is no epoch left to grant.
	ErrEpochs = errors.New("no epoch left")
)

// Party is one side as the other one knows it.
type Party struct {
	Name string // claim sub of its credential; part of what is authenticated
	Key  *identity.PublicKey
}

// Credential is CRED_x of a party: {2: name, 8: {1: {1: 2, 2: kid, -1: curve, -2: x, -3: y}}} in deterministic CBOR.
func (p Party) Credential() (*edhoc.Credential, error) {
	if p.Name == "" {
		return nil, ErrName
	}
	if p.Key == nil {
		return nil, identity.ErrKey
	}
	kid := p.Key.Kid()
	return edhoc.NewCCS(p.Name, kid[:], p.Key.ECDSA())
}

// SuiteOf is the cipher suite that goes with an identity key: 24 for P-384, the private -24 for P-256.
func SuiteOf(key *identity.PublicKey) edhoc.Suite {
	id := 24
	if key.ECDSA().Params().BitSize == 256 {
		id = -24
	}
	s, err := edhoc.SuiteByID(id)
	if err != nil {
		panic("handshake: " + err.Error()) // both suites exist
	}
	return s
}

// config is the application profile, for either side.
func config(name string, signer crypto.Signer, peer Party, ephemeral edhoc.EphemeralFactory) (edhoc.Config, error) {
	own, err := identity.NewPublicKey(signer.Public())
	if err != nil {
		return edhoc.Config{}, err
	}
	cred, err := Party{Name: name, Key: own}.Credential()
	if err != nil {
		return edhoc.Config{}, fmt.Errorf("own credential: %w", err)
	}
	peerCred, err := peer.Credential()
	if err != nil {
		return edhoc.Config{}, fmt.Errorf("peer credential: %w", err)
	}
	suite := SuiteOf(own)
	if SuiteOf(peer.Key) != suite {
		return edhoc.Config{}, ErrKey
	}
	kid := own.Kid()
	return edhoc.Config{
		Methods:    []edhoc.Method{edhoc.SignatureSignature},
		Suites:     []edhoc.Suite{suite},
		PinSuite:   true,
		Identities: []edhoc.Identity{{Credential: cred, ID: edhoc.ByKID(kid[:]), Signer: signer}},
		// Exactly this peer: the one to which the control identifier belongs. Another node's good message_3 on it is
		// refused like a stranger's.
		Lookup:         edhoc.LookupKnown(peerCred),
		Ephemeral:      ephemeral,
		EADLabels:      []int64{Label},
		Message4:       true,
		KeepOnFailure:  true,
		MaxMessageSize: MaxBody,
	}, nil
}

// only gives the value of the one item of our label in an EAD field. Other items that are not critical are ignored, as
// EDHOC has it; ours must be critical, must have a value and must be there once.
func only(field []edhoc.EAD) ([]byte, error) {
	var value []byte
	for _, e := range field {
		if e.Label != Label {
			continue
		}
		if value != nil {
			return nil, errors.New("item occurs twice")
		}
		if !e.Critical || e.Value == nil {
			return nil, errors.New("item is not critical or has no value")
		}
		value = e.Value
	}
	if value == nil {
		return nil, errors.New("item is missing")
	}
	return value, nil
}

// item wraps a value for an EAD field.
func item(value []byte) edhoc.EAD { return edhoc.EAD{Label: Label, Critical: true, Value: value} }

// Agreement is what both sides hold in the end.
type Agreement struct {
	Grant
	PRK schedule.PRK
}

// Wipe overwrites the secret.
func (a *Agreement) Wipe() { a.PRK.Wipe() }

// derive makes the agreement from a completed session.
func derive(s *edhoc.Session, g Grant, binding [32]byte) (*Agreement, error) {
	context := append([]byte(exporterContext), binary.LittleEndian.AppendUint32(nil, g.Epoch)...)
	context = append(context, binding[:]...)
	prk, err := s.Exporter(Label, context, schedule.PRKSize)
	if err != nil {
		return nil, err
	}
	defer clear(prk)
	return &Agreement{Grant: g, PRK: schedule.PRK(prk)}, nil
}
