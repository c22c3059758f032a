// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
)

// TestExamineFlags takes batches through that are in order: whose stream has a flag gets it as long as it stands, what is late is
// flagged, and nothing else is.
func TestExamineFlags(t *testing.T) {
	const flagged, lateFrom, lateTo = 7, 20, 41
	p := newPipeline(t, pipelineEngines(t)[0], testBatches)
	batches, inOrder := 12, 0
	for i := range batches {
		batch := p.handOff(0)
		if i == 3 || i == 6 {
			flags := ring.Flags(0)
			if i == 3 {
				flags = ring.FlagFault
			}
			p.core.streams[flagged].flag(flags)
		}
		late := make(map[int]bool)
		if i == 4 || i == 9 { // with the fault and without
			// As long as the times of the batch go on; those that are held back come late, and all behind them.
			for k := lateFrom; k < BatchSize; k++ {
				by := 1500 * time.Millisecond
				if k >= lateTo {
					by, late[k] = 2500*time.Millisecond, true
				}
				at := binary.LittleEndian.Uint64(batch[k]) + uint64(by)
				binary.LittleEndian.PutUint64(batch[k], at)
			}
		}
		if err := p.core.process(batch, false); err != nil {
			t.Fatal(err)
		}
		if p.core.inOrder {
			inOrder++
		}
		for k, x := range p.drain(t) {
			want := ring.Flags(0)
			if late[k] {
				want |= ring.FlagStale
			}
			if x.Stream == flagged && i >= 3 && i < 6 {
				want |= ring.FlagFault
			}
			if got := x.Flags &^ ring.FlagFirstOfEpoch; got != want {
				t.Errorf("batch %d, sample %d: %v, want %v", i, k, got, want)
			}
		}
	}
	if inOrder < batches-1 { // in the first the streams begin
		t.Errorf("%d batches of %d were in order", inOrder, batches)
	}
	for i, s := range p.core.streams {
		if p.core.paces[i] != s.times.Pace() {
			t.Errorf("stream %d is held against the pace of another", i)
		}
	}
}

// TestChangeKeepsFlags changes documents while a fault stands: samples are flagged as before, under times that stay and under new ones.
func TestChangeKeepsFlags(t *testing.T) {
	r := newWideRig(t)
	r.nodeNow = func() time.Time { return time.Unix(1_700_000_000, r.now) }
	sealNow := sender(t, r)
	seal := func(id uint32, body ...byte) sent {
		r.now += int64(time.Second)
		return sealNow(id, body...)
	}
	s, _ := r.set.Stream(10)
	r.mustFeed(seal(uint32(s.CANID), 0))
	r.core.streams[s.Slot].flag(ring.FlagFault)
	was := r.core.streams[s.Slot].times
	first := r.set
	for i, edit := range []func(*policy.Policy, *policy.Binding){
		withAux(testIdentity(t), 0x501),
		func(_ *policy.Policy, b *policy.Binding) {
			b.Nodes[0].Streams[0].SamplingRate = policy.RateOf(time.Second)
		},
	} {
		r.become(edited(t, first, edit))
		x, _ := r.set.Stream(10)
		now := r.core.streams[x.Slot]
		if (now.times == was) != (i == 0) || r.core.paces[x.Slot] != now.times.Pace() {
			t.Errorf("change %d: times stay: %v", i, now.times == was)
		}
		published := len(r.sink.samples)
		for k := range byte(4) {
			r.mustFeed(seal(uint32(s.CANID), k))
		}
		// By now its times would be those of every day.
		if above := now.times.Pace().Above; above != math.MaxInt32 {
			t.Errorf("change %d: a sample of a stream with a fault is plain if it goes on by more than %d ms", i, above)
		}
		for _, y := range r.sink.samples[published:] {
			if y.Stream != uint32(x.Slot) || y.Flags&ring.FlagFault == 0 {
				t.Errorf("change %d: %+v", i, y)
			}
		}
		if got := len(r.sink.samples) - published; got != 4 {
			t.Errorf("change %d: %d samples", i, got)
		}
	}
}

// TestFaultHoldsStreams raises a fault of one source: the samples of its streams are looked at one by one from there on, and no others.
func TestFaultHoldsStreams(t *testing.T) {
	r := newRig(t)
	m := monitorOf(t, Options{Set: r.set})
	defer m.close()
	producer, err := ring.NewProducer(ringConfig(r.set))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	a := &Agent{opts: Options{Set: r.set}, core: r.core, ring: producer, monitor: m}
	for _, s := range r.core.streams {
		for i := range uint64(3) {
			s.times.Sample(i, uint32(100_000*i), int64(1+i)*int64(100*time.Second), make([]byte, 8))
		}
	}
	check := func(when string, raised bool) (held int) {
		m.show(a)
		for _, s := range r.core.streams {
			if plain := s.times.Pace().Above != math.MaxInt32; plain == (s.flags != 0) || s.flags != 0 && !raised {
				t.Errorf("%s: stream %d has the flags %v, may be plain: %v", when, s.ID, s.flags, plain)
			} else if !plain {
				held++
			}
		}
		return held
	}
	check("before", false)
	m.report(event.Record{Kind: kind.Downgrade, Subject: event.Stream(2)})
	if held := check("latched", true); held == 0 || held == len(r.core.streams) {
		t.Errorf("%d streams of %d are held", held, len(r.core.streams))
	}
}
