// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event/kind"

	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/loader"
)

type verdicts = map[loader.Verdict]uint64

// started boots a rig whose node has announced its start.
func started(t testing.TB) (*rig, func(bus string, id uint32, body ...byte) sent) {
	r := newRig(t)
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	before := r.verdicts()
	r.mustFeed(r.wire.take()...)
	r.expect(before, verdicts{loader.StartAccepted: 1, loader.StartKnown: 1})
	return r, func(bus string, id uint32, body ...byte) sent {
		r.seal(s, bus, id, body...)
		return r.wire.take()[0]
	}
}

func TestSamplesComeOutAsTheyWent(t *testing.T) {
	r, seal := started(t)
	var want [][]byte
	var frames []sent
	for i := range 300 {
		body := bytes.Repeat([]byte{byte(i)}, i%37)
		want = append(want, body)
		frames = append(frames, seal("can0", 0x100, body...))
	}
	before := r.verdicts()
	r.mustFeed(frames...)
	r.expect(before, verdicts{loader.Accepted: 300})
	if len(r.sink.samples) != 300 {
		t.Fatalf("%d samples came out", len(r.sink.samples))
	}
	for i, s := range r.sink.samples {
		if !bytes.Equal(s.Body, want[i]) || s.Epoch != 1 || s.Counter != r.sink.samples[0].Counter+uint64(i) {
			t.Fatalf("sample %d is %+v, want body %x", i, s, want[i])
		}
		if gap := s.Flags&ring.FlagGapBefore != 0; gap {
			t.Fatalf("sample %d has a gap before it", i)
		}
		if first := s.Flags&ring.FlagFirstOfEpoch != 0; first != (i == 0) {
			t.Fatalf("sample %d: first of epoch is %v", i, first)
		}
	}
}

func TestEveryRefusalOnce(t *testing.T) {
	r, seal := started(t)
	a, b, other := seal("can0", 0x100, 1), seal("can0", 0x100, 2), seal("can0", 0x101, 3)
	r.mustFeed(a)
	flip := func(f sent, byteIndex int, bit byte) sent { f.frame.Data[byteIndex] ^= bit; return f }
	move := func(f sent, iface string, id uint32) sent { f.iface, f.frame.ID = iface, id; return f }
	for _, c := range []struct {
		name  string
		frame sent
		want  loader.Verdict
	}{
		{"replay", a, loader.AgentReplay},
		{"flipped ciphertext", flip(b, 8, 1), loader.BadTag},
		{"flipped tag", flip(b, 31, 0x80), loader.BadTag},
		{"flipped counter, ahead", flip(b, 2, 0x10), loader.BadTag},
		{"flipped pad", flip(b, 0, 0x10), loader.BadTag},
		{"kind of another stream", flip(b, 0, 0x04), loader.AgentUnknownStream},
		{"other epoch", flip(b, 1, 0x02), loader.AgentUnknownEpoch},
		{"far counter", flip(b, 7, 0x01), loader.AgentCounterRange},
		{"counter before the start of the run", flip(b, 2, 0x02), loader.BadTag},
		{"moved to another id, counter fresh there", move(b, "can0", 0x101), loader.BadTag},
		{"moved to another bus, same source", move(b, "can1", 0x100), loader.BadTag},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			before, published := r.verdicts(), len(r.sink.samples)
			r.mustFeed(c.frame)
			r.expect(before, verdicts{c.want: 1})
			if len(r.sink.samples) != published {
				t.Fatal("it was published")
			}
		})
	}
	r.t = t
	// None of it has moved a window: the genuine frames are still fresh.
	before := r.verdicts()
	r.mustFeed(b, other)
	r.expect(before, verdicts{loader.Accepted: 2})
}

func TestTwoCopiesInOneBatch(t *testing.T) {
	r, seal := started(t)
	f := seal("can0", 0x100, 1)
	before := r.verdicts()
	r.mustFeed(f, f, f)
	r.expect(before, verdicts{loader.Accepted: 1, loader.AgentReplay: 2})
	if len(r.sink.samples) != 1 {
		t.Fatalf("%d samples came out", len(r.sink.samples))
	}
}

// TestEveryBitFlip flips each bit of a frame in turn: none is accepted, and the frame itself still is afterwards.
func TestEveryBitFlip(t *testing.T) {
	r, seal := started(t)
	f := seal("can0", 0x100, bytes.Repeat([]byte{7}, 20)...)
	for i := range int(f.frame.Len) * 8 {
		g := f
		g.frame.Data[i/8] ^= 1 << (i % 8)
		rec, control := r.record(g)
		if control {
			r.core.startRecords([]loader.Record{rec}, r.now)
		} else if err := r.core.process([]loader.Record{rec}, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.sink.samples); n != 0 {
		t.Fatalf("%d flipped frames came out", n)
	}
	r.mustFeed(f)
	if n := len(r.sink.samples); n != 1 {
		t.Fatalf("the genuine frame came out %d times", n)
	}
}

// TestKillBetweenCommitAndPublish kills the agent where it costs most: the batch is committed and not published.
func TestKillBetweenCommitAndPublish(t *testing.T) {
	r, seal := started(t)
	var frames []sent
	for i := range 100 {
		frames = append(frames, seal("can0", 0x100, byte(i)))
	}
	r.mustFeed(frames[:30]...)
	r.sink.fail = errors.New("killed")
	if err := r.feed(false, frames[30:94]...); err == nil {
		t.Fatal("the kill was not noticed")
	}
	r.sink.fail = nil
	r.boot(false)
	before := r.verdicts()
	// What was not released is read again, then comes the rest.
	if err := r.feed(true, frames[30:94]...); err != nil {
		t.Fatal(err)
	}
	r.mustFeed(frames[94:]...)
	r.expect(before, verdicts{loader.Reread: 64, loader.Accepted: 6})
	w := &r.tables.Windows[r.core.streams[2].Slot]
	if lost := w.Committed.Load() - w.Published.Load(); lost != 64 {
		t.Fatalf("counted %d lost, want 64", lost)
	}
	seen := make(map[uint64]bool)
	for _, s := range r.sink.samples {
		if seen[s.Counter] {
			t.Fatalf("counter %d was published twice", s.Counter)
		}
		seen[s.Counter] = true
	}
	if len(seen) != 36 {
		t.Fatalf("%d samples came out, want 36", len(seen))
	}
}

// TestRolledBackAndClonedNodes starts a node from an old copy of its state and twice from the same state. On the wire no
// (start, stream, counter) repeats with other bytes, nothing is published twice, and the gateway names the rollback.
func TestRolledBackAndClonedNodes(t *testing.T) {
	r := newRig(t)
	old := &memoryVault{state: bytes.Clone(r.vault.state)}
	type nonce struct {
		run     [16]byte
		id      uint32
		bus     string
		counter [6]byte
	}
	onWire := make(map[nonce]string)
	runNode := func(v *memoryVault, n int) verdicts {
		s := r.node(v)
		if err := s.AnnounceStart(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			r.seal(s, "can0", 0x100, byte(i))
			r.seal(s, "can1", 0x100, byte(i))
		}
		if err := s.Heartbeat(); err != nil {
			t.Fatal(err)
		}
		frames := r.wire.take()
		for _, f := range frames {
			if f.frame.Data[0]>>2&3 == 3 {
				continue // a start record has no nonce
			}
			k := nonce{s.Run().Random, f.frame.ID, f.iface, [6]byte(f.frame.Data[2:8])}
			if b, twice := onWire[k]; twice && b != fmt.Sprintf("%x", f.frame.Data) {
				t.Fatalf("nonce repeats: %+v", k)
			}
			onWire[k] = fmt.Sprintf("%x", f.frame.Data)
		}
		before := r.verdicts()
		r.mustFeed(frames...)
		now, delta := r.verdicts(), make(verdicts)
		for v := range now {
			if d := now[v] - before[v]; d > 0 {
				delta[loader.Verdict(v)] = d
			}
		}
		return delta
	}
	if d := runNode(r.vault, 50); d[loader.Accepted] != 102 || d[loader.StartAccepted] != 1 {
		t.Fatalf("genuine run: %v", d)
	}
	if d := runNode(old, 50); d[loader.Accepted] != 0 || d[loader.NodeRollback] == 0 || d[loader.BadTag]+d[loader.AgentReplay] != 102 {
		t.Fatalf("run from an old copy: %v", d)
	}
	clone := &memoryVault{state: bytes.Clone(r.vault.state)}
	if d := runNode(r.vault, 50); d[loader.Accepted] != 102 || d[loader.StartAccepted] != 1 {
		t.Fatalf("second genuine run: %v", d)
	}
	if d := runNode(clone, 60); d[loader.Accepted] != 0 || d[loader.NodeRollback] == 0 {
		t.Fatalf("cloned run: %v", d)
	}
	seen := make(map[string]bool)
	for _, s := range r.sink.samples {
		k := fmt.Sprint(s.Stream, s.Counter)
		if seen[k] {
			t.Fatalf("published twice: %s", k)
		}
		seen[k] = true
	}
	if len(seen) != 200 {
		t.Fatalf("%d samples came out, want 200", len(seen))
	}
}

func TestAlteredStartRecords(t *testing.T) {
	r := newRig(t)
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	genuine := r.wire.take()[0]
	for i := 8; i < 48*8; i++ {
		g := genuine
		g.frame.Data[i/8] ^= 1 << (i % 8)
		rec, control := r.record(g)
		if !control {
			t.Fatalf("bit %d made it another kind", i)
		}
		r.now += 1e9 // the budget is refilled
		before := r.verdicts()
		r.core.startRecords([]loader.Record{rec}, r.now)
		if now := r.verdicts(); now[loader.BadStart]+now[loader.AgentUnknownEpoch] != before[loader.BadStart]+before[loader.AgentUnknownEpoch]+1 {
			t.Fatalf("bit %d: not refused as it should be", i)
		}
	}
	before := r.verdicts()
	r.mustFeed(genuine, genuine)
	r.expect(before, verdicts{loader.StartAccepted: 1, loader.StartKnown: 1})
	// Altered copies of a known start are refused too, never taken for it.
	for _, i := range []int{16, 24, 30, 33, 47} {
		g := genuine
		g.frame.Data[i] ^= 0x40
		before := r.verdicts()
		r.mustFeed(g)
		r.expect(before, verdicts{loader.BadStart: 1})
	}
}

// TestStartFlood sends many unknown records in a second: at most 32 are verified, and the known one costs no budget.
func TestStartFlood(t *testing.T) {
	r := newRig(t)
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	frames := r.wire.take()
	r.mustFeed(frames...)
	r.now += 60e9
	before := r.verdicts()
	for range 500 {
		g := frames[0]
		g.frame.Data[8+rand.IntN(16)] ^= byte(1 + rand.IntN(255))
		r.mustFeed(g)
	}
	r.expect(before, verdicts{loader.BadStart: startRate, loader.StartShed: 500 - startRate})
	before = r.verdicts()
	r.mustFeed(frames[0])
	r.expect(before, verdicts{loader.StartKnown: 1})
}

func TestStartSurvivesARestartOfTheAgent(t *testing.T) {
	r, seal := started(t)
	f := seal("can0", 0x100, 1)
	// The state file knows nothing of the start: the agent was killed before it was saved.
	r.state.Nodes[0].Epochs[0].Starts = r.state.Nodes[0].Epochs[0].Starts[:1]
	r.boot(false)
	before := r.verdicts()
	r.mustFeed(f)
	r.expect(before, verdicts{loader.Accepted: 1})
}

func TestKeyEndsAtItsHardLimit(t *testing.T) {
	r, seal := started(t)
	limit := int64(33 * 24 * time.Hour)
	if e := r.core.tick(r.now, time.Now().UnixNano(), limit); len(e) != 0 {
		t.Fatalf("expired early: %v", e)
	}
	// The wall clock was put back, but the key has run for its time.
	later := r.now + limit + 1
	e := r.core.tick(later, time.Now().UnixNano()-limit, limit)
	if len(e) != 1 || e[0].epoch != 1 {
		t.Fatalf("expired: %v", e)
	}
	if _, _, live := r.tables.Epochs[0].Load(0); live {
		t.Fatal("the filter still accepts the epoch")
	}
	before := r.verdicts()
	r.mustFeed(seal("can0", 0x100, 1))
	r.expect(before, verdicts{loader.AgentUnknownEpoch: 1})
	if len(r.state.Nodes[0].Epochs) != 0 {
		t.Fatal("the secret is still in the state")
	}
}

func TestRotationOverlapAndDowngrade(t *testing.T) {
	r := newRig(t)
	oldVault := &memoryVault{state: bytes.Clone(r.vault.state)}
	oldRun := r.node(oldVault)
	if err := oldRun.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	r.mustFeed(r.wire.take()...)
	r.seal(oldRun, "can0", 0x100, 1)
	r.seal(oldRun, "can0", 0x101, 2)
	old := r.wire.take()
	r.mustFeed(old[0])
	clone := &memoryVault{state: bytes.Clone(oldVault.state)}

	// The node agrees epoch 2 from its ceiling on.
	r.vault.state = bytes.Clone(oldVault.state)
	r.agree(2, 2*65536+1)
	r.boot(false)
	fresh := r.node(r.vault)
	if err := fresh.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	r.seal(fresh, "can0", 0x100, 3)
	before := r.verdicts()
	r.mustFeed(r.wire.take()...)
	r.expect(before, verdicts{loader.StartAccepted: 1, loader.StartKnown: 1, loader.Accepted: 1})

	// For five seconds a late frame of the old epoch is taken.
	before = r.verdicts()
	r.mustFeed(old[1])
	r.expect(before, verdicts{loader.Accepted: 1})

	// A copy of the node that goes on under the old epoch, with counters the new one has passed, is a downgrade.
	var runs []uint64
	for range 3 {
		s := r.node(clone)
		runs = append(runs, s.Run().F)
		if len(runs) < 3 {
			continue
		}
		if err := s.AnnounceStart(); err != nil {
			t.Fatal(err)
		}
		r.seal(s, "can0", 0x100, 4)
	}
	if runs[2] <= fresh.Run().F {
		t.Fatalf("the copy begins at %d, not above %d", runs[2], fresh.Run().F)
	}
	before = r.verdicts()
	r.mustFeed(r.wire.take()...)
	r.expect(before, verdicts{loader.StartAccepted: 1, loader.StartKnown: 1, loader.Downgrade: 1})

	r.now += overlap + 2e9
	r.core.tick(r.now, time.Now().UnixNano(), int64(33*24*time.Hour))
	if n := len(r.core.nodes[0].live); n != 1 || r.core.nodes[0].live[0].state.Number != 2 {
		t.Fatalf("%d epochs are live after the overlap", n)
	}
	if !r.core.dirty {
		t.Fatal("the retirement is not to be saved")
	}
}

// TestReboot loses windows and everything that was not durable. Nothing comes out twice; an unclean stop costs what was raised
// ahead and no more, a clean one nothing.
func TestReboot(t *testing.T) {
	t.Run("unclean", func(t *testing.T) {
		r, seal := started(t)
		var before []sent
		for i := range 250 {
			before = append(before, seal("can0", 0x100, byte(i)))
		}
		r.mustFeed(before...)
		if refused := r.reboot(); len(refused) != 0 {
			t.Fatalf("refused: %v", refused)
		}
		was := r.verdicts()
		r.mustFeed(before...)
		if now := r.verdicts(); now[loader.Accepted] != was[loader.Accepted] {
			t.Fatalf("%d samples came out twice", now[loader.Accepted]-was[loader.Accepted])
		}
		ahead := r.core.ceilings.ahead[r.core.streams[2].Slot]
		if ahead != 100 {
			t.Fatalf("10 s of a stream of 10 Hz are %d counters", ahead)
		}
		lost := 0
		for {
			was := r.verdicts()
			r.mustFeed(seal("can0", 0x100, 1))
			if r.verdicts()[loader.Accepted] > was[loader.Accepted] {
				break
			}
			if lost++; lost > int(ahead) {
				t.Fatalf("more than %d samples were lost", ahead)
			}
		}
	})
	t.Run("clean", func(t *testing.T) {
		r, seal := started(t)
		first, second := seal("can0", 0x100, 1), seal("can0", 0x100, 2)
		r.mustFeed(first)
		r.core.exact()
		r.core.note()
		r.persist()
		if refused := r.reboot(); len(refused) != 0 {
			t.Fatalf("refused: %v", refused)
		}
		before := r.verdicts()
		r.mustFeed(first, second)
		r.expect(before, verdicts{loader.AgentReplay: 1, loader.Accepted: 1})
	})
	t.Run("again and again", func(t *testing.T) {
		// Boots without a frame in between do not add up.
		r, seal := started(t)
		r.mustFeed(seal("can0", 0x100, 1))
		r.reboot()
		slot := r.core.streams[2].Slot
		first := r.core.ceilings.wanted[slot]
		for range 20 {
			r.reboot()
		}
		if c := r.core.ceilings.wanted[slot]; c != first {
			t.Fatalf("ceiling went from %d to %d", first, c)
		}
	})
	t.Run("without ceilings", func(t *testing.T) {
		r, seal := started(t)
		f := seal("can0", 0x100, 1)
		r.mustFeed(f)
		r.state.Ceilings = nil
		r.persist()
		if refused := r.reboot(); len(refused) != 1 {
			t.Fatalf("refused: %v", refused)
		}
		before := r.verdicts()
		r.mustFeed(f)
		r.expect(before, verdicts{loader.AgentUnknownEpoch: 1})
	})
	t.Run("start not saved", func(t *testing.T) {
		// The start record was taken and the gateway lost power before it was written: the node's repeats bring it back.
		r := newRig(t)
		s := r.node(r.vault)
		if err := s.AnnounceStart(); err != nil {
			t.Fatal(err)
		}
		records := r.wire.take()
		r.mustFeed(records...)
		r.reboot()
		before := r.verdicts()
		r.mustFeed(records...)
		r.expect(before, verdicts{loader.StartAccepted: 1, loader.StartKnown: 1})
	})
}

// TestNothingAboveADurableCeiling fills the disk: what lies above the last durable ceiling is refused, not published, and goes on
// once the disk takes writes again.
func TestNothingAboveADurableCeiling(t *testing.T) {
	r, seal := started(t)
	r.mustFeed(seal("can0", 0x100, 1))
	r.diskFull = true
	ceiling := r.core.ceilings.durable[r.core.streams[2].Slot].Load()
	refused := 0
	for range 300 {
		was, published := r.verdicts(), len(r.sink.samples)
		f := seal("can0", 0x100, 2)
		r.mustFeed(f)
		now := r.verdicts()
		if now[loader.NotDurable] > was[loader.NotDurable] {
			refused++
			if len(r.sink.samples) != published {
				t.Fatal("it was published all the same")
			}
		} else if c := r.sink.samples[len(r.sink.samples)-1].Counter; c > ceiling {
			t.Fatalf("counter %d was published, the ceiling is %d", c, ceiling)
		}
	}
	if refused == 0 {
		t.Fatal("nothing was refused")
	}
	r.diskFull = false
	r.now += 2 * retryRaise
	before := r.verdicts()
	r.mustFeed(seal("can0", 0x100, 3))
	r.expect(before, verdicts{loader.Accepted: 1})
}

func TestHeartbeatNamesADeletedTail(t *testing.T) {
	r := newRig(t)
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	r.mustFeed(r.wire.take()...)
	for i := range 5 {
		r.seal(s, "can0", 0x100, byte(i))
	}
	r.mustFeed(r.wire.take()[:3]...) // the last two never arrive
	if err := s.Heartbeat(); err != nil {
		t.Fatal(err)
	}
	r.mustFeed(r.wire.take()...)
	r.now += 3e9
	r.core.tick(r.now, time.Now().UnixNano(), int64(33*24*time.Hour))
	all := r.told(kind.TailLoss)
	if len(all) != 1 || all[0].Count != 2 || all[0].Counter != s.Run().F+3 || all[0].LastCounter != s.Run().F+4 {
		t.Fatalf("events: %+v", all)
	}
}

func TestProcessDoesNotAllocate(t *testing.T) {
	r, seal := started(t)
	const runs = 50
	var batches [runs + 2][]loader.Record
	for i := range batches {
		for range BatchSize {
			rec, _ := r.record(seal("can0", 0x100, 1, 2, 3, 4, 5, 6, 7, 8))
			batches[i] = append(batches[i], rec)
		}
	}
	r.core.out = &discard{ring.NewDraft(BatchSize, maxText)}
	r.core.ceilings.save = nil // writing the state allocates; that is not per frame
	i := 0
	n := testing.AllocsPerRun(runs, func() {
		if err := r.core.process(batches[i], false); err != nil {
			t.Fatal(err)
		}
		i++
	})
	if n != 0 {
		t.Fatalf("%v allocations for a batch of %d", n, BatchSize)
	}
}

// discard gives room for samples and forgets them.
type discard struct{ room ring.Draft }

func (d *discard) Begin(int, int64) (ring.Draft, error)     { return d.room, nil }
func (*discard) Restamp(*ring.Draft, int)                   {}
func (*discard) End(d *ring.Draft, _ int, _ []uint32) error { *d = ring.Draft{}; return nil }
func (*discard) Wake()                                      {}
