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
	pipelineBatches = 64
	pipelineBody    = 8
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

// pipeline is a core between records as the filter lays them down and a ring with a reader that is connected: all of the
// user-space stage but the wait for a record.
type pipeline struct {
	rig      *rig
	engine   aead.Engine
	producer *ring.Producer
	reader   *ring.Reader
	core     *core
	batches  [][]loader.Record // one pass; each frame is fresh once
	bodies   [][pipelineBody]byte
	next     int
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

func newPipeline(tb testing.TB, engine aead.Engine) *pipeline {
	tb.Helper()
	r := &rig{t: tb, set: pipelineSet(tb), state: epoch.New(), vault: &memoryVault{}, now: 1e9}
	r.clearTables()
	r.agree(1, 1)
	p := &pipeline{rig: r, engine: engine}
	p.openRing(tb)
	p.restart(tb)
	p.seal(tb)
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

// seal has the node send one pass, and lays it down as the filter does.
func (p *pipeline) seal(tb testing.TB) {
	r := p.rig
	r.nodeNow = func() time.Time { return time.Unix(1_700_000_000, r.now) } // at its rate on both clocks
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		tb.Fatal(err)
	}
	r.mustFeed(r.wire.take()...) // the state holds the start from here on: restart goes back to it
	for range pipelineBatches {
		var batch []loader.Record
		for range BatchSize {
			n := len(p.bodies)
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
			batch = append(batch, rec)
		}
		p.batches = append(p.batches, batch)
	}
}

// batch returns the next batch of a pass.
func (p *pipeline) batch() []loader.Record {
	b := p.batches[p.next]
	p.next++
	return b
}

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
		p := newPipeline(t, engine)
		for range 2 {
			p.restart(t)
			before := p.rig.verdicts()
			for i := range p.batches {
				if err := p.core.process(p.batch(), false); err != nil {
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
			p.rig.expect(before, verdicts{loader.Accepted: pipelineBatches * BatchSize})
		}
	}
}

func TestPipelineDoesNotAllocate(t *testing.T) {
	for _, engine := range pipelineEngines(t) {
		p := newPipeline(t, engine)
		n := testing.AllocsPerRun(pipelineBatches-1, func() { // and once more to warm up
			if err := p.core.process(p.batch(), false); err != nil {
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
	n      int
}

func newStopwatch(frames int) *stopwatch {
	return &stopwatch{groups: make([]time.Duration, 0, frames/BatchSize+1)}
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

// batchDone says that the step has run for one more batch.
func (w *stopwatch) batchDone() {
	if w.n++; w.n%wakeEvery == 0 {
		w.groups = append(w.groups, w.group)
		w.group = 0
	}
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
// runs around one of them and costs about 1 ns a frame. stage is all of it, with a reader connected: look up, open, commit,
// examine, publish, and the wake of every wakeEvery batches. There the clock runs around so many batches and costs next to nothing. read
// is the reader's share and not part of stage.
//
// The kernel's share, filter and hand-off, is BenchmarkPipeline of test/bench.
func BenchmarkPipeline(b *testing.B) {
	for _, engine := range pipelineEngines(b) {
		p := newPipeline(b, engine)
		for _, step := range []string{"look-up", "open", "commit", "examine", "publish", "wake", "read", "stage"} {
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
	stage := func() {
		for range wakeEvery {
			if err = c.process(p.batch(), false); err != nil {
				return
			}
		}
	}
	read := func() { good = len(p.drain(b)) }

	p.next = len(p.batches)
	b.ReportAllocs()
	b.ResetTimer()
	for frames := 0; frames < b.N; frames += BatchSize {
		if p.next == len(p.batches) {
			b.StopTimer()
			p.restart(b)
			b.StartTimer()
		}
		c = p.core
		if step == "stage" {
			w.run(true, stage)
			frames += BatchSize * (wakeEvery - 1)
			w.n += wakeEvery - 1
		} else {
			batch = p.batch()
			w.run(step == "look-up", lookUp)
			w.run(step == "open", open)
			w.run(step == "commit", commit)
			w.run(step == "examine", examine)
			w.run(step == "publish", publish)
			if p.next%wakeEvery == 0 {
				w.run(step == "wake", wake)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		// The reader reads when it is woken.
		if p.next%wakeEvery == 0 {
			if w.run(step == "read", read); good != BatchSize*wakeEvery {
				b.Fatalf("%d samples of %d came out", good, BatchSize*wakeEvery)
			}
		}
		w.batchDone()
	}
	w.report(b)
}
