// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/trace"
	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/loader"
)

// The pipeline's fixture: one node that sends on pipelineStreams identifiers in turn, 8 bytes of payload each, as a classic CAN
// battery does once it is sealed: frames of 48 bytes.
const (
	pipelineStreams = 20
	pipelineBody    = 8
	// A pass of a test. What lies between two passes, keys and tables made anew, leaves nothing in the caches that a pass needs, and the
	// branch predictors untrained: so a pass of a benchmark is long, and with it the records fill a ring buffer of the usual size.
	testBatches  = 64
	benchBatches = 512
)

// pipelineEngines are all engines that this machine can run, the fastest first.
func pipelineEngines(tb testing.TB) (engines []aead.Engine) {
	tb.Helper()
	for _, name := range aead.Available() {
		s, err := aead.Select(aead.Options{Engine: name})
		if err != nil {
			tb.Fatal(err)
		}
		engines = append(engines, s.Engine)
	}
	return engines
}

// pipeline is a core between records as the filter lays them down, in a ring buffer, and a ring with a reader that is connected: all of
// the user-space stage but the wait for a record.
type pipeline struct {
	rig      *rig
	engine   aead.Engine
	producer *ring.Producer
	reader   *ring.Reader
	core     *core
	records  []byte // one pass, as in a ring buffer; each frame is fresh once
	bodies   [][pipelineBody]byte
	next     int // byte of records
	group    [wakeEvery][BatchSize]loader.Record
	read     [BatchSize * wakeEvery]ring.Sample
}

func pipelineSet(tb testing.TB) *policy.Set {
	tb.Helper()
	// A high rate, so that whatever follows from a stream's rate is done beforehand and not during a pass.
	p, err := policy.ParsePolicy("test", []byte(strings.ReplaceAll(testPolicy, "10Hz", "1000Hz")))
	if err != nil {
		tb.Fatal(err)
	}
	b := *testSet(tb).Binding
	n := b.Nodes[0]
	n.Heartbeats, n.Streams = n.Heartbeats[:1], nil
	for i := range uint32(pipelineStreams) {
		n.Streams = append(n.Streams, policy.Stream{
			StreamID: 100 + i, Interface: "can0", CANID: policy.CANID(0x100 + i), Source: b.Sources[i%2].Identifier,
		})
	}
	b.Nodes, b.Interfaces = []policy.Node{n}, b.Interfaces[:1]
	doc, err := policy.Marshal(&b)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := policy.ParseBinding("test", doc)
	if err != nil {
		tb.Fatal(err)
	}
	set, err := policy.Bind(p, parsed)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// newPipeline returns a pipeline whose pass has so many batches.
func newPipeline(tb testing.TB, engine aead.Engine, batches int) *pipeline {
	tb.Helper()
	r := &rig{t: tb, set: pipelineSet(tb), state: epoch.New(), vault: &memoryVault{}, now: 1e9}
	r.clearTables()
	r.agree(1, 1)
	p := &pipeline{rig: r, engine: engine}
	p.openRing(tb)
	p.restart(tb)
	p.seal(tb, batches)
	p.restart(tb)
	return p
}

func (p *pipeline) openRing(tb testing.TB) {
	var streams []ring.Stream
	for i := range p.rig.set.Streams {
		streams = append(streams, ringStream(&p.rig.set.Streams[i]))
	}
	var err error
	if p.producer, err = ring.NewProducer(ring.Config{Streams: streams}); err != nil {
		tb.Fatal(err)
	}
	socket := filepath.Join(tb.TempDir(), "ring.sock")
	server, err := ring.Serve(p.producer, ring.ServerConfig{Socket: socket})
	if err != nil {
		tb.Fatal(err)
	}
	if p.reader, err = ring.Dial(tb.Context(), socket, ring.Options{From: ring.FromNow}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, close := range []func() error{p.reader.Close, server.Close, p.producer.Close} {
			if err := close(); err != nil {
				tb.Error(err)
			}
		}
	})
}

// restart takes the core to where it stood before the first frame of a pass.
func (p *pipeline) restart(tb testing.TB) {
	r := p.rig
	if r.core != nil {
		r.core.wipe()
	}
	r.clearTables()
	r.core = newCore(p.engine, r.set, dense(tb, r.set), r.state, r.tables, p.producer)
	refused, err := r.core.resume(r.state, r.set, true, r.now, time.Now().UnixNano(), int64(33*24*time.Hour))
	if err != nil || len(refused) > 0 {
		tb.Fatal(refused, err)
	}
	r.core.begin()
	r.core.ceilings.settled(r.core.ceilings.wanted)
	p.core, p.next = r.core, 0
}

// A record in a ring buffer has a header (kernel/bpf/ringbuf.c).
const (
	bpfHeader = 8
	bpfRecord = bpfHeader + maxRecord
)

// seal has the node send one pass, and lays it down as the filter does: one record behind the other.
func (p *pipeline) seal(tb testing.TB, batches int) {
	r := p.rig
	p.records = make([]byte, batches*BatchSize*bpfRecord)
	r.nodeNow = func() time.Time { return time.Unix(1_700_000_000, r.now) } // at its rate on both clocks
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		tb.Fatal(err)
	}
	r.mustFeed(r.wire.take()...) // the state holds the start from here on: restart goes back to it
	for n := range batches * BatchSize {
		var body [pipelineBody]byte
		binary.LittleEndian.PutUint64(body[:], uint64(n)*0x9E3779B97F4A7C15)
		p.bodies = append(p.bodies, body)
		r.now += int64(time.Millisecond) / pipelineStreams
		f := trace.Frame{Bus: "can0", ID: uint32(0x100 + n%pipelineStreams), Len: pipelineBody}
		copy(f.Data[:], body[:])
		if err := s.Seal(&f); err != nil {
			tb.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			tb.Fatal(err)
		}
		rec, _ := r.record(r.wire.take()[0])
		if len(rec) != maxRecord {
			tb.Fatalf("a record has %d bytes", len(rec))
		}
		place := p.records[n*bpfRecord:]
		binary.LittleEndian.PutUint32(place, uint32(len(rec)))
		copy(place[bpfHeader:], rec)
	}
}

// handOff takes up the next batch of a pass from its records as loader.Ring.Peek does: it goes by their headers. i says which batch of a
// group it is.
func (p *pipeline) handOff(i int) []loader.Record { return p.handOffSome(i, BatchSize) }

func (p *pipeline) handOffSome(i, n int) []loader.Record {
	batch := p.group[i][:n]
	for k := range batch {
		size := int(binary.LittleEndian.Uint32(p.records[p.next:]))
		batch[k] = p.records[p.next+bpfHeader:][:size:size]
		p.next += bpfHeader + size
	}
	return batch
}

// over says that the pass is.
func (p *pipeline) over() bool { return p.next == len(p.records) }

// drain takes what was published, which is there already, and returns how much it was.
func (p *pipeline) drain(tb testing.TB) []ring.Sample {
	n, err := p.reader.Next(tb.Context(), p.read[:])
	if err != nil {
		tb.Fatal(err)
	}
	return p.read[:n]
}

// The fixture is what it claims to be: every frame of a pass comes out of the ring with its payload, twice over.
func TestPipeline(t *testing.T) {
	for _, engine := range pipelineEngines(t) {
		p := newPipeline(t, engine, testBatches)
		for range 2 {
			p.restart(t)
			before := p.rig.verdicts()
			for i := range testBatches {
				if err := p.core.process(p.handOff(0), false); err != nil {
					t.Fatal(err)
				}
				got := p.drain(t)
				if len(got) != BatchSize {
					t.Fatalf("batch %d: %d samples came out", i, len(got))
				}
				for k, s := range got {
					if want := p.bodies[i*BatchSize+k]; !bytes.Equal(s.Body, want[:]) || s.Flags&ring.FlagGapBefore != 0 {
						t.Fatalf("batch %d, sample %d: %+v, want body %x", i, k, s, want)
					}
				}
			}
			p.rig.expect(before, verdicts{loader.Accepted: testBatches * BatchSize})
		}
	}
}

func TestPipelineDoesNotAllocate(t *testing.T) {
	for _, engine := range pipelineEngines(t) {
		p := newPipeline(t, engine, testBatches)
		n := testing.AllocsPerRun(testBatches-1, func() { // and once more to warm up
			if err := p.core.process(p.handOff(0), false); err != nil {
				t.Fatal(err)
			}
			if got := p.drain(t); len(got) != BatchSize {
				t.Fatalf("%d samples came out", len(got))
			}
		})
		if n != 0 {
			t.Errorf("engine %s: %v allocations for a batch of %d", engine.Name(), n, BatchSize)
		}
	}
}

// stopwatch times one step of the pipeline, batch by batch, and nothing around it. It adds up wakeEvery batches, for so many
// have one wake.
type stopwatch struct {
	groups []time.Duration
	group  time.Duration
}

func newStopwatch(frames int) *stopwatch {
	return &stopwatch{groups: make([]time.Duration, 0, frames/(BatchSize*wakeEvery)+1)}
}

func (w *stopwatch) run(timed bool, step func()) {
	if !timed {
		step()
		return
	}
	began := time.Now()
	step()
	w.group += time.Since(began)
}

// groupDone says that the step has run for one more group.
func (w *stopwatch) groupDone() {
	w.groups = append(w.groups, w.group)
	w.group = 0
}

// report gives the median over all groups: whatever else runs on the machine makes some long, not most.
func (w *stopwatch) report(b *testing.B) {
	if len(w.groups) > 0 { // the first run of a benchmark is of one frame
		slices.Sort(w.groups)
		median := w.groups[len(w.groups)/2]
		b.ReportMetric(float64(median.Nanoseconds())/(BatchSize*wakeEvery), "ns/frame")
	}
	b.ReportMetric(0, "ns/op") // it would be the mean time of everything around the step, too
}

// BenchmarkPipeline gives the time of each step of the user-space stage in ns a frame, in batches of BatchSize, on one
// goroutine. Every step runs in its place between the others, so that it finds the caches as they are in operation; the clock
// runs around one of them and costs about half a ns a frame. Two rows are of several steps, with the clock around wakeEvery batches, where
// it costs next to nothing: stage is look up, open, commit and publish, one behind the other; process is all that the agent does with a
// batch, which are these, examine, the wake of the readers and the counters. read is the reader's share and not part of either.
//
// The kernel's share, filter and hand-off, is BenchmarkPipeline of test/bench.
func BenchmarkPipeline(b *testing.B) {
	for _, engine := range pipelineEngines(b) {
		p := newPipeline(b, engine, benchBatches)
		for _, step := range []string{"look-up", "open", "commit", "examine", "publish", "wake", "read", "stage", "process"} {
			b.Run(step+"/engine="+engine.Name(), func(b *testing.B) { p.measure(b, step) })
		}
	}
}

func (p *pipeline) measure(b *testing.B, step string) {
	var (
		n, good int
		batch   []loader.Record
		c       *core
		err     error
		w       = newStopwatch(b.N)
	)
	lookUp := func() { n = c.lookUp(batch, false) }
	open := func() { good = c.engine.Open(c.ops[:n]) }
	commit := func() { good, err = c.commit(n, good, false) }
	examine := func() { c.examine(good) }
	publish := func() { err = c.publish(good) }
	wake := func() { c.out.Wake() }
	read := func() { good = len(p.drain(b)) }
	stage := func() {
		for i := range p.group {
			n = c.lookUp(p.group[i][:], false)
			if good, err = c.commit(n, c.engine.Open(c.ops[:n]), false); err != nil {
				return
			}
			if err = c.publish(good); err != nil {
				return
			}
		}
	}
	process := func() {
		for i := range p.group {
			if err = c.process(p.group[i][:], false); err != nil {
				return
			}
		}
	}
	steps := func() {
		for i := range p.group {
			batch = p.group[i][:]
			w.run(step == "look-up", lookUp)
			w.run(step == "open", open)
			if w.run(step == "commit", commit); err != nil {
				return
			}
			w.run(step == "examine", examine)
			if w.run(step == "publish", publish); err != nil {
				return
			}
		}
	}

	p.next = len(p.records)
	b.ReportAllocs()
	b.ResetTimer()
	for frames := 0; frames < b.N; frames += BatchSize * wakeEvery {
		if p.over() {
			b.StopTimer()
			p.restart(b)
			b.StartTimer()
		}
		c = p.core
		for i := range p.group {
			p.handOff(i)
		}
		switch step {
		case "stage":
			w.run(true, stage)
			wake()
		case "process":
			w.run(true, process)
		default:
			steps()
			w.run(step == "wake", wake)
		}
		if err != nil {
			b.Fatal(err)
		}
		// The reader reads when it is woken.
		if w.run(step == "read", read); good != BatchSize*wakeEvery {
			b.Fatalf("%d samples of %d came out", good, BatchSize*wakeEvery)
		}
		w.groupDone()
	}
	w.report(b)
}
