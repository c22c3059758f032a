// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"unsafe"

	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/spdu"
	"github.com/cellward/cellward/loader"
	"github.com/cellward/cellward/replay"
)

// BatchSize is how many candidates are taken, opened, committed and published together at most. It bounds what a kill -9
// can lose.
const BatchSize = 64

// maxText is the longest ciphertext that a CAN FD frame carries.
const maxText = 64 - spdu.HeaderSize - spdu.TagSize

// Tables are the shared tables by which filter and agent work together; they outlive the process when they are pinned.
type Tables struct {
	Windows  []loader.Window     // by stream slot
	Epochs   []loader.EpochTable // by node index
	Starts   []loader.StartTable // by node index
	Counters []loader.Counters   // by interface slot
}

// publisher takes verified samples, as [ring.Producer] says of Begin and End. Wake wakes readers that wait, if there is anything
// to tell them.
type publisher interface {
	Begin(n int, received int64) (ring.Draft, error)
	Restamp(d *ring.Draft, n int)
	End(d *ring.Draft, n int, newest []uint32) error
	Wake()
}

// core decides about candidates. It knows no sockets and no devices: records come in, samples go out, and all state that
// must survive lies in Tables. One goroutine at a time may use it.
type core struct {
	engine  aead.Engine
	tables  Tables
	nodes   []*node
	streams []*stream // by position in the set and in the ring's stream table
	bySlot  []*stream // by slot of the pinned tables; nil where there is none
	lanes   []lane    // likewise; zeros where there is none
	// onBus are the streams by interface.
	onBus [policy.MaxInterfaces + 1][]*stream
	paces []*detect.Pace // those of streams
	out   publisher
	// state is what is saved; ceilings say how far it reaches.
	state    *epoch.State
	ceilings ceilings
	// fresh says that the windows were lost and filled up to the ceilings.
	fresh bool
	// held counts the batches since readers were woken.
	held int
	// dirty says that the state changed and wants to be saved.
	dirty bool
	// notes takes what is to become an event; nil: nobody is told.
	notes *event.Table

	// reached is the time of the last record that was taken of each bus.
	reached [policy.MaxInterfaces + 1]int64

	// Of one batch: candidates, and what the engine is told about them and answers; where their samples go; which lanes have
	// samples in it, and which of those have a run that is not committed yet; the newest samples of their streams.
	candidates [BatchSize]candidate
	ops        [BatchSize]aead.Op
	text       *[BatchSize]spdu.TextFD
	padding    *spdu.PaddingFD
	draft      ring.Draft
	runs       [BatchSize]uint32 // the first nRuns of them
	nRuns      int
	touched    []uint32 // in touchedRoom
	newest     []uint32 // in newestRoom
	inOrder    bool     // each candidate is the one behind the last of its stream; behind commit, that it was committed so
	waited     bool     // for the disk, while the batch was committed
	// far are runs of a batch in order that leave the word of their window.
	touchedRoom, newestRoom, far [BatchSize]uint32

	tally   [loader.NumVerdicts]uint64
	reports []replay.Report
	order   []int
}

// candidate is what is kept of a record between look up and commit. It has no pointers: laying one down would cost a write
// barrier for each.
type candidate struct {
	header uint64 // of the SPDU, as a little-endian word
	time   int64
	slot   uint32
	size   uint32 // of the SPDU
	index  uint32 // of the stream, in the ring; in front of epoch as in a slot
	epoch  uint32
}

func (x *candidate) counter() uint64 { return x.header >> 16 }
func (x *candidate) pad() uint8      { return uint8(x.header >> 4 & 15) }

// place sets slot, size, index and epoch, in two stores.
func (x *candidate) place(slot uint32, size int, index, epoch uint32) {
	where, whose := uint64(size)<<32|uint64(slot), uint64(epoch)<<32|uint64(index)
	x.slot, x.size = uint32(where), uint32(where>>32)
	x.index, x.epoch = uint32(whose), uint32(whose>>32)
}

// job is a candidate as the rules see it.
type job struct {
	stream  *stream
	live    *liveEpoch
	counter uint64
	pad     uint8
	time    int64
}

func newCore(engine aead.Engine, set *policy.Set, at *placement, state *epoch.State, t Tables, out publisher) *core {
	c := &core{engine: engine, tables: t, out: out, state: state, padding: spdu.NewPaddingFD(), reports: make([]replay.Report, 0, 256), order: make([]int, 0, BatchSize)}
	c.nodes, c.streams, c.lanes = newNodes(set, at, state, t)
	c.bySlot = make([]*stream, len(c.lanes))
	for _, s := range c.streams {
		c.bySlot[s.slot] = s
		c.onBus[s.Interface.Index] = append(c.onBus[s.Interface.Index], s)
	}
	c.paces = make([]*detect.Pace, len(c.streams))
	for _, s := range c.streams {
		c.keepTimes(s, detect.New(detect.Options{Period: s.Period, Signals: s.Signals}))
	}
	c.touched, c.newest = c.touchedRoom[:0], c.newestRoom[:0]
	c.ceilings.init(c.streams)
	c.text = newTexts()
	for i := range c.ops {
		c.ops[i].Dst = c.text[i][spdu.TextFrontFD:][:maxText]
	}
	return c
}

// newTexts returns memory for the plaintexts of a batch in which each begins with a cache line: engines store up to a line at a time.
func newTexts() *[BatchSize]spdu.TextFD {
	const line = 64
	room := make([]byte, unsafe.Sizeof([BatchSize]spdu.TextFD{})+2*line)
	first := -(uintptr(unsafe.Pointer(&room[0])) + spdu.TextFrontFD) % line
	return (*[BatchSize]spdu.TextFD)(unsafe.Pointer(&room[first]))
}

// at returns the stream of a record, or nil. Slots are given to other streams when documents change, so a record that was on its
// way meanwhile is known by its stream id, and nothing else may be done with it.
func (c *core) at(r loader.Record) *stream {
	if int(r.Slot()) >= len(c.bySlot) {
		return nil
	}
	if s := c.bySlot[r.Slot()]; s != nil && s.ID == r.StreamID() {
		return s
	}
	return nil
}

func (c *core) count(iface uint32, v loader.Verdict) {
	if int(iface) < len(c.tables.Counters) {
		c.tables.Counters[iface].Add(v, 1)
	}
}

// countBatch adds the tally of a batch to the counters and clears it.
func (c *core) countBatch(batch []loader.Record) {
	counters := &c.tables.Counters[batch[0].Iface()]
	if c.tally[loader.Accepted] == uint64(len(batch)) {
		// Nothing else can have been counted.
		counters.Add(loader.Accepted, c.tally[loader.Accepted])
		c.tally[loader.Accepted] = 0
		return
	}
	for v, k := range c.tally {
		if k > 0 {
			counters.Add(loader.Verdict(v), k)
		}
	}
	clear(c.tally[:])
}

// process takes a batch of candidates of one ring through all stages. Each record gets exactly one verdict. again says that
// the records may have been dealt with before the agent was killed: one that the window has seen is then counted as reread
// and not as a replay.
//
// When it returns nil the batch may be released: everything in it was committed and published, or refused.
func (c *core) process(batch []loader.Record, again bool) error {
	if len(batch) == 0 {
		return nil
	}
	c.reached[batch[0].Iface()&policy.MaxInterfaces] = int64(batch[len(batch)-1].TimeNS())
	n := c.lookUp(batch, again)
	good := c.engine.Open(c.ops[:n])
	samples, err := c.commit(n, good, again)
	if err != nil {
		return err
	}
	c.examine(samples)
	if err := c.publish(samples); err != nil {
		return err
	}
	if c.held++; len(batch) < BatchSize || c.held == wakeEvery {
		c.wake()
	}
	c.countBatch(batch)
	return nil
}

// find judges what can be judged before the tag, and lays a candidate down in j and op. The filter has looked at all of it, but
// epochs end and windows move between the two, and this side is the one that decides.
func (c *core) find(r loader.Record, again bool, j *job, op *aead.Op) loader.Verdict {
	s := c.at(r)
	if s == nil || int(r.Iface()) != int(s.Interface.Index) {
		return loader.AgentUnknownStream
	}
	l := s.node.find(r.Epoch())
	if l == nil {
		return loader.AgentUnknownEpoch
	}
	h, err := spdu.Parse(spdu.FormFD, r.SPDU())
	if err != nil || h.Kind == spdu.KindStart || (h.Kind == spdu.KindHeartbeat) != s.heartbeat {
		// The filter lets nothing of this form through: the record is not of the stream that it names.
		return loader.AgentUnknownStream
	}
	if replay.CheckRange(h.Counter, l.state.Base) != nil {
		return loader.AgentCounterRange
	}
	if v := windowVerdict(s.window.Check(h.Counter), again); v != loader.Candidate {
		return v
	}
	start := l.startFor(h.Counter)
	if start == nil {
		return loader.NoStart
	}
	j.stream, j.live, j.counter, j.pad, j.time = s, l, h.Counter, h.Pad, int64(r.TimeNS())
	op.Key, op.Record = start.keys[s.source], r.Sealed()
	s.learn(l, start)
	return loader.Candidate
}

// wakeEvery is how many batches are published at most before readers are woken. A full batch comes from a ring that holds more,
// so there is work to go on with, and waking takes as long as a third of a batch whether anybody sleeps or not. A reader that
// sleeps through it would not have caught up any sooner by much: eight batches are about 10 µs.
const wakeEvery = 8

// wake tells readers what was published, at once. Whoever has taken all there is calls it, and who is about to wait.
func (c *core) wake() {
	c.held = 0
	c.out.Wake()
}

func windowVerdict(v replay.Verdict, again bool) loader.Verdict {
	switch v {
	case replay.Fresh:
		return loader.Candidate
	case replay.Seen:
		if again {
			return loader.Reread
		}
		return loader.AgentReplay
	default:
		return loader.AgentTooOld
	}
}

// gapBefore says that the counter before this one has not verified, although this run of the node has used it.
func (j *job) gapBefore() bool {
	if s := j.live.startFor(j.counter); s != nil && s.F == j.counter {
		return false
	}
	return j.counter > j.live.state.Base && j.stream.window.Check(j.counter-1) == replay.Fresh
}

// verified decides about a frame whose tag was right: its counter is consumed, whatever the plaintext says.
func (c *core) verified(j *job, plain []byte, again bool) (loader.Verdict, []byte, uint32) {
	s := j.stream
	// Two copies in one batch were both fresh when they were looked up.
	if v := windowVerdict(s.window.Check(j.counter), again); v != loader.Candidate {
		return v, nil, 0
	}
	if j.live.state.Number < s.epoch && j.counter >= s.lowest {
		// The node has left this epoch behind at a lower counter: whoever has its old key repeats history.
		return loader.Downgrade, nil, 0
	}
	// Nothing above a durable ceiling takes effect: after a reboot without windows this frame would be new again. The tag has
	// verified, so nobody but the node can make the gateway write here.
	if j.counter > c.ceilings.durable[s.Slot].Load() && !c.raise(s, j.counter, j.time) {
		return loader.NotDurable, nil, 0
	}
	if s.heartbeat {
		return c.heartbeat(j, plain), nil, 0
	}
	sample, err := spdu.ParseSample(plain, j.pad)
	if err != nil {
		s.window.Commit(j.counter)
		c.account(j)
		return loader.BadPlaintext, nil, 0
	}
	// Counted before it is committed, committed before it is published. A kill in between is counted as a loss that may not
	// have been one (the frame is read again), and a loss is never left out.
	s.shared.Committed.Store(s.shared.Committed.Load() + 1)
	s.window.Commit(j.counter)
	s.shared.HighestHint.Store(s.window.Highest())
	return loader.Accepted, sample.Body, sample.SourceTime
}

// account notes what an authenticated frame proves: how far its node has come, and which counters are missing.
func (c *core) account(j *job) {
	s, n := j.stream, j.stream.node
	j.live.frames++
	c.ceilings.used(s.Slot, j.counter)
	n.verifiedUpTo(j.counter)
	if number := j.live.state.Number; number > s.epoch {
		s.epoch, s.lowest = number, j.counter
	} else if number == s.epoch {
		s.lowest = min(s.lowest, j.counter)
	}
	if j.live.promoted == 0 {
		j.live.promoted = j.time
		c.tell(event.Note{Kind: kind.KeyPromoted, Subject: event.Node(s.Node), Time: j.time, Epoch: j.live.state.Number, Counter: j.counter})
	}
	c.collect(s, s.gaps.Frame(j.counter, j.time, c.reports[:0]))
}

// heartbeat takes the next counters that a node names for its streams on the same bus. One entry that is not for a sample
// stream of this node on this bus makes the whole frame bad: no honest node seals it.
func (c *core) heartbeat(j *job, plain []byte) loader.Verdict {
	s := j.stream
	s.window.Commit(j.counter)
	s.shared.HighestHint.Store(s.window.Highest())
	c.account(j)
	s.times.Heard(j.time)
	h, err := spdu.ParseHeartbeat(plain, j.pad)
	if err != nil {
		return loader.BadPlaintext
	}
	for i := range h.Len() {
		if c.named(s, h.Entry(i)) == nil {
			return loader.BadPlaintext
		}
	}
	for i := range h.Len() {
		e := h.Entry(i)
		t := c.named(s, e)
		c.collect(t, t.gaps.Heartbeat(e.Next, j.time, c.reports[:0]))
		t.lane.disturb()
	}
	return loader.Accepted
}

// named returns the sample stream that a heartbeat entry speaks of, or nil.
func (c *core) named(heartbeat *stream, e spdu.Entry) *stream {
	for _, t := range heartbeat.node.streams {
		if t.ID == e.Stream && !t.heartbeat && t.Interface.Index == heartbeat.Interface.Index {
			return t
		}
	}
	return nil
}

// tick lets time pass: holes whose time is up are reported, old epochs end after the overlap, and keys beyond their hard
// limit are not accepted any more. now is CLOCK_BOOTTIME in ns, wall the wall clock in ns since 1970.
func (c *core) tick(now, wall, limit int64) (expired []expiry) {
	for _, s := range c.streams {
		c.collect(s, s.gaps.Tick(now, c.reports[:0]))
	}
	for _, n := range c.nodes {
		for i := 0; i < len(n.live); {
			l := n.live[i]
			switch {
			case l.age(now, wall) > limit || c.exhausted(n, l):
				expired = append(expired, expiry{n.name, l.state.Number, l.age(now, wall)})
			case n.supersededSince(i, now) > overlap:
			default:
				i++
				continue
			}
			n.retire(l.state.Number)
			c.dirty = true
		}
	}
	return expired
}

// expiry is a key that reached its hard limit.
type expiry struct {
	node  string
	epoch uint32
	age   int64
}

// overlap is how long in ns an epoch stays acceptable after the first frame of a newer one has verified.
const overlap = 5e9

// supersededSince returns how long ago in ns a newer epoch than the i-th was promoted, 0 if none was.
func (n *node) supersededSince(i int, now int64) int64 {
	for _, l := range n.live[i+1:] {
		if l.promoted != 0 {
			return now - l.promoted
		}
	}
	return 0
}

// maxFrames is how many frames one key may protect.
const maxFrames = 1 << 32

// exhausted says that a key of the epoch may have protected maxFrames frames.
func (c *core) exhausted(n *node, l *liveEpoch) bool { return c.used(n, l) >= maxFrames }

// used is how many frames a key of the epoch may have protected: counters are used one after another, so their range bounds the
// number.
func (c *core) used(n *node, l *liveEpoch) (most uint64) {
	if len(l.starts) == 0 {
		return 0
	}
	used := make([]uint64, len(n.sources))
	first := l.starts[0].F
	for _, s := range n.streams {
		if h := s.window.Highest(); h >= first {
			used[s.source] += h - first
			most = max(most, used[s.source])
		}
	}
	return most
}

// note writes what is known of nodes and streams into the state that is about to be saved.
func (c *core) note() {
	for _, n := range c.nodes {
		n.state.Verified = n.verified
	}
	c.state.Ceilings = c.ceilings.byID(c.streams)
}

// wipe overwrites all keys.
func (c *core) wipe() {
	for _, n := range c.nodes {
		for _, l := range n.live {
			l.wipe()
		}
	}
}
