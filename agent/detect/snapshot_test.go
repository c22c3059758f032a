// SPDX-License-Identifier: Apache-2.0

package detect

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/policy"
)

// paged is an array of 3 parts.
func paged() Options {
	return Options{Period: period, Signals: []policy.Signal{
		{Name: "page", Length: 8},
		{Name: "cell", StartBit: 8, Length: 16, Multiplexor: &policy.Multiplexor{Signal: "page", Values: []uint32{0, 1, 2}}},
	}}
}

// TestSnapshot goes on from a snapshot: a delay is noticed that began before it, and a silence and a part that were missing go on.
func TestSnapshot(t *testing.T) {
	f := &feed{s: New(paged()), now: 50 * second}
	send := func(page byte) {
		f.counter++
		f.source += 100
		f.now += 100 * ms
		if got := f.s.Sample(f.counter, uint32(f.source), f.now, []byte{page, 0, 0}); got != 0 {
			t.Fatalf("sample %d: %04b", f.counter, got)
		}
	}
	for i := range 30 {
		send(byte(i % 3))
	}
	f.s.Begins(1000)
	again := New(paged())
	if err := again.Restore(f.s.Snapshot(), f.now); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Snapshot(), f.s.Snapshot()) {
		t.Error("restored otherwise")
	}
	if got := again.Late(f.now + 10*second); !got.Silent {
		t.Errorf("silent: %+v", got)
	}
	if got := again.Sample(f.counter+1, uint32(f.source+100), f.now+100*ms+5*second, []byte{0, 0, 0}); got != Delayed {
		t.Errorf("late by 5 s: %04b", got)
	}
	for _, b := range [][]byte{nil, {1}, f.s.Snapshot()[8:], append(f.s.Snapshot(), 0), New(Options{Period: period}).Snapshot()} {
		was := again.Snapshot()
		if err := again.Restore(b, f.now); !errors.Is(err, ErrSnapshot) || !bytes.Equal(again.Snapshot(), was) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// FuzzRestore takes up anything of the right length: it does not fail, and nothing in it is from the future.
func FuzzRestore(f *testing.F) {
	x := &feed{s: New(paged()), now: 50 * second}
	x.s.Sample(1, 100, x.now, []byte{1, 0, 0})
	f.Add(x.s.Snapshot(), int64(60*time.Second), uint64(2), uint32(200))
	f.Fuzz(func(t *testing.T, b []byte, now int64, counter uint64, source uint32) {
		s := New(paged())
		if now < 0 || s.Restore(b, now) != nil {
			return
		}
		if s.Seen() > now || s.movedBefore < 0 || s.cameBefore < 0 || s.credit > s.burst {
			t.Fatalf("%+v at %d", s, now)
		}
		s.Sample(counter, source, now, []byte{2, 0, 0})
		s.Late(now)
		if s.Seen() != now {
			t.Fatalf("heard at %d, seen %d", now, s.Seen())
		}
	})
}
