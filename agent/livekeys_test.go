// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/agree"
	"github.com/cellward/cellward/agent/control"
	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/station"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/offer"
	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/tpm"
	"github.com/cellward/cellward/crypto/tpm/swtpm"
	"github.com/cellward/cellward/crypto/tpm/tpmtest"
	"github.com/cellward/cellward/loader"
)

// faultyVault is a gateway's vault on a disk that can be full.
type faultyVault struct {
	Versioned
	full *atomic.Bool
}

var errFull = errors.New("no space left")

func (v faultyVault) Save(b []byte) error {
	if v.full.Load() {
		return errFull
	}
	return v.Versioned.Save(b)
}

// gatewayRig is an agent without kernel, with state folder and TPM: swtpm behind a proxy that makes faults. Its node has a software
// key; frames go from its sealer to the core by way of feedOne.
type gatewayRig struct {
	*rig
	agent   *Agent
	station *station.Station
	proxy   *tpmtest.Proxy
	tpm     *swtpm.Process
	dir     string
	key     *softwareKey
	full    atomic.Bool
	log     lockedBuffer
	saves   *saver
	stop    context.CancelFunc
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(event string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), `"event":"`+event+`"`)
}

func newGatewayRig(t *testing.T) *gatewayRig {
	t.Helper()
	p := tpmtest.Start(t)
	g := &gatewayRig{tpm: p, proxy: tpmtest.StartProxy(t, p.Socket), dir: filepath.Join(t.TempDir(), "state")}
	at := station.Options{Gateway: true, Dir: g.dir, TPM: g.proxy.Path()}
	s, err := station.Init(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if g.station, err = station.Open(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	key, err := newSoftwareKey()
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := policy.ParseIdentity(g.station.Public.String())
	if err != nil {
		t.Fatal(err)
	}
	node, err := policy.ParseIdentity(key.public)
	if err != nil {
		t.Fatal(err)
	}
	g.key = key
	set := testSetOf(t, gateway, node)
	g.rig = &rig{t: t, set: set, sink: &published{}, vault: &memoryVault{}}
	g.clearTables()
	store := NewStore(faultyVault{g.station.Epochs, &g.full}, g.station.Offline)
	if g.state, _, err = store.Load(); err != nil {
		t.Fatal(err)
	}
	a := &Agent{
		opts: Options{Set: set, Store: store, Station: g.station}, log: slog.New(slog.NewJSONHandler(&g.log, nil)), engine: aead.NewStd(),
		state: g.state, began: time.Now(),
	}
	g.agent = a
	a.monitor = monitorOf(t, Options{Set: set})
	t.Cleanup(func() {
		if err := a.monitor.close(); err != nil {
			t.Error(err)
		}
	})
	g.now = a.now()
	g.core = newCore(a.engine, set, dense(t, set), g.state, g.tables, g.sink)
	a.core = g.core
	if refused, err := g.core.resume(g.state, set, true, g.now, time.Now().UnixNano(), a.limit()); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	if err := store.Advance(g.state); err != nil {
		t.Fatal(err)
	}
	g.core.markUsed()
	if err := store.Save(g.state); err != nil {
		t.Fatal(err)
	}
	g.core.ceilings.settled(g.core.ceilings.wanted)
	g.saves = newSaver(store, a.saveReport, a.retireReport, a.eraseReport)
	g.core.ceilings.save = func() bool {
		seq, ok := a.save(g.saves)
		return ok && g.saves.wait(seq)
	}
	ctx, cancel := context.WithCancel(t.Context())
	keys := a.manageKeys(ctx, g.saves)
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			g.proxy.Set(nil)
			cancel()
			keys.close()
			g.saves.close()
			if err := g.station.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(g.stop)
	return g
}

// heard wants so many events of a kind since the rig was made.
func (g *gatewayRig) heard(k kind.Kind, want uint64) {
	g.t.Helper()
	if e, _ := g.agent.monitor.status(); e.Counts[k.String()] != want {
		g.t.Errorf("%s: %d events, want %d", k, e.Counts[k.String()], want)
	}
}

// ask sends a request as the control socket does and decodes the answer.
func ask[A any](g *gatewayRig, path string, q any) (*A, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	v, err := g.agent.keyActions()[path](g.t.Context(), body)
	if err != nil {
		return nil, err
	}
	return v.(*A), nil
}

func (g *gatewayRig) offer() (*OfferAnswer, error) {
	return ask[OfferAnswer](g, control.OfferPath, OfferRequest{Node: ownNode})
}

func (g *gatewayRig) accept(reply []byte) (*agree.Accepted, error) {
	return ask[agree.Accepted](g, control.AcceptPath, AcceptRequest{Reply: reply})
}

func (g *gatewayRig) retire(number uint32) (*agree.Retired, error) {
	return ask[agree.Retired](g, control.RetirePath, RetireRequest{Node: ownNode, Epoch: number})
}

// enroll is the node's side.
func (g *gatewayRig) enroll(msg []byte) []byte {
	g.t.Helper()
	o, err := offer.Parse(g.station.Public, msg)
	if err != nil {
		g.t.Fatal(err)
	}
	store, err := edge.OpenStore(g.vault)
	if err != nil {
		g.t.Fatal(err)
	}
	node, _ := g.set.Node(ownNode)
	reply, err := store.Enroll(edge.Agreement{Gateway: o.Gateway, Epoch: o.Epoch, BindingHash: node.BindingHash, Agreed: time.Now().Unix()},
		func(floor uint32, run edge.Run) ([]byte, schedule.PRK, error) {
			return o.Answer(g.key.signer, node.BindingHash, offer.Reply{Floor: floor, FirstCounter: run.F, Start: run.Random})
		})
	if err != nil {
		g.t.Fatal(err)
	}
	return reply
}

// rotate agrees the next epoch and returns its number.
func (g *gatewayRig) rotate() uint32 {
	g.t.Helper()
	o, err := g.offer()
	if err != nil {
		g.t.Fatal(err)
	}
	a, err := g.accept(g.enroll(o.Offer))
	if err != nil {
		g.t.Fatal(err)
	}
	if a.Epoch != o.Epoch || a.Via != ViaAgent {
		g.t.Fatalf("accepted %+v of offer %+v", a, o)
	}
	return a.Epoch
}

// start begins a run of the node and brings its start record.
func (g *gatewayRig) start() *edge.Sealer {
	g.t.Helper()
	s := g.node(g.vault)
	if err := s.AnnounceStart(); err != nil {
		g.t.Fatal(err)
	}
	g.carry()
	return s
}

// carry takes what the node has sent through the core, as the loop does: a batch at a time, with the lock.
func (g *gatewayRig) carry(frames ...sent) {
	g.t.Helper()
	g.agent.mu.Lock()
	defer g.agent.mu.Unlock()
	g.now = g.agent.now()
	if err := g.feed(false, append(frames, g.wire.take()...)...); err != nil {
		g.t.Error(err)
	}
	if g.core.dirty || g.core.ceilings.soon {
		g.agent.save(g.saves)
	}
}

// samples sends n and wants all of them to come out.
func (g *gatewayRig) samples(s *edge.Sealer, n int) {
	g.t.Helper()
	before := len(g.sink.samples)
	for i := range n {
		g.rig.seal(s, "can0", 0x100, byte(i))
		g.carry()
	}
	if got := len(g.sink.samples) - before; got != n {
		g.t.Fatalf("%d of %d samples came out", got, n)
	}
}

func (g *gatewayRig) tick(later int64) {
	g.agent.mu.Lock()
	defer g.agent.mu.Unlock()
	g.core.tick(g.agent.now()+later, time.Now().UnixNano(), g.agent.limit())
	if g.core.dirty {
		g.agent.save(g.saves)
	}
}

// settle waits until everything is written and the hardware has done what was asked of it.
func (g *gatewayRig) settle() error {
	g.agent.mu.Lock()
	seq, ok := g.agent.save(g.saves)
	g.agent.mu.Unlock()
	if !ok || !g.saves.wait(seq) {
		return g.agent.saveError()
	}
	return g.saves.hardware.wait(g.t.Context(), g.saves.hardware.ask(false))
}

func (g *gatewayRig) epochs() (numbers []uint32) {
	for _, e := range g.agent.Keys().Nodes[0].Epochs {
		numbers = append(numbers, e.Number)
	}
	return numbers
}

// TestRotationOfARunningAgent agrees a second epoch beside the first: both are accepted, the first frame of the second promotes it,
// and the first ends after the overlap, in the hardware as well.
func TestRotationOfARunningAgent(t *testing.T) {
	g := newGatewayRig(t)
	if n := g.rotate(); n != 1 {
		t.Fatalf("first epoch is %d", n)
	}
	first := g.start()
	g.samples(first, 10)
	kept := g.secrets()

	o, err := g.offer()
	if err != nil {
		t.Fatal(err)
	}
	if k := g.agent.Keys().Nodes[0]; len(k.Pending) != 1 || k.Pending[0].Epoch != 2 {
		t.Fatalf("pending: %+v", k.Pending)
	}
	g.samples(first, 10)
	reply := g.enroll(o.Offer)
	if _, err := g.accept(reply); err != nil {
		t.Fatal(err)
	}
	if _, err := g.accept(reply); !errors.Is(err, agree.ErrNoOffer) {
		t.Fatalf("a reply was taken twice: %v", err)
	}
	g.heard(kind.KeyAgreed, 2)
	g.heard(kind.HandshakeFailed, 0)
	g.heard(kind.OfferConflict, 0)
	g.samples(first, 10) // what is still on its way under the old one
	states := func() (all []string) {
		for _, e := range g.agent.Keys().Nodes[0].Epochs {
			all = append(all, e.State)
		}
		return all
	}
	if got := states(); !slices.Equal(got, []string{EpochInUse, EpochWaiting}) {
		t.Fatalf("states %q", got)
	}
	second := g.start()
	if got := states(); !slices.Equal(got, []string{EpochInUse, EpochStarted}) {
		t.Fatalf("states %q", got)
	}
	g.tick(overlap * 2)
	g.rig.seal(first, "can0", 0x101, 1)
	late := g.wire.take()
	g.samples(second, 10)
	if got := states(); !slices.Equal(got, []string{EpochSuperseded, EpochInUse}) {
		t.Fatalf("states %q", got)
	}
	g.carry(late...) // within the overlap
	g.tick(overlap / 2)
	if got := g.epochs(); !slices.Equal(got, []uint32{1, 2}) {
		t.Fatalf("within the overlap: epochs %v", got)
	}
	g.tick(overlap + 1e9)
	if got := g.epochs(); !slices.Equal(got, []uint32{2}) {
		t.Fatalf("after the overlap: epochs %v", got)
	}
	g.samples(second, 10)
	k := g.agent.Keys().Nodes[0].Epochs[0]
	if *k.Frames != 20 || *k.Failed != 0 {
		t.Errorf("frames %d, failed %d", *k.Frames, *k.Failed)
	}
	if n := len(g.sink.samples); n != 51 {
		t.Errorf("%d samples came out, want 51", n)
	}
	if err := g.settle(); err != nil {
		t.Fatal(err)
	}
	g.wantRefused(kept)
	g.wantReopens(2)
}

// secrets returns the sealed key of the present file of secrets.
func (g *gatewayRig) secrets() []byte {
	g.t.Helper()
	files, err := filepath.Glob(filepath.Join(g.dir, "offline.*.state"))
	if err != nil || len(files) != 1 {
		g.t.Fatalf("files with secrets: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		g.t.Fatal(err)
	}
	const magic = 16
	return b[magic+4 : magic+4+int(binary.LittleEndian.Uint32(b[magic:]))]
}

// wantRefused wants the TPM to refuse a sealed key of the generation before.
func (g *gatewayRig) wantRefused(sealed []byte) {
	g.t.Helper()
	was, err := g.station.Counters.Offline.Value()
	if err != nil {
		g.t.Fatal(err)
	}
	_, err = g.station.Counters.Offline.UnsealAt(sealed, was-1)
	if !errors.Is(err, tpm.ErrPolicy) {
		g.t.Fatalf("the TPM answers %v, want TPM_RC_POLICY", err)
	}
}

// wantReopens ends the agent and wants the folder to hold just these epochs.
func (g *gatewayRig) wantReopens(numbers ...uint32) {
	g.t.Helper()
	g.stop()
	s, err := station.Open(g.t.Context(), station.Options{Gateway: true, Dir: g.dir, TPM: g.proxy.Path()})
	if err != nil {
		g.t.Fatal(err)
	}
	defer s.Close()
	store := NewStore(s.Epochs, s.Offline)
	state, missing, err := store.Load()
	if err != nil || len(missing) > 0 || store.stale() {
		g.t.Fatalf("missing %v, stale %v, %v", missing, store.stale(), err)
	}
	defer state.Wipe()
	var got []uint32
	for _, e := range state.Nodes[0].Epochs {
		got = append(got, e.Number)
	}
	if !slices.Equal(got, numbers) {
		g.t.Fatalf("folder holds epochs %v, want %v", got, numbers)
	}
}

// TestThirdEpochEndsTheOldest: the node enrols twice before it sends.
func TestThirdEpochEndsTheOldest(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	g.samples(g.start(), 3)
	g.rotate()
	g.rotate()
	if got := g.epochs(); !slices.Equal(got, []uint32{2, 3}) {
		t.Fatalf("epochs %v", got)
	}
	if n := len(g.core.nodes[0].live); n != 2 {
		t.Fatalf("%d are live", n)
	}
	g.samples(g.start(), 3)
	if err := g.settle(); err != nil {
		t.Fatal(err)
	}
	g.wantReopens(2, 3)
}

// TestDataFlowsWhileTheTPMHangs holds the TPM at every single command of every operation: frames go on being taken meanwhile, past
// the ceilings that were durable when it began, and nothing is lost.
func TestDataFlowsWhileTheTPMHangs(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	s := g.start()
	g.samples(s, 1)
	held, commands := 0, 0
	whileHeld := func(name string, f func() error) {
		t.Helper()
		reached, release := make(chan struct{}), make(chan struct{})
		g.proxy.Set(func(int, []byte) tpmtest.Fault {
			select {
			case reached <- struct{}{}:
				return tpmtest.Fault{Wait: release}
			case <-t.Context().Done():
				return tpmtest.Fault{}
			}
		})
		defer close(release)
		ended := make(chan error, 1)
		go func() { ended <- f() }()
		for {
			select {
			case <-reached:
				g.samples(s, 30)
				held, commands = held+30, commands+1
				release <- struct{}{}
			case err := <-ended:
				g.proxy.Set(nil)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				return
			}
		}
	}
	var o *OfferAnswer
	whileHeld("offer", func() (err error) { o, err = g.offer(); return err })
	// The old run of the node sends until the new epoch is there.
	reply := g.enroll(o.Offer)
	whileHeld("accept", func() error { _, err := g.accept(reply); return err })
	s = g.start()
	g.samples(s, 1)
	if _, err := g.offer(); err != nil {
		t.Fatal(err)
	}
	whileHeld("rotate offers", func() error {
		r, err := ask[agree.Rotated](g, control.RotateOffersPath, RotateRequest{})
		if err == nil && r.Discarded != 1 {
			err = fmt.Errorf("%d discarded", r.Discarded)
		}
		return err
	})
	whileHeld("retire", func() error { _, err := g.retire(1); return err })
	t.Logf("%d commands of the TPM held, %d frames taken meanwhile", commands, held)
	if commands < 40 {
		t.Errorf("only %d commands were held", commands)
	}
}

// TestFaultyTPM has every operation fail at its first command and in its middle, in every way a TPM can: the error has its name,
// data flows, and afterwards the same operation works.
func TestFaultyTPM(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	s := g.start()
	faults := []struct {
		name  string
		fault tpmtest.Fault
		want  error
	}{
		{"absent", tpmtest.Fault{Cut: true}, tpm.ErrAbsent},
		{"answer lost", tpmtest.Fault{Lose: true}, tpm.ErrAbsent},
		{"reset", tpmtest.Fault{Code: tpmtest.NotStarted}, tpm.ErrReset},
		{"full", tpmtest.Fault{Code: tpmtest.SessionsFull}, tpm.ErrFull},
		{"lockout", tpmtest.Fault{Code: tpmtest.LockedOut}, tpm.ErrLockout},
		{"failure", tpmtest.Fault{Code: tpmtest.InFailure}, tpm.ErrFailure},
	}
	operations := map[string]func() error{
		"offer": func() error { _, err := g.offer(); return err },
		"rotate offers": func() error {
			_, err := ask[agree.Rotated](g, control.RotateOffersPath, RotateRequest{})
			return err
		},
	}
	for name, f := range operations {
		for _, c := range faults {
			for _, at := range []int{0, 4, 9} {
				// From a point on, everything fails: the TPM is gone, and not only a command.
				g.proxy.Set(func(n int, _ []byte) tpmtest.Fault {
					if n < at {
						return tpmtest.Fault{}
					}
					return c.fault
				})
				err := f()
				if !errors.Is(err, c.want) {
					t.Errorf("%s, %s at command %d: %v, want %v", name, c.name, at, err, c.want)
				}
				g.samples(s, 5)
				g.proxy.Set(nil)
			}
		}
		if err := f(); err != nil {
			t.Fatalf("%s after all faults: %v", name, err)
		}
	}
	o, err := g.offer()
	if err != nil {
		t.Fatal(err)
	}
	reply := g.enroll(o.Offer)
	for _, c := range faults {
		g.proxy.Set(func(int, []byte) tpmtest.Fault { return c.fault })
		if _, err := g.accept(reply); !errors.Is(err, c.want) {
			t.Errorf("accept, %s: %v, want %v", c.name, err, c.want)
		}
		g.proxy.Set(nil)
		if got := g.epochs(); !slices.Equal(got, []uint32{1}) {
			t.Fatalf("accept, %s: epochs %v", c.name, got)
		}
		g.samples(s, 5)
	}
	if _, err := g.accept(reply); err != nil {
		t.Fatal(err)
	}
	g.samples(g.start(), 5)
}

// TestRetireWithoutTPM: nothing opens under a retired epoch from that moment, although the TPM is dead. It follows when it is back.
func TestRetireWithoutTPM(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	s := g.start()
	g.samples(s, 5)
	kept := g.secrets()
	g.rig.seal(s, "can0", 0x100, 1)
	waiting := g.wire.take()
	g.proxy.Set(func(int, []byte) tpmtest.Fault { return tpmtest.Fault{Cut: true} })
	_, err := g.retire(0)
	if !errors.Is(err, ErrRetire) || !errors.Is(err, tpm.ErrAbsent) {
		t.Fatal(err)
	}
	before, published := g.verdicts(), len(g.sink.samples)
	g.carry(waiting...)
	g.expect(before, map[loader.Verdict]uint64{loader.AgentUnknownEpoch: 1})
	if len(g.sink.samples) != published {
		t.Fatal("a frame was published under a retired epoch")
	}
	for i := range loader.NodeEpochs {
		if n, _, live := g.tables.Epochs[0].Load(i); live {
			t.Errorf("the filter still accepts epoch %d", n)
		}
	}
	if s := g.agent.retireError(); s == nil {
		t.Error("status says nothing")
	}
	g.proxy.Set(nil)
	if err := g.settle(); err != nil {
		t.Fatal(err)
	}
	if err := g.agent.retireError(); err != nil {
		t.Errorf("status still says %v", err)
	}
	g.wantRefused(kept)
	if _, err := g.retire(0); !errors.Is(err, agree.ErrNoEpoch) {
		t.Fatal(err)
	}
	if _, err := ask[agree.Retired](g, control.RetirePath, RetireRequest{Node: "nobody"}); !errors.Is(err, agree.ErrUnknownNode) {
		t.Fatal(err)
	}
	g.wantReopens()
}

// TestFullDisk: an agreement that cannot be made durable takes no effect, and its reply can be taken once there is room.
func TestFullDisk(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	s := g.start()
	g.samples(s, 5)
	g.full.Store(true)
	if _, err := g.offer(); !errors.Is(err, ErrNotDurable) || !errors.Is(err, errFull) {
		t.Fatalf("offer: %v", err)
	}
	g.full.Store(false)
	o, err := g.offer()
	if err != nil {
		t.Fatal(err)
	}
	if o.Epoch != 3 {
		t.Errorf("epoch %d is offered, want 3: the number of an offer that failed is used", o.Epoch)
	}
	reply := g.enroll(o.Offer)
	g.full.Store(true)
	if _, err := g.accept(reply); !errors.Is(err, ErrNotDurable) {
		t.Fatalf("accept: %v", err)
	}
	if got := g.epochs(); !slices.Equal(got, []uint32{1}) {
		t.Fatalf("epochs %v", got)
	}
	if _, err := g.retire(1); !errors.Is(err, ErrNotDurable) {
		t.Fatalf("retire: %v", err)
	}
	if n := len(g.core.nodes[0].live); n != 0 {
		t.Fatalf("%d epochs are live after retirement", n)
	}
	g.full.Store(false)
	if _, err := g.accept(reply); err != nil {
		t.Fatal(err)
	}
	g.samples(g.start(), 5)
	if err := g.settle(); err != nil {
		t.Fatal(err)
	}
	g.wantReopens(3)
}

// TestRebootBeforeTheNodeStarts: an epoch is agreed, the node goes on under the old one, and the gateway loses its power. Neither
// epoch is lost, and the old one goes on as after any reboot.
func TestRebootBeforeTheNodeStarts(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	first := g.start()
	g.samples(first, 5)
	g.rotate()
	g.samples(first, 5)
	g.agent.mu.Lock()
	g.core.note()
	g.persist()
	g.agent.mu.Unlock()
	if refused := g.reboot(); len(refused) > 0 {
		t.Fatal(refused)
	}
	g.agent.core, g.agent.state = g.core, g.state
	g.now = g.agent.now()
	for range 2 * g.core.ceilings.ahead[2] { // what the ceilings cost at most
		g.rig.seal(first, "can0", 0x100, 1)
	}
	g.carry()
	g.samples(first, 5)
	g.samples(g.start(), 5)
}

// TestKeyCounts: the list says what was accepted and what failed, by epoch and node.
func TestKeyCounts(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	s := g.start()
	g.samples(s, 4)
	g.rig.seal(s, "can0", 0x100, 1)
	good := g.wire.take()[0]
	bad := good
	bad.frame.Data[9] ^= 1
	forged := g.node(&memoryVault{state: bytes.Clone(g.vault.state)})
	if err := forged.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	start := g.wire.take()[0]
	start.frame.Data[47] ^= 1
	g.carry(bad, bad, start, good, good)
	n := g.agent.Keys().Nodes[0]
	want := map[string]uint64{loader.BadTag.String(): 2, loader.BadStart.String(): 1, loader.AgentReplay.String(): 1}
	if e := n.Epochs[0]; *e.Frames != 5 || *e.Failed != 2 || !maps.Equal(n.Failures, want) {
		t.Errorf("frames %d, failed %d, failures %v", *e.Frames, *e.Failed, n.Failures)
	}
	var text bytes.Buffer
	if err := g.agent.Keys().WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"in use", "bad_start 1", "from the running agent"} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("%q is not in\n%s", line, &text)
		}
	}
}

// TestRolledBackNode: the reply names a first counter that was verified already.
func TestRolledBackNode(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	old := &memoryVault{state: bytes.Clone(g.vault.state)}
	g.samples(g.start(), 5)
	o, err := g.offer()
	if err != nil {
		t.Fatal(err)
	}
	g.vault = old
	if _, err := g.accept(g.enroll(o.Offer)); !errors.Is(err, epoch.ErrRollback) {
		t.Fatal(err)
	}
	g.heard(kind.NodeRollbackProved, 1)
	g.heard(kind.HandshakeFailed, 0)
	if got := g.epochs(); !slices.Equal(got, []uint32{1}) {
		t.Fatalf("epochs %v", got)
	}
}

// TestBadRequests: nothing half-understood is acted on.
func TestBadRequests(t *testing.T) {
	g := newGatewayRig(t)
	for path, action := range g.agent.keyActions() {
		for _, body := range []string{"", "{", "[]", `{"nodes":"bmu"}`, `{} {}`, `{"node":7}`} {
			if _, err := action(t.Context(), []byte(body)); !errors.Is(err, control.ErrRequest) {
				t.Errorf("%s %q: %v", path, body, err)
			}
		}
	}
	if _, err := ask[OfferAnswer](g, control.OfferPath, OfferRequest{Node: "nobody"}); !errors.Is(err, agree.ErrUnknownNode) {
		t.Error(err)
	}
	for _, reply := range [][]byte{nil, {0xD2}, bytes.Repeat([]byte{0x84}, 5000)} {
		if _, err := g.accept(reply); err == nil {
			t.Errorf("reply %.10x was taken", reply)
		}
	}
	g.stop()
	if _, err := g.offer(); !errors.Is(err, errStopping) {
		t.Errorf("offer of an agent that has stopped: %v", err)
	}
}

// TestKeyDue: a key that comes near its end is named at once and once a day, until a newer one is agreed.
func TestKeyDue(t *testing.T) {
	g := newGatewayRig(t)
	g.rotate()
	const day = int64(24 * time.Hour)
	due := func(age int64) int {
		before := g.log.count("key_due")
		g.agent.mu.Lock()
		g.agent.reportDue(g.agent.now()+age, time.Now().UnixNano())
		g.agent.mu.Unlock()
		return g.log.count("key_due") - before
	}
	for _, c := range []struct {
		age  int64
		want int
	}{{26 * day, 0}, {27*day + 1e9, 1}, {27*day + 2e9, 0}, {28 * day, 0}, {28*day + 2e9, 1}} {
		if got := due(c.age); got != c.want {
			t.Errorf("at %v: %d lines, want %d", time.Duration(c.age), got, c.want)
		}
	}
	g.rotate()
	g.core.nodes[0].live[1].loaded += 29 * day // agreed then
	if got := due(30 * day); got != 0 {
		t.Errorf("%d lines although a newer key is agreed", got)
	}
}

// softwareKey is a node's identity in memory.
type softwareKey struct {
	signer crypto.Signer
	public string
}

func newSoftwareKey() (*softwareKey, error) {
	k, err := identity.GenerateKey(elliptic.P384())
	if err != nil {
		return nil, err
	}
	p, err := identity.NewPublicKey(k.Public())
	if err != nil {
		return nil, err
	}
	return &softwareKey{k, p.String()}, nil
}
