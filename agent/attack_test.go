// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/edge"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/fault"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/crypto/spdu"
)

// attackLength is how long in log time an attack is watched.
const attackLength = 40 * time.Second

// captures are the real ones. The first has slow identifiers only; the second a multiplexed array among fast ones.
func captures(t *testing.T) []*capture {
	t.Helper()
	return []*capture{openCapture(t, "kona-bms-idle.asc"), openCapture(t, "tesla-model-s.gvret.csv")}
}

// attack is what is done to the frames of a node on their way.
type attack struct {
	name string
	kind kind.Kind
	// do changes the frames and returns when each event was caused.
	do func(s *siege, all []timed, rng *rand.Rand) ([]timed, []int64)
	// freeze stops the node's clock.
	freeze func(at int64) bool
	// beside are kinds that come with it, by nature.
	beside []kind.Kind
	// only is the capture that the attack is possible on.
	only string
	// lasting: it is an event of each stream for as long as it lasts; what is compared is how many streams.
	lasting bool
	// ends: the node falls silent but for its heartbeats.
	ends bool
	// rare: too little at a time to be a fault, by the default rules.
	rare bool
	// nothing: there must be no event.
	nothing bool
}

const second = int64(time.Second)

// attacked says that a frame is one of the attacked part: between 5 and 25 s.
func attacked(f *timed) bool { return f.at >= logBegin+5*second && f.at < logBegin+25*second }

// target is the identifier that is attacked: the fastest.
func (s *siege) target() uint32 {
	fastest := s.c.sum[0]
	for _, x := range s.c.sum {
		if x.Period < fastest.Period {
			fastest = x
		}
	}
	return fastest.ID
}

// forge puts a changed copy behind every n-th sample.
func forge(n int, change func(s *siege, f *timed, rng *rand.Rand)) func(*siege, []timed, *rand.Rand) ([]timed, []int64) {
	return func(s *siege, all []timed, rng *rand.Rand) (out []timed, at []int64) {
		k := 0
		for i := range all {
			out = append(out, all[i])
			if all[i].kind != spdu.KindSample || !attacked(&all[i]) {
				continue
			}
			if k++; k%n == 0 {
				f := all[i]
				f.forged = true
				change(s, &f, rng)
				out = append(out, f)
				at = append(at, f.at)
			}
		}
		return out, at
	}
}

func setCounter(f *timed, counter uint64) {
	for i := range 6 {
		f.frame.Data[2+i] = byte(counter >> (8 * i))
	}
}

func drop(want func(s *siege, f *timed) bool) func(*siege, []timed, *rand.Rand) ([]timed, []int64) {
	return func(s *siege, all []timed, _ *rand.Rand) ([]timed, []int64) {
		return dropped(all, func(f *timed) bool { return want(s, f) })
	}
}

func attacks() []attack {
	return []attack{
		{name: "bit flips", kind: kind.BadTag, do: forge(7, func(_ *siege, f *timed, rng *rand.Rand) {
			bit := 64 + rng.IntN(8*(int(f.frame.Len)-8))
			f.frame.Data[bit/8] ^= 1 << (bit % 8)
			setCounter(f, f.counter+900) // not a replay of the one it was made from
		})},
		{name: "spoofing", kind: kind.BadTag, do: forge(7, func(_ *siege, f *timed, rng *rand.Rand) {
			for i := 8; i < int(f.frame.Len); i++ {
				f.frame.Data[i] = byte(rng.Uint32())
			}
			setCounter(f, f.counter+1+uint64(rng.IntN(8))+500)
		})},
		{name: "insertion far ahead", kind: kind.BadTag, do: forge(7, func(_ *siege, f *timed, rng *rand.Rand) {
			setCounter(f, f.counter+1<<20+uint64(rng.IntN(1000)))
		})},
		{name: "replay, recent", kind: kind.AgentReplay, do: forge(7, func(*siege, *timed, *rand.Rand) {})},
		{name: "replay, old", kind: kind.AgentTooOld, only: "tesla", do: func(s *siege, all []timed, _ *rand.Rand) (out []timed, at []int64) {
			// From 5 s on the window of a fast stream has left its first frames behind.
			var first []timed
			counts := make(map[uint32]int)
			for i := range all {
				out = append(out, all[i])
				if all[i].kind != spdu.KindSample {
					continue
				}
				id := all[i].frame.ID
				if counts[id]++; counts[id] == 1 {
					first = append(first, all[i])
				}
				for _, f := range first {
					if f.frame.ID == id && counts[id] > 1100 && counts[id]%100 == 0 {
						f.at, f.forged = all[i].at, true
						out = append(out, f)
						at = append(at, f.at)
					}
				}
			}
			return out, at
		}},
		{name: "deletion, single", kind: kind.Deletion, rare: true, do: drop(func(s *siege, f *timed) bool {
			return attacked(f) && f.frame.ID == s.target() && f.counter%25 == 0
		})},
		{name: "deletion, one multiplexor", kind: kind.Deletion, only: "tesla", beside: []kind.Kind{kind.IncompleteSet},
			do: drop(func(_ *siege, f *timed) bool { return attacked(f) && f.mux == 7 })},
		{name: "deletion, tail", kind: kind.TailLoss, beside: []kind.Kind{kind.Silence}, ends: true,
			do: func(_ *siege, all []timed, _ *rand.Rand) ([]timed, []int64) {
				// The last two samples of each identifier, before all of them fall silent.
				last := make(map[uint32]uint64)
				for i := range all {
					if all[i].kind == spdu.KindSample {
						last[all[i].frame.ID] = all[i].counter
					}
				}
				return dropped(all, func(f *timed) bool { return f.counter+2 > last[f.frame.ID] })
			}},
		{name: "deletion, everything", kind: kind.Silence, lasting: true, do: func(s *siege, all []timed, _ *rand.Rand) (out []timed, at []int64) {
			end := logBegin + 20*second
			for i := range all {
				if all[i].at < end {
					out = append(out, all[i])
				}
			}
			return out, slices.Repeat([]int64{end}, len(s.set.Streams))
		}},
		{name: "delay", kind: kind.Delayed, beside: []kind.Kind{kind.Silence, kind.Deletion, kind.TailLoss, kind.IncompleteSet},
			do: func(s *siege, all []timed, _ *rand.Rand) ([]timed, []int64) {
				var at []int64
				for i := range all {
					if f := &all[i]; f.kind == spdu.KindSample && attacked(f) && f.frame.ID == s.target() {
						f.at += 2*second + second/2
						at = append(at, f.at)
					}
				}
				return all, at
			}},
		{name: "reordering", nothing: true, do: func(_ *siege, all []timed, rng *rand.Rand) ([]timed, []int64) {
			return shuffled(all, 200, rng), nil
		}},
		{name: "clock freeze", kind: kind.ClockFreeze, do: func(s *siege, all []timed, _ *rand.Rand) (_ []timed, at []int64) {
			// The source time of all is that of the last sample before. Those count that come more than half a second, or 1.5
			// periods, behind the first of their stream that has it.
			ms := int64(time.Millisecond)
			stopped := int64(0)
			for _, f := range all {
				if t := f.at - logBegin; f.kind == spdu.KindSample && !frozen(t) && t < 10*second {
					stopped = max(stopped, t/ms)
				}
			}
			period, first := make(map[uint32]int64), make(map[uint32]int64)
			for _, x := range s.c.sum {
				period[x.ID] = int64(x.Period)
			}
			for _, f := range all {
				t, id := f.at-logBegin, f.frame.ID
				if f.kind != spdu.KindSample || !frozen(t) && t/ms != stopped {
					continue
				}
				if _, ok := first[id]; !ok {
					first[id] = t
				}
				if p := period[id]; t-first[id] > max(second/2, p+p/2) {
					at = append(at, f.at)
				}
			}
			return all, at
		}, freeze: frozen, beside: []kind.Kind{kind.Delayed}}, // the first with the old time, where two are further apart than a delay
		{name: "slow drop", kind: kind.Deletion, rare: true, do: drop(func(_ *siege, f *timed) bool { return attacked(f) && f.counter%100 == 50 })},
		{name: "flood", kind: kind.BadTag, do: flood(0)},
		{name: "flood hiding deletion", kind: kind.Deletion, beside: []kind.Kind{kind.BadTag}, do: flood(40)},
		{name: "cross-stream splice", kind: kind.BadTag, do: forge(7, func(s *siege, f *timed, _ *rand.Rand) {
			other := s.c.sum[0].ID
			if f.frame.ID == other {
				other = s.c.sum[1].ID
			}
			f.frame.ID = other
			setCounter(f, f.counter+1<<20) // one that the other stream has not used
		})},
	}
}

// frozen says that the node's clock stands still.
func frozen(at int64) bool { return at >= 10*second && at < 15*second }

// flood puts 10 forged frames behind each sample of the attacked part, and drops each n-th sample of the target.
func flood(n uint64) func(*siege, []timed, *rand.Rand) ([]timed, []int64) {
	return func(s *siege, all []timed, rng *rand.Rand) (out []timed, at []int64) {
		for i := range all {
			f := all[i]
			hide := n > 0 && f.kind == spdu.KindSample && attacked(&f) && f.frame.ID == s.target() && f.counter%n == 0
			if hide {
				at = append(at, f.at)
			} else {
				out = append(out, f)
			}
			if f.kind != spdu.KindSample || !attacked(&f) || i%4 != 0 {
				continue
			}
			for range 10 {
				g := f
				g.forged = true
				g.frame.Data[int(g.frame.Len)-1-rng.IntN(16)] ^= 1 << rng.IntN(8)
				setCounter(&g, f.counter+1+uint64(rng.IntN(900)))
				out = append(out, g)
				if n == 0 {
					at = append(at, g.at)
				}
			}
		}
		return out, at
	}
}

// TestAttacks does to the frames of real captures what an attacker on the bus can do to them, and what a node can do that is not to be
// trusted, and compares what was noticed with what was done. It prints the table with -v.
func TestAttacks(t *testing.T) {
	var table []string
	all := captures(t)
	for _, c := range all {
		for _, a := range attacks() {
			if a.only != "" && !strings.HasPrefix(c.name, a.only) {
				continue
			}
			if underRace && a.only == "" && c != all[0] {
				continue // one goroutine, on one capture as on the other
			}
			s := newSiege(t, c)
			length := attackLength
			if a.ends {
				length *= 2
			}
			sent := s.sealWith(attackLength, length, a.freeze)
			sent, at := a.do(s, sent, rand.New(rand.NewPCG(1, 2)))
			s.play(sent, 0)
			s.pass(logBegin + int64(length+2*monitorPoll))
			row := s.row(a.name, a.kind, at)
			if a.lasting {
				row.found = uint64(len(s.subjects[a.kind]))
			}
			table = append(table, row.String())
			switch {
			case a.nothing:
				if row.others != "" {
					t.Errorf("%s, %s: %s", c.name, a.name, row.others)
				}
				continue
			case len(at) == 0:
				t.Errorf("%s, %s: nothing was done", c.name, a.name)
			case row.found != row.injected:
				t.Errorf("%s, %s: %d events of kind %v, want %d", c.name, a.name, row.found, a.kind, row.injected)
			}
			for _, o := range kind.All() {
				if s.count(o) > 0 && o != a.kind && o != kind.KeyPromoted && o != kind.NodeRestart && !slices.Contains(a.beside, o) {
					t.Errorf("%s, %s: %d of %v as well", c.name, a.name, s.count(o), o)
				}
			}
			if s.faultAt == 0 && !a.rare {
				t.Errorf("%s, %s: no fault", c.name, a.name)
			}
		}
		table = append(table, downgradeRow(t, c))
	}
	t.Logf("\n%s\n%s", siegeHead(), strings.Join(table, "\n"))
}

// downgradeRow has somebody with the node's old key go on where the node has gone over to a new one.
func downgradeRow(t *testing.T, c *capture) string {
	t.Helper()
	s := newSiege(t, c)
	s.play(s.seal(5*time.Second, nil), 0)
	stolen := &memoryVault{state: bytes.Clone(s.vault.state)}
	s.agree(2, 2*65536+1)
	s.boot(false)
	s.core.out = newFlagCounter(s)
	s.origin = s.now - logBegin
	s.node = s.newNode(s.vault)
	s.play(s.seal(2*time.Second, nil), 0)
	// The stolen copy is started until it is ahead of the node.
	runs := 0
	var old *edge.Sealer
	for old == nil || old.Run().F <= s.node.Run().F {
		old = s.newNode(stolen)
		if runs++; runs > 5 {
			t.Fatal("the copy is never ahead")
		}
	}
	s.node, s.origin = old, s.now-logBegin
	var at []int64
	all := s.seal(time.Second, nil)
	for _, f := range all {
		if f.kind != spdu.KindStart {
			at = append(at, f.at)
		}
	}
	s.play(all, 2*monitorPoll)
	row := s.row("downgrade to the old epoch", kind.Downgrade, at)
	if row.found != row.injected || row.injected == 0 {
		t.Errorf("%s: %d downgrades, want %d", c.name, row.found, row.injected)
	}
	if s.machine.State() != fault.Latched {
		t.Errorf("%s: a downgrade leaves the fault %v", c.name, s.machine.State())
	}
	return row.String()
}

// TestCleanTraffic plays ten minutes of each capture with 1 % of the samples lost at random and all reordered by up to 200 frames.
// There is no event but the deletions of what was really lost.
func TestCleanTraffic(t *testing.T) {
	length := 10 * time.Minute
	if testing.Short() || underRace {
		length = time.Minute
	}
	for _, c := range captures(t) {
		s := newSiege(t, c)
		rng := rand.New(rand.NewPCG(3, 4))
		all := s.seal(length, nil)
		all, at := dropped(all, func(f *timed) bool { return rng.IntN(100) == 0 && f.at < logBegin+int64(length)-15*second })
		all = shuffled(all, 200, rng)
		s.play(all, 0)
		row := s.row("1 % loss, reordered", kind.Deletion, at)
		t.Logf("\n%s\n%s\n%d frames in %v, flags %v", siegeHead(), row.String(), len(all), length, s.flagged)
		if row.found != row.injected || row.others != "" {
			t.Errorf("%s: %d deletions, %d lost; others: %s", c.name, row.found, row.injected, row.others)
		}
		if s.flagged[ring.FlagStale] != 0 {
			t.Errorf("%s: %d samples are flagged stale", c.name, s.flagged[ring.FlagStale])
		}
	}
}

// TestOneInManyIsNamed deletes one sample of 100,000 frames. It is reported with its counter.
func TestOneInManyIsNamed(t *testing.T) {
	s := newSiege(t, openCapture(t, "tesla-model-s.gvret.csv"))
	all := s.seal(75*time.Second, nil)
	if len(all) < 100_000 {
		t.Fatalf("only %d frames", len(all))
	}
	id, n := s.target(), 0
	var missing uint64
	all, _ = dropped(all, func(f *timed) bool {
		if f.frame.ID != id || missing != 0 {
			return false
		}
		if n++; n == 1000 {
			missing = f.counter
		}
		return missing != 0
	})
	s.play(all, 2*monitorPoll)
	got := s.told(kind.Deletion)
	if len(got) != 1 || got[0].Count != 1 || got[0].Counter != missing || got[0].LastCounter != missing || uint32(got[0].CANID) != id {
		t.Fatalf("deleted counter %d of %03X; events: %+v", missing, id, got)
	}
	if s.machine.State() != fault.OK && s.machine.State() != fault.Suspect {
		t.Errorf("one sample of many makes a fault: %v", s.machine.State())
	}
}
