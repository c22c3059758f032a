// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// No wakeup is ever lost: a reader that releases and sleeps, against a writer that sends single frames and
// short bursts at any moment, is always back in time for every record.
func TestPollerLosesNoWakeup(t *testing.T) {
	const frames = 20000
	l := newLab(t, "")
	p := must[*Poller](t)(NewPoller(PollerOptions{}, l.bus.Control(), l.bus.Candidates()))
	defer p.Close()
	step := make(chan struct{}, 1) // the writer waits for the reader now and then, so that the reader sleeps
	go func() {
		for i := range frames {
			f := fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: uint64(10001 + i)})
			if err := l.device.WriteCAN(f, CANFDMTU); err != nil {
				t.Error(err)
				return
			}
			if i%7 == 0 || i%11 == 0 {
				<-step
			}
		}
	}()
	var batch [5]Record
	for got := 0; got < frames; {
		if err := p.Wait(soon()); err != nil {
			t.Fatalf("after %d records: %v with %d bytes in the ring", got, err, l.bus.Candidates().Used())
		}
		r, n := must2(t)(p.Peek(batch[:]))
		for _, rec := range batch[:n] {
			if c := binary.LittleEndian.Uint64(rec.SPDU()) >> 16; c != uint64(10001+got) {
				t.Fatalf("counter %d, want %d", c, 10001+got)
			}
			got++
		}
		if r == nil {
			continue
		}
		r.Release()
		if r.Used() == 0 {
			select {
			case step <- struct{}{}:
			default:
			}
		}
	}
}

func must2(t testing.TB) func(*Ring, int, error) (*Ring, int) {
	return func(r *Ring, n int, err error) (*Ring, int) {
		t.Helper()
		ok(t, err)
		return r, n
	}
}

func TestPollerDeadlineAndWake(t *testing.T) {
	f := newTestFilter(t, 4096, 4096)
	fixture(t, f)
	for _, spin := range []time.Duration{0, time.Microsecond} {
		p := must[*Poller](t)(NewPoller(PollerOptions{Spin: spin}, f.candidates, f.control))
		if err := p.Wait(time.Now().Add(-time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past deadline: %v", err)
		}
		begin := time.Now()
		deadline := begin.Add(20 * time.Millisecond)
		if err := p.Wait(deadline); !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().Before(deadline) {
			t.Errorf("deadline: %v after %v", err, time.Since(begin))
		}

		p.Wake()
		if err := p.Wait(time.Time{}); !errors.Is(err, ErrWoken) {
			t.Errorf("woken before: %v", err)
		}
		if err := p.Wait(time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("one wake has ended two waits: %v", err)
		}
		done := make(chan error)
		go func() { done <- p.Wait(time.Time{}) }()
		p.Wake()
		if err := <-done; !errors.Is(err, ErrWoken) {
			t.Errorf("woken: %v", err)
		}

		f.judgeFD(t, fdFrame(idHeartbeat, 48, header{version: 1, kind: 3, pad: 8, epoch: liveEpoch}))
		ok(t, p.Wait(time.Time{}))
		var batch [4]Record
		r, n := must2(t)(p.Peek(batch[:]))
		if r != f.control || n != 1 {
			t.Errorf("%d records of the wrong ring", n)
		}
		if err := p.Wait(soon()); !errors.Is(err, ErrUnreleased) {
			t.Errorf("wait with a batch in hand: %v", err)
		}
		r.Release()
		if r, n := must2(t)(p.Peek(batch[:])); r != nil || n != 0 {
			t.Errorf("%d records from an empty ring", n)
		}
		ok(t, p.Close())
	}
}

// Rings are served in turn: a full one does not keep another waiting for more than one batch.
func TestPollerTakesTurns(t *testing.T) {
	var (
		kernels [3]*memRing
		p       Poller
	)
	for i := range kernels {
		k, r := newMemRing(1 << 16)
		kernels[i] = k
		p.rings = append(p.rings, r)
	}
	fill := func(k *memRing, n int) {
		for range n {
			pos, _ := k.reserve(memRecord(0, 96))
			k.commit(pos, 96, 0)
		}
	}
	fill(kernels[0], 500)
	fill(kernels[2], 20)
	var batch [10]Record
	var order []int
	for {
		r, n := must2(t)(p.Peek(batch[:]))
		if n == 0 {
			break
		}
		for i := range p.rings {
			if p.rings[i] == r {
				order = append(order, i)
			}
		}
		r.Release()
	}
	if len(order) != 52 || order[0] != 0 || order[1] != 2 || order[2] != 0 || order[3] != 2 || order[4] != 0 {
		t.Errorf("order %v", order)
	}
}

// A busy poller makes no system call and no garbage; a sleeping one makes no garbage either.
func TestPollerAllocations(t *testing.T) {
	f := newTestFilter(t, 1<<20, 4096)
	fixture(t, f)
	p := must[*Poller](t)(NewPoller(PollerOptions{}, f.candidates, f.control))
	defer p.Close()
	data := append(make([]byte, 14), fdFrame(idSample, 48, header{version: 1, epoch: liveEpoch, counter: 10001}).view(CANFDMTU)...)
	data[13] = EthPCANFD
	if _, err := f.prog.Run(&ebpf.RunOptions{Data: data, Repeat: 2000}); err != nil {
		t.Fatal(err)
	}
	var batch [10]Record
	past := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Wait(past); err != nil {
			t.Fatal(err)
		}
		r, n, err := p.Peek(batch[:])
		if err != nil || n != 10 {
			t.Fatal(n, err)
		}
		r.Release()
	}); n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
	take(t, f.candidates)
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Wait(past); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per wait, want 0", n)
	}
}
