// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/swtpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
)

const testPolicy = `
apiVersion: security.bms/v1alpha1
kind: SensorDataSecurityPolicy
metadata: {name: test}
spec:
  dataSources:
    - {identifier: cells, samplingRate: 10Hz, sensitivity: CRITICAL}
  cryptographicProfile: {cipher: AES-256-GCM, keyDerivationFunction: HKDF-SHA-384, authenticationTagLength: 128 bits}
  keyManagement:
    provider: hardwareSecurityModule
    hsmConfig: {vendor: "iso/iec-11889:2015-tpm-2.0", keyStorage: non-exportable-wrapped}
    rotationPolicy: {interval: P30D, trigger: ALWAYS_REKEY}
  transport:
    integrityEnforcement: STRICT
    replayProtection: {enabled: true, windowSize: 1024}
`

const testNode = "bmu"

// side is a station with its emulator behind a proxy.
type side struct {
	process *swtpm.Process
	proxy   *tpmtest.Proxy
	at      station.Options
}

func newSide(t *testing.T, gateway bool) *side {
	t.Helper()
	p := tpmtest.Start(t)
	x := tpmtest.StartProxy(t, p.Socket)
	return &side{p, x, station.Options{Gateway: gateway, Dir: filepath.Join(t.TempDir(), "state"), TPM: x.Path()}}
}

func (s *side) init(t *testing.T) policy.Identity {
	t.Helper()
	id, err := Init(t.Context(), s.at)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := policy.ParseIdentity(id.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// newPair makes a gateway and a node, each with a TPM, and documents that name them.
func newPair(t *testing.T) (gateway, node *side, set *policy.Set) {
	t.Helper()
	gateway, node = newSide(t, true), newSide(t, false)
	p, err := policy.ParsePolicy("test", []byte(testPolicy))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := policy.Marshal(&policy.Binding{
		Name: "test", Policy: "test",
		Gateway: policy.Gateway{
			Name: "gw", Identity: gateway.init(t), TPM: gateway.at.TPM, StateDirectory: gateway.at.Dir, CandidateRing: 1 << 20,
			Ring:    policy.Ring{Slots: 1024, Socket: "/run/cellward/ring.sock"},
			Control: policy.Control{Socket: filepath.Join(t.TempDir(), "control.sock")},
		},
		Interfaces: []policy.Interface{{Name: "can0", Index: 1, Carrier: policy.CANFD}},
		Sources:    []policy.Source{{Identifier: "cells", ID: 1}},
		Nodes: []policy.Node{{
			Name: testNode, Identity: node.init(t),
			Heartbeats: []policy.Heartbeat{{StreamID: 1, Interface: "can0", CANID: 0x7E0}},
			Streams:    []policy.Stream{{StreamID: 10, Interface: "can0", CANID: 0x100, Source: "cells"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := policy.ParseBinding("test", doc)
	if err != nil {
		t.Fatal(err)
	}
	if set, err = policy.Bind(p, b); err != nil {
		t.Fatal(err)
	}
	return gateway, node, set
}

// verb is a verb of `cellward keys` with what must be done before it. done are errors that say that the faulty call before has done
// its work.
type verb struct {
	name    string
	on      *side
	prepare func()
	run     func() error
	done    []error
}

// verbs are all verbs that use a TPM.
func verbs(t *testing.T, gateway, node *side, set *policy.Set) []verb {
	ctx := t.Context()
	var offered, reply []byte
	offer := func() {
		o, err := Offer(ctx, set, testNode)
		if err != nil {
			t.Fatal(err)
		}
		offered = o.Bytes
	}
	enroll := func() {
		e, err := Enroll(ctx, set, testNode, node.at, offered)
		if err != nil {
			t.Fatal(err)
		}
		reply = e.Reply
	}
	both := func() { offer(); enroll() }
	agreed := func() {
		both()
		if _, err := Accept(ctx, set, reply); err != nil {
			t.Fatal(err)
		}
	}
	rotate := func() error { _, err := RotateOffers(ctx, set); return err }
	clear := func() {
		if err := rotate(); err != nil {
			t.Fatal(err)
		}
	}
	// Each call of init gets a new folder in an emulator of its own: an index that a fault leaves behind is lost, and there are few.
	fresh := newSide(t, true)
	return []verb{
		{name: "init", on: fresh, prepare: func() {
			if err := fresh.process.Stop(); err != nil {
				t.Fatal(err)
			}
			*fresh = *newSide(t, true)
		}, run: func() error {
			fresh.at.Dir = filepath.Join(t.TempDir(), "state")
			_, err := Init(ctx, fresh.at)
			return err
		}},
		{name: "offer", on: gateway, prepare: clear, run: func() error { _, err := Offer(ctx, set, testNode); return err }},
		{name: "enroll", on: node, prepare: func() { clear(); offer() }, run: func() error {
			_, err := Enroll(ctx, set, testNode, node.at, offered)
			return err
		}, done: []error{edge.ErrEpochFloor}},
		{name: "accept", on: gateway, prepare: both, run: func() error { _, err := Accept(ctx, set, reply); return err }, done: []error{agree.ErrNoOffer}},
		{name: "list", on: gateway, prepare: func() {}, run: func() error { _, err := List(ctx, set); return err }},
		{name: "rotate-offers", on: gateway, prepare: offer, run: rotate},
		{name: "retire", on: gateway, prepare: agreed, run: func() error { _, err := Retire(ctx, set, testNode, 0); return err }, done: []error{agree.ErrNoEpoch}},
	}
}

const ccFlushContext = 0x165

// TestFailingVerbs lets each verb fail at one of its commands after the other: afterwards the TPM holds no object and no session, and
// the same verb works, unless it says that the failing call has done its work. With -short it tries fewer commands.
func TestFailingVerbs(t *testing.T) {
	gateway, node, set := newPair(t)
	faults := []tpmtest.Fault{
		{Cut: true}, {Lose: true}, {Code: tpmtest.InFailure}, {Code: tpmtest.LockedOut}, {Code: tpmtest.SessionsFull}, {Code: tpmtest.NotStarted},
		{Code: tpmtest.NoAuth}, {Code: tpmtest.PolicyRefused}, {Code: tpmtest.NoHandle}, {Code: tpmtest.NVFull}, {Code: tpmtest.ObjectsFull},
	}
	stride := 3
	if testing.Short() {
		stride = 12
	}
	failed, next := 0, 0
	for _, v := range verbs(t, gateway, node, set) {
		for at := 0; ; at += stride {
			v.prepare()
			f := faults[next%len(faults)]
			next++
			// Written by the proxy: a connection that it cuts off orders nothing in this process.
			var reached atomic.Uint32
			v.on.proxy.Set(func(n int, command []byte) tpmtest.Fault {
				if n != at {
					return tpmtest.Fault{}
				}
				reached.Store(binary.BigEndian.Uint32(command[6:]))
				return f
			})
			err := v.run()
			v.on.proxy.Set(nil)
			hit := reached.Load()
			if hit == 0 {
				if err != nil {
					t.Fatalf("%s without a fault: %v", v.name, err)
				}
				break
			}
			name := fmt.Sprintf("%s, %+v at command %d (0x%03X)", v.name, f, at, hit)
			if err != nil {
				failed++
				var e *tpm.Error
				if !errors.As(err, &e) {
					t.Errorf("%s: %v is no error of the TPM", name, err)
				}
			}
			// A connection that was cut leaves to the next call what it could not flush.
			if f.Code != 0 && hit != ccFlushContext {
				wantNoHandles(t, v.on, name)
			}
			again := v.run()
			for _, d := range v.done {
				if errors.Is(again, d) {
					again = nil
				}
			}
			if again != nil {
				t.Fatalf("%s: %v; afterwards: %v", name, err, again)
			}
			wantNoHandles(t, v.on, name)
		}
	}
	t.Logf("%d calls of verbs failed; no handle was left", failed)
	if least := 255 / stride; failed < least {
		t.Errorf("only %d calls failed, want %d", failed, least)
	}
}

func wantNoHandles(t *testing.T, s *side, name string) {
	t.Helper()
	if left := tpmtest.Handles(t, s.process); len(left) > 0 {
		t.Fatalf("%s: handles %#x left", name, left)
	}
}
