// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
)

const testPolicy = `
apiVersion: security.bms/v1alpha1
kind: SensorDataSecurityPolicy
metadata: {name: test}
spec:
  dataSources:
    - {identifier: cells, samplingRate: 10Hz, sensitivity: CRITICAL}
    - {identifier: current, samplingRate: 10Hz, sensitivity: HIGH}
  cryptographicProfile: {cipher: AES-256-GCM, keyDerivationFunction: HKDF-SHA-384, authenticationTagLength: 128 bits}
  keyManagement:
    provider: hardwareSecurityModule
    hsmConfig: {vendor: "iso/iec-11889:2015-tpm-2.0", keyStorage: non-exportable-wrapped}
    rotationPolicy: {interval: P30D, trigger: ALWAYS_REKEY}
  transport:
    integrityEnforcement: STRICT
    replayProtection: {enabled: true, windowSize: 1024}
`

// memoryVault keeps a state in memory.
type memoryVault struct {
	state []byte
	fail  error
}

func (v *memoryVault) Load() ([]byte, error) { return bytes.Clone(v.state), nil }

func (v *memoryVault) Save(b []byte) error {
	if v.fail != nil {
		return v.fail
	}
	v.state = bytes.Clone(b)
	return nil
}

// sent is a frame on its bus.
type sent struct {
	iface string
	frame loader.CANFrame
}

// wire collects what edges send.
type wire struct{ frames []sent }

type wireEnd struct {
	w     *wire
	iface string
}

func (e wireEnd) SendFD(f *loader.CANFrame) error {
	e.w.frames = append(e.w.frames, sent{e.iface, *f})
	return nil
}

func (w *wire) take() []sent {
	all := w.frames
	w.frames = nil
	return all
}

// recorder keeps the records of events.
type recorder struct{ all []event.Record }

func (x *recorder) Offer(r *event.Record) { x.all = append(x.all, *r) }

// told returns what was noted of some kinds, or of all, since it was called last.
func (r *rig) told(kinds ...kind.Kind) (all []event.Record) {
	r.collector.Flush()
	for _, e := range r.events.all {
		if len(kinds) == 0 || slices.Contains(kinds, e.Kind) {
			all = append(all, e)
		}
	}
	r.events.all = nil
	return all
}

// published takes what a core publishes.
type published struct {
	samples []ring.Sample
	fail    error
}

func (s *published) Wake() {}

func (s *published) Begin(n int, _ int64) (ring.Draft, error) {
	return ring.NewDraft(BatchSize, maxText), nil
}
func (s *published) Restamp(*ring.Draft, int) {}

func (s *published) End(d *ring.Draft, n int, _ []uint32) error {
	var batch []ring.Sample
	for i := range n {
		batch = append(batch, d.Sample(i))
	}
	*d = ring.Draft{}
	return s.Append(batch)
}

func (s *published) Append(batch []ring.Sample) error {
	if s.fail != nil {
		return s.fail
	}
	for _, x := range batch {
		x.Body = bytes.Clone(x.Body)
		s.samples = append(s.samples, x)
	}
	return nil
}

// rig is a gateway core and edges of one node without kernel, TPM or files.
type rig struct {
	t      testing.TB
	set    *policy.Set
	at     *placement // of set; nil: in its order
	state  *epoch.State
	tables Tables
	sink   *published
	core   *core
	// notes is what the core notes in, events what has come of it.
	notes     *event.Table
	collector *event.Collector
	events    recorder
	vault     *memoryVault // of the node
	wire      wire
	now       int64
	nodeNow   func() time.Time // nil: time.Now
	// disk is the gateway's state as it was made durable last.
	disk     *epoch.Encoded
	diskFull bool
}

// persist makes the gateway's state durable.
func (r *rig) persist() {
	r.t.Helper()
	var err error
	if r.disk != nil {
		r.disk.Wipe()
	}
	if r.disk, err = r.state.Encode(); err != nil {
		r.t.Fatal(err)
	}
}

// reboot loses the tables and everything that was not durable.
func (r *rig) reboot() []refusal {
	r.t.Helper()
	r.clearTables()
	state, missing, surplus, err := epoch.Decode(r.disk.State, r.disk.Secrets)
	if err != nil || len(missing)+len(surplus) > 0 {
		r.t.Fatalf("decode state: %v, missing %v, surplus %v", err, missing, surplus)
	}
	r.state = state
	return r.boot(true)
}

const ownNode = "bmu"

func testIdentity(t testing.TB) policy.Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := policy.NewIdentity(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testSet(t testing.TB) *policy.Set {
	t.Helper()
	return testSetOf(t, testIdentity(t), testIdentity(t))
}

// testSetOf is a set with given identities of gateway and node.
func testSetOf(t testing.TB, gateway, node policy.Identity) *policy.Set {
	t.Helper()
	p, err := policy.ParsePolicy("test", []byte(testPolicy))
	if err != nil {
		t.Fatal(err)
	}
	b := &policy.Binding{
		Name: "test", Policy: "test",
		Gateway: policy.Gateway{
			Name: "gw", Identity: gateway, TPM: "/dev/tpmrm0", StateDirectory: "/var/lib/cellward", CandidateRing: 1 << 20,
			Ring: policy.Ring{Slots: 1024, Socket: "/run/cellward/ring.sock"}, Control: policy.Control{Socket: "/run/cellward/control.sock"},
		},
		Interfaces: []policy.Interface{{Name: "can0", Index: 1, Carrier: policy.CANFD}, {Name: "can1", Index: 2, Carrier: policy.CANFD}},
		Sources:    []policy.Source{{Identifier: "cells", ID: 1}, {Identifier: "current", ID: 2}},
		Nodes: []policy.Node{{
			Name: ownNode, Identity: node,
			Heartbeats: []policy.Heartbeat{{StreamID: 1, Interface: "can0", CANID: 0x7E0}, {StreamID: 2, Interface: "can1", CANID: 0x7E0}},
			Streams: []policy.Stream{
				{StreamID: 10, Interface: "can0", CANID: 0x100, Source: "cells"},
				{StreamID: 11, Interface: "can0", CANID: 0x101, Source: "current"},
				{StreamID: 12, Interface: "can1", CANID: 0x100, Source: "cells"},
			},
		}},
	}
	return bound(t, p, b)
}

// bound is what an agent goes by that is given the two documents.
func bound(t testing.TB, p *policy.Policy, b *policy.Binding) *policy.Set {
	t.Helper()
	doc, err := policy.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = policy.ParseBinding("test", doc); err != nil {
		t.Fatal(err)
	}
	set, err := policy.Bind(p, b)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// newRig makes a gateway and a node that have agreed epoch 1 from counter 1 on.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, set: testSet(t), state: epoch.New(), sink: &published{}, vault: &memoryVault{}, now: 1e9}
	r.clearTables()
	r.agree(1, 1)
	r.boot(true)
	return r
}

// clearTables is what a reboot of the gateway does.
func (r *rig) clearTables() {
	r.tables = Tables{
		Windows: make([]loader.Window, len(r.set.Streams)), Epochs: make([]loader.EpochTable, 1),
		Starts: make([]loader.StartTable, 1), Counters: make([]loader.Counters, 3),
	}
}

// agree gives both sides a new secret for the next epoch.
func (r *rig) agree(number uint32, base uint64) {
	r.t.Helper()
	store, err := edge.OpenStore(r.vault)
	if err != nil {
		r.t.Fatal(err)
	}
	var prk schedule.PRK
	if _, err := rand.Read(prk[:]); err != nil {
		r.t.Fatal(err)
	}
	hash := r.set.Nodes[0].BindingHash
	var run edge.Run
	_, err = store.Enroll(edge.Agreement{Epoch: number, BindingHash: hash, Agreed: time.Now().Unix()}, func(_ uint32, x edge.Run) ([]byte, schedule.PRK, error) {
		run = x
		return []byte("reply"), prk, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if run.F != base {
		r.t.Fatalf("node begins epoch %d at %d, want %d", number, run.F, base)
	}
	n := r.state.AddNode(identity.Kid(r.set.Nodes[0].Identity.KID))
	n.Floor = number
	kept, err := r.state.Keep(&prk)
	if err != nil {
		r.t.Fatal(err)
	}
	err = n.Agree(&epoch.Epoch{
		Number: number, PRK: kept, Base: run.F, Agreed: time.Now().Unix(), Method: epoch.MethodHPKE, BindingHash: hash,
		Starts: []epoch.Start{{F: run.F, Random: run.Random}},
	}, 0)
	if err != nil {
		r.t.Fatal(err)
	}
}

// boot starts an agent over the tables. fresh says that they are new.
func (r *rig) boot(fresh bool) []refusal {
	r.t.Helper()
	at := r.at
	if at == nil {
		at = dense(r.t, r.set)
	}
	r.core = newCore(r.newEngine(), r.set, at, r.state, r.tables, r.sink)
	if r.notes == nil {
		r.notes = event.NewTable(event.NewDirectory(r.set))
		r.collector = event.NewCollector(event.CollectorOptions{Table: r.notes, Destinations: []event.Destination{&r.events}})
	}
	r.core.notes = r.notes
	refused, err := r.core.resume(r.state, r.set, fresh, r.now, time.Now().UnixNano(), int64(33*24*time.Hour))
	if err != nil {
		r.t.Fatal(err)
	}
	r.core.markUsed()
	r.persist()
	r.core.ceilings.settled(r.core.ceilings.wanted)
	r.core.ceilings.save = func() bool {
		if r.diskFull {
			return false
		}
		r.core.note()
		r.persist()
		r.core.ceilings.settled(r.core.ceilings.wanted)
		return true
	}
	return refused
}

// node starts the node from a vault.
func (r *rig) node(v edge.Vault) *edge.Sealer {
	r.t.Helper()
	store, err := edge.OpenStore(v)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := edge.NewSealer(store, edge.Options{
		Set: r.set, Node: ownNode, Engine: r.newEngine(),
		Buses: map[string]edge.Sender{"can0": wireEnd{&r.wire, "can0"}, "can1": wireEnd{&r.wire, "can1"}}, Now: r.nodeNow,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// seal sends one frame.
func (r *rig) seal(s *edge.Sealer, bus string, id uint32, body ...byte) {
	r.t.Helper()
	f := trace.Frame{Bus: bus, ID: id, Len: uint8(len(body))}
	copy(f.Data[:], body)
	if err := errors.Join(s.Seal(&f), s.Flush()); err != nil {
		r.t.Fatal(err)
	}
}

// record lays a frame down as the filter does; control says on which ring.
func (r *rig) record(f sent) (rec loader.Record, control bool) {
	r.t.Helper()
	for _, s := range r.set.Streams {
		if s.Interface.Name == f.iface && uint32(s.CANID) == f.frame.ID {
			return r.recordFor(f, s), spdu.Kind(f.frame.Data[0]>>2&3) == spdu.KindStart
		}
	}
	r.t.Fatalf("no stream for %s %03X", f.iface, f.frame.ID)
	return nil, false
}

func (r *rig) recordFor(f sent, s policy.ResolvedStream) loader.Record {
	var number uint32
	node, slot := s.Node, s.Slot
	if r.at != nil {
		node, slot = r.at.nodes[s.Node], r.at.slots[s.Slot]
	}
	for i := range loader.NodeEpochs {
		if n, _, live := r.tables.Epochs[node].Load(i); live && uint8(n) == f.frame.Data[1] {
			number = n
		}
	}
	b := make([]byte, 96)
	binary.LittleEndian.PutUint64(b, uint64(r.now))
	binary.LittleEndian.PutUint32(b[8:], uint32(slot))
	binary.LittleEndian.PutUint32(b[12:], f.frame.ID)
	binary.LittleEndian.PutUint16(b[16:], uint16(f.frame.Len))
	b[18] = byte(loader.CarrierCANFD)
	binary.LittleEndian.PutUint32(b[20:], uint32(s.Interface.Index))
	binary.LittleEndian.PutUint32(b[24:], s.ID)
	binary.LittleEndian.PutUint32(b[28:], number)
	copy(b[32:], f.frame.Data[:])
	return b
}

// feed takes frames through the core, start records first, as the agent does with what lies in its rings.
func (r *rig) feed(again bool, frames ...sent) error {
	r.t.Helper()
	var starts []loader.Record
	batches := make(map[uint32][]loader.Record)
	for _, f := range frames {
		rec, control := r.record(f)
		if control {
			starts = append(starts, rec)
		} else {
			batches[rec.Iface()] = append(batches[rec.Iface()], rec)
		}
	}
	for len(starts) > 0 {
		n := min(BatchSize, len(starts))
		r.core.startRecords(starts[:n], r.now)
		starts = starts[n:]
	}
	for iface := uint32(1); iface <= 2; iface++ {
		for b := batches[iface]; len(b) > 0; {
			n := min(BatchSize, len(b))
			if err := r.core.process(b[:n], again); err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

func (r *rig) mustFeed(frames ...sent) {
	r.t.Helper()
	if err := r.feed(false, frames...); err != nil {
		r.t.Fatal(err)
	}
}

// verdicts sums the agent's counters.
func (r *rig) verdicts() loader.Counts {
	var sum loader.Counts
	for i := range r.tables.Counters {
		r.tables.Counters[i].AddTo(&sum)
	}
	return sum
}

// expect checks verdicts counted since before; those not named must not have changed.
func (r *rig) expect(before loader.Counts, want map[loader.Verdict]uint64) {
	r.t.Helper()
	now := r.verdicts()
	for v := range now {
		if got := now[v] - before[v]; got != want[loader.Verdict(v)] {
			r.t.Errorf("%v: %d, want %d", loader.Verdict(v), got, want[loader.Verdict(v)])
		}
	}
}

// engineVariable names the engine by which the tests of the core run; unset or empty: std.
const engineVariable = "CELLWARD_TEST_ENGINE"

func (r *rig) newEngine() aead.Engine {
	r.t.Helper()
	name := os.Getenv(engineVariable)
	if name == "" {
		return aead.NewStd()
	}
	s, err := aead.Select(aead.Options{Engine: name})
	if err != nil {
		r.t.Fatalf("%s: %v", engineVariable, err)
	}
	return s.Engine
}

// dense places a set as a gateway does that has just booted.
func dense(t testing.TB, set *policy.Set) *placement {
	t.Helper()
	p, err := placeAmong(set, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
