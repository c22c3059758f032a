// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// A hundred upgrades under load: a new set takes over from one that is still open, program by program, on the same maps. Each
// frame gets exactly one verdict, no protected one comes out behind the hook, none is lost and none is there twice.
func TestTakeoverUnderLoad(t *testing.T) { eachHook(t, tTakeoverUnderLoad) }

func tTakeoverUnderLoad(t *testing.T, kind string) {
	const upgrades = 100
	l := newLab(t, kind)
	tap := newTap(t, l.ns, labDevice, EthPCANFD)
	before := hook(t, l.ns, labDevice)
	counted := l.bus.FilterCounts()
	var stop atomic.Bool
	sent := make(chan uint64)
	go func() {
		n := uint64(0)
		for ; !stop.Load(); n++ {
			f := fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001 + n})
			if err := l.device.WriteCAN(f, CANFDMTU); err != nil {
				t.Error(err)
				break
			}
			if n%64 == 63 {
				time.Sleep(time.Millisecond) // the ring must hold what comes in during one upgrade, also on a slow machine
			}
		}
		sent <- n
	}()
	programs := make(map[ebpf.ProgramID]bool)
	var records []Record
	var longest time.Duration
	for range upgrades {
		begin := time.Now()
		next := must[*Set](t)(Open(Options{Root: l.root}))
		bus := must[[]*Bus](t)(next.Attach(l.options()))[0]
		longest = max(longest, time.Since(begin))
		// The old one has drained to some record; the new one goes on exactly behind what was released. One reads at a time.
		records = append(records, take(t, l.bus.Candidates())...)
		ok(t, l.set.Close())
		l.set, l.bus = next, bus
		bus.Candidates().Resume()
		records = append(records, take(t, bus.Candidates())...)
		programs[bus.program(t)] = true
	}
	stop.Store(true)
	n := <-sent
	records = append(records, take(t, l.bus.Candidates())...)
	after := l.bus.FilterCounts()
	t.Logf("%d upgrades under %d frames; the longest takeover of one interface, loading included, took %v", upgrades, n, longest)
	if got := hook(t, l.ns, labDevice); len(got) != 1 || got[0] != before[0] {
		t.Errorf("at the hook %v, before %v", got, before)
	}
	if len(programs) != upgrades {
		t.Errorf("%d programs in %d upgrades", len(programs), upgrades)
	}
	if got := drainTap(t, tap); len(got) != 0 {
		t.Errorf("%d protected frames came through", len(got))
	}
	if got := after[Candidate] - counted[Candidate]; got != n || n < upgrades {
		t.Errorf("%d candidates counted of %d frames", got, n)
	}
	if uint64(len(records)) != n {
		t.Fatalf("%d records of %d frames", len(records), n)
	}
	for i, r := range records {
		if c := binary.LittleEndian.Uint64(r.SPDU()) >> 16; c != uint64(10001+i) {
			t.Fatalf("record %d has counter %d, want %d", i, c, 10001+i)
		}
	}
}
