// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"

	"github.com/cilium/ebpf"
)

// TestPrepared takes a bus over from a set that goes on, and gives it back in every way: nothing that was not attached is seen, what
// was is taken back, and a program that somebody else has put in its place meanwhile stays.
func TestPrepared(t *testing.T) { eachHook(t, tPrepared) }

func tPrepared(t *testing.T, kind string) {
	l := newLab(t, kind)
	atHook := func() ebpf.ProgramID {
		t.Helper()
		id, found, err := l.bus.anchor.holds(place{l.ns, l.bus.Index()})
		if err != nil || !found {
			t.Fatalf("nothing at the hook: %v", err)
		}
		return id
	}
	own := l.bus.program(t)
	if got := atHook(); got != own {
		t.Fatalf("program %d at the hook, want %d", got, own)
	}
	for _, tt := range []struct {
		name string
		do   func(p *Prepared)
		want func(next ebpf.ProgramID) ebpf.ProgramID
	}{
		{"only prepared", func(p *Prepared) {}, nil},
		{"attached", func(p *Prepared) { must[[]*Bus](t)(p.Attach()) }, nil},
		{"attached, and put back by the predecessor", func(p *Prepared) {
			must[[]*Bus](t)(p.Attach())
			ok(t, l.set.Reassert())
			if got := atHook(); got != own {
				t.Errorf("program %d at the hook after Reassert, want %d", got, own)
			}
		}, nil},
		{"attached after the predecessor went on", func(p *Prepared) {
			ok(t, l.set.Reassert())
			must[[]*Bus](t)(p.Attach())
		}, nil},
	} {
		next := must[*Set](t)(Open(Options{Root: l.root}))
		p := must[*Prepared](t)(next.Prepare(l.options()))
		if got := atHook(); got != own {
			t.Errorf("%s: Prepare has replaced the program", tt.name)
		}
		tt.do(p)
		ok(t, p.Undo())
		ok(t, p.Undo())
		if got := atHook(); got != own {
			t.Errorf("%s: program %d at the hook, want %d", tt.name, got, own)
		}
		if len(next.buses) != 0 {
			t.Errorf("%s: the set still has a bus", tt.name)
		}
		ok(t, next.Close())
	}
	// A successor that is killed undoes nothing: the predecessor puts its own back.
	next := must[*Set](t)(Open(Options{Root: l.root}))
	p := must[*Prepared](t)(next.Prepare(l.options()))
	must[[]*Bus](t)(p.Attach())
	if got := atHook(); got == own {
		t.Error("Attach has not replaced the program")
	}
	ok(t, next.Close())
	ok(t, l.set.Reassert())
	if got := atHook(); got != own {
		t.Errorf("after Reassert: program %d at the hook, want %d", got, own)
	}
	// And one that keeps it is attached as by Set.Attach.
	last := must[*Set](t)(Open(Options{Root: l.root}))
	p = must[*Prepared](t)(last.Prepare(l.options()))
	buses := must[[]*Bus](t)(p.Attach())
	ok(t, p.Keep())
	ok(t, p.Undo())
	if got := atHook(); got != buses[0].program(t) {
		t.Errorf("after Keep: program %d at the hook, want %d", got, buses[0].program(t))
	}
	ok(t, l.set.Close())
	l.set, l.bus = last, buses[0]
}

// TestPublishAgain wants a slot that holds an epoch already never to be seen closed.
func TestPublishAgain(t *testing.T) {
	var e EpochTable
	ok(t, e.Publish(1, 7, 100))
	stop, seen := make(chan struct{}), make(chan int)
	go func() {
		closed := 0
		for {
			select {
			case <-stop:
				seen <- closed
				return
			default:
			}
			if _, _, live := e.Load(1); !live {
				closed++
			}
		}
	}()
	for range 200_000 {
		ok(t, e.Publish(1, 7, 100))
	}
	close(stop)
	if n := <-seen; n > 0 {
		t.Errorf("seen closed %d times", n)
	}
}
