// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/loader"
)

// power is what all disks and hardware of a simulation hang on. It is cut before a given step.
type power struct {
	steps int
	cut   int // -1: never
	off   bool
}

var errPower = errors.New("power cut")

func (p *power) step() error {
	if p.off || p.steps == p.cut {
		p.off = true
		return errPower
	}
	p.steps++
	return nil
}

// change is a change to the names in a folder that is not yet durable.
type change struct {
	name string
	from string // renamed from; "": created or removed
	data []byte // nil: removed
}

// disk is a folder whose content survives a power cut as far as it was synced; of the rest, any subset does.
type disk struct {
	power   *power
	durable map[string][]byte
	view    map[string][]byte
	pending []change
}

func newDisk(p *power) *disk {
	return &disk{power: p, durable: map[string][]byte{}, view: map[string][]byte{}}
}

func (d *disk) ReadFile(name string) ([]byte, error) {
	if d.power.off {
		return nil, errPower
	}
	if b, ok := d.view[name]; ok {
		return bytes.Clone(b), nil
	}
	return nil, fs.ErrNotExist
}

func (d *disk) List() ([]string, error) {
	var names []string
	for n := range d.view {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

func (d *disk) do(c change) {
	d.pending = append(d.pending, c)
	apply(d.view, c)
}

func apply(m map[string][]byte, c change) {
	delete(m, c.from)
	if c.data == nil {
		delete(m, c.name)
	} else {
		m[c.name] = c.data
	}
}

func (d *disk) WriteFile(name string, b []byte) error {
	if err := d.power.step(); err != nil {
		d.do(change{name: name, data: bytes.Clone(b[:len(b)/2])}) // torn
		return err
	}
	d.do(change{name: name, data: bytes.Clone(b)})
	return nil
}

func (d *disk) Rename(from, to string) error {
	if err := d.power.step(); err != nil {
		return err
	}
	d.do(change{name: to, from: from, data: d.view[from]})
	return nil
}

func (d *disk) Remove(name string) error {
	if err := d.power.step(); err != nil {
		return err
	}
	if _, ok := d.view[name]; !ok {
		return fs.ErrNotExist
	}
	d.do(change{name: name})
	return nil
}

func (d *disk) Sync() error {
	if err := d.power.step(); err != nil {
		return err
	}
	for _, c := range d.pending {
		apply(d.durable, c)
	}
	d.pending = nil
	return nil
}

// crash loses any subset of what was not synced.
func (d *disk) crash(rng *mrand.Rand) {
	for _, c := range d.pending {
		if rng.IntN(2) == 0 {
			apply(d.durable, c)
		}
	}
	d.pending = nil
	d.view = make(map[string][]byte)
	for n, b := range d.durable {
		d.view[n] = bytes.Clone(b)
	}
}

// chip is a monotonic counter with its seals. A seal names the value under which it opens.
type chip struct {
	power *power
	value uint64
	first uint64
}

func (c *chip) First() uint64 { return c.first }

func (c *chip) Value() (uint64, error) { return c.value, c.alive() }

func (c *chip) alive() error {
	if c.power.off {
		return errPower
	}
	return nil
}

func (c *chip) Increment() (uint64, error) {
	if err := c.power.step(); err != nil {
		return 0, err
	}
	c.value++
	return c.value, nil
}

func (c *chip) SealAt(secret []byte, value uint64) ([]byte, error) {
	if err := c.power.step(); err != nil {
		return nil, err
	}
	return append(binary.LittleEndian.AppendUint64(nil, value), secret...), nil
}

func (c *chip) UnsealAt(sealed []byte, value uint64) ([]byte, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	if len(sealed) < 8 || binary.LittleEndian.Uint64(sealed) != c.value || value != c.value {
		return nil, fmt.Errorf("policy fails: counter shows %d", c.value)
	}
	return bytes.Clone(sealed[8:]), nil
}

// Seal and Unseal make a chip do for a node, which has no counter.
func (c *chip) Seal(secret []byte) ([]byte, error)   { return c.SealAt(secret, 0) }
func (c *chip) Unseal(sealed []byte) ([]byte, error) { return c.UnsealAt(sealed, 0) }

// world is a gateway and a node with their disks and chips, and everything that was ever on the wire.
type world struct {
	*rig
	power     *power
	gateway   *disk
	generals  *chip
	offline   *chip
	nodeDisk  *disk
	nodeChip  *chip
	store     *Store
	node      *edge.Sealer
	wireLog   []sent
	runs      map[[16]byte]bool
	published map[string]int
	// mayRefuse says that epochs may end at a start, because the documents have changed.
	mayRefuse bool
}

func newWorld(t testing.TB, cut int) *world {
	p := &power{cut: cut}
	w := &world{
		rig:   &rig{t: t, set: testSet(t), sink: &published{}, now: 1e9},
		power: p, gateway: newDisk(p), generals: &chip{p, 41, 41}, offline: &chip{p, 7, 7}, nodeDisk: newDisk(p), nodeChip: &chip{p, 0, 0},
		runs: make(map[[16]byte]bool), published: make(map[string]int),
	}
	w.clearTables()
	return w
}

func (w *world) openStore() error {
	g, err := vault.OpenGenerations(w.gateway, "epochs", w.generals)
	if err != nil {
		return err
	}
	o, err := vault.OpenGenerations(w.gateway, "offline", w.offline)
	if err != nil {
		return err
	}
	w.store = NewStore(g, o)
	return nil
}

// enrol agrees the next epoch: the node's side durable first, then the gateway's, as offer and reply do.
func (w *world) enrol() error {
	state, _, err := w.store.Load()
	if err != nil {
		return err
	}
	n := state.AddNode(identity.Kid(w.set.Nodes[0].Identity.KID))
	number, err := n.NextEpoch()
	if err != nil {
		return err
	}
	v, err := vault.Open(w.nodeDisk, "node", w.nodeChip)
	if err != nil {
		return err
	}
	store, err := edge.OpenStore(v)
	if err != nil {
		return err
	}
	if _, floor := store.Epoch(); floor >= number {
		number = floor + 1 // an earlier reply was lost with the power
	}
	n.Floor = number
	if err := w.store.Save(state); err != nil { // the offer
		return err
	}
	var prk schedule.PRK
	_, _ = rand.Read(prk[:])
	var run edge.Run
	hash := w.set.Nodes[0].BindingHash
	_, err = store.Enroll(edge.Agreement{Epoch: number, BindingHash: hash, Agreed: time.Now().Unix()}, func(_ uint32, x edge.Run) ([]byte, schedule.PRK, error) {
		run = x
		return []byte("reply"), prk, nil
	})
	if err != nil {
		return err
	}
	kept, err := state.Keep(&prk)
	if err != nil {
		return err
	}
	err = n.Agree(&epoch.Epoch{
		Number: number, PRK: kept, Base: run.F, Agreed: time.Now().Unix(), Method: epoch.MethodHPKE, BindingHash: hash,
		Starts: []epoch.Start{{F: run.F, Random: run.Random}},
	}, 0)
	if err != nil {
		return fmt.Errorf("agree: %w", err)
	}
	return w.store.Save(state)
}

// startAgent does what Agent.resume does, in its order.
func (w *world) startAgent(fresh bool) error {
	state, missing, err := w.store.Load()
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("secrets are missing: %v", missing)
	}
	w.state = state
	w.core = newCore(w.newEngine(), w.set, w.place(), state, w.tables, w.sink)
	refused, err := w.core.resume(state, w.set, fresh, w.now, time.Now().UnixNano(), int64(33*24*time.Hour))
	if err != nil {
		return err
	}
	if len(refused) > 0 && !w.mayRefuse {
		return fmt.Errorf("refused: %v", refused)
	}
	if err := w.store.Advance(state); err != nil {
		return err
	}
	w.core.markUsed()
	if err := w.store.Save(state); err != nil {
		return err
	}
	w.core.ceilings.settled(w.core.ceilings.wanted)
	w.core.ceilings.save = func() bool {
		w.core.note()
		if w.store.Save(w.state) != nil {
			return false
		}
		w.core.ceilings.settled(w.core.ceilings.wanted)
		return true
	}
	return nil
}

func (w *world) startNode() error {
	v, err := vault.Open(w.nodeDisk, "node", w.nodeChip)
	if err != nil {
		return err
	}
	store, err := edge.OpenStore(v)
	if err != nil {
		return err
	}
	w.node, err = edge.NewSealer(store, edge.Options{
		Set: w.set, Node: ownNode, Engine: w.newEngine(),
		Buses: map[string]edge.Sender{"can0": wireEnd{&w.wire, "can0"}, "can1": wireEnd{&w.wire, "can1"}},
	})
	if err != nil {
		return err
	}
	if w.runs[w.node.Run().Random] {
		w.t.Fatal("a start repeats")
	}
	w.runs[w.node.Run().Random] = true
	if err := w.node.AnnounceStart(); err != nil {
		return err
	}
	return w.carry()
}

// carry takes what the node has sent to the gateway.
func (w *world) carry() error {
	frames := w.wire.take()
	w.wireLog = append(w.wireLog, frames...)
	if w.power.off {
		return errPower
	}
	if err := w.feed(false, frames...); err != nil {
		return err
	}
	w.collect()
	return nil
}

// collect looks at what has come out.
func (w *world) collect() {
	for _, s := range w.sink.samples {
		k := fmt.Sprint(w.set.Streams[s.Stream].ID, "/", s.Counter)
		if w.published[k]++; w.published[k] > 1 {
			w.t.Fatalf("published twice: %s", k)
		}
	}
	w.sink.samples = nil
}

func (w *world) samples(n int) error {
	for i := range n {
		w.rig.seal(w.node, "can0", 0x100, byte(i))
		w.rig.seal(w.node, "can1", 0x100, byte(i))
	}
	return w.carry()
}

// life is enrolment, operation past a ceiling, rotation with retirement, a clean stop and a start after it.
func (w *world) life() error {
	steps := []func() error{
		w.openStore,
		w.enrol,
		func() error { return w.startAgent(true) },
		w.startNode,
		func() error { return w.samples(130) },
		func() error { return w.samples(20) },
		w.cleanStop,
		w.enrol,
		func() error { return w.startAgent(false) },
		w.startNode,
		func() error { return w.samples(30) },
		func() error { // the old epoch ends, and its secret is retired
			w.now += overlap + 2e9
			w.core.tick(w.now, time.Now().UnixNano(), int64(33*24*time.Hour))
			if n := len(w.core.nodes[0].live); n != 1 {
				return fmt.Errorf("%d epochs are live", n)
			}
			w.core.note()
			return w.store.Save(w.state)
		},
		func() error { return w.samples(10) },
		w.cleanStop,
	}
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
		if w.power.off {
			return errPower
		}
	}
	return nil
}

func (w *world) cleanStop() error {
	w.core.exact()
	w.core.note()
	return w.store.Advance(w.state)
}

// TestPowerCuts cuts the power of gateway and node at every step of their lives, with any subset of what was not synced lost.
// Afterwards the state is an old one or the new one, no counter is used again under its key, nothing that was on the wire comes
// out twice, and the channel comes back.
func TestPowerCuts(t *testing.T) {
	whole := newWorld(t, -1)
	if err := whole.life(); err != nil {
		t.Fatal(err)
	}
	if n := len(whole.published); n != 2*(130+20+30+10) {
		t.Fatalf("%d samples came out of an uncut life", n)
	}
	rounds := 1000/whole.power.steps + 1
	if testing.Short() {
		rounds = 2
	}
	cuts := 0
	for cut := range whole.power.steps {
		for round := range rounds {
			cutOnce(t, cut, mrand.New(mrand.NewPCG(uint64(cut), uint64(round))))
			cuts++
		}
	}
	t.Logf("%d cuts at %d steps", cuts, whole.power.steps)
}

func cutOnce(t *testing.T, cut int, rng *mrand.Rand) {
	t.Helper()
	w := newWorld(t, cut)
	err := w.life()
	if !w.power.off {
		t.Fatalf("cut at %d: the power was never cut: %v", cut, err)
	}
	w.collect()
	// What the node had sent lies on the wire, whether or not the gateway has heard it.
	w.wireLog = append(w.wireLog, w.wire.take()...)
	w.power.off, w.power.cut = false, -1
	w.gateway.crash(rng)
	w.nodeDisk.crash(rng)
	w.clearTables()
	fail := func(what string, err error) { t.Fatalf("cut at %d: %s: %v", cut, what, err) }
	if err := w.openStore(); err != nil {
		fail("open the state", err)
	}
	if err := w.startAgent(true); err != nil {
		fail("start the agent", err)
	}
	// Everything that was ever on the wire, once more.
	if err := w.feed(false, w.wireLog...); err != nil {
		fail("recording", err)
	}
	w.collect()
	before := len(w.published)
	err = w.startNode()
	if errors.Is(err, edge.ErrNoEpoch) || err == nil && w.verdicts()[loader.StartAccepted] == 0 {
		// The agreement did not survive on one of the sides: agree anew.
		if err := w.cleanStop(); err != nil {
			fail("stop", err)
		}
		if err := w.enrol(); err != nil {
			fail("enrol again", err)
		}
		if err := w.startAgent(false); err != nil {
			fail("start again", err)
		}
		err = w.startNode()
	}
	if err != nil {
		fail("start the node", err)
	}
	if err := w.samples(5); err != nil {
		fail("send", err)
	}
	if len(w.published) != before+10 {
		t.Fatalf("cut at %d: %d of 10 samples came out afterwards", cut, len(w.published)-before)
	}
	checkReuse(t, cut, w.wireLog)
}

// checkReuse wants every (key, nonce) on the wire once. Frames are attributed to the start that was announced last before them
// on the wire, which here is the run that sealed them; the counters of every run must not have been used by it before.
func checkReuse(t *testing.T, cut int, frames []sent) {
	t.Helper()
	var run [16]byte
	seen := make(map[string]bool)
	for _, f := range frames {
		if f.frame.Data[0]>>2&3 == 3 {
			run = [16]byte(f.frame.Data[8:24])
			continue
		}
		k := fmt.Sprintf("%x/%s/%03x/%x", run, f.iface, f.frame.ID, f.frame.Data[2:8])
		if seen[k] {
			t.Fatalf("cut at %d: (key, nonce) repeats: %s", cut, k)
		}
		seen[k] = true
	}
}

// place is where the streams of the world's documents stand.
func (w *world) place() *placement {
	if w.at != nil {
		return w.at
	}
	return dense(w.t, w.set)
}
