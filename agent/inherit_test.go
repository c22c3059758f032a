// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/detect"
	"github.com/cellward/cellward/agent/epoch"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/takeover"
	"golang.org/x/sys/unix"
)

// TestCarryOn lays a second core over the tables of a first, with what that has handed over: a key is no younger than it was, whatever the
// wall clock says, an epoch that was left behind stays so, and ceilings are where the file has them.
func TestCarryOn(t *testing.T) {
	r := newRig(t)
	s := r.node(r.vault)
	if err := s.AnnounceStart(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		r.seal(s, "can0", 0x100, byte(i))
	}
	r.mustFeed(r.wire.take()...)
	first := r.core
	a := &Agent{core: first, state: r.state}
	first.note()
	var state takeover.State
	for _, n := range first.nodes {
		for _, l := range n.live {
			state.Live = append(state.Live, takeover.LiveEpoch{
				Node: n.state.Kid, Number: l.state.Number, Age: l.age(a.now(), time.Now().UnixNano()) + 1e12, Promoted: l.promoted, Frames: l.frames,
			})
		}
	}
	for _, x := range first.streams {
		state.Streams = append(state.Streams, takeover.Stream{ID: x.ID, Epoch: x.epoch + 1, Lowest: 7, Times: x.times.Snapshot()})
	}
	e, err := r.state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	store := NewStore(&memoryGenerations{}, &memoryGenerations{})
	if r.state, err = store.Adopt(e.State, e.Secrets, false); err != nil {
		t.Fatal(err)
	}
	at := dense(t, r.set)
	next := newCore(r.newEngine(), r.set, at, r.state, r.tables, r.sink)
	if refused, err := next.resume(r.state, r.set, false, r.now, time.Now().UnixNano(), int64(hardLimit(r.set))); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	if err := next.carryOn(&state); err != nil {
		t.Fatal(err)
	}
	l, was := next.nodes[0].live[0], first.nodes[0].live[0]
	if got := l.age(a.now(), time.Now().UnixNano()); got < 1e12 {
		t.Errorf("key is %d ns old, has been more than 1000 s", got)
	}
	if l.promoted != was.promoted || l.frames != was.frames || was.frames != 20 {
		t.Errorf("promoted %d, frames %d, want %d, %d", l.promoted, l.frames, was.promoted, was.frames)
	}
	for i, x := range next.streams {
		if x.epoch != first.streams[i].epoch+1 || x.lowest != 7 {
			t.Errorf("stream %d has left epochs below %d at %d", x.ID, x.epoch, x.lowest)
		}
		if got, want := next.ceilings.durable[i].Load(), first.ceilings.wanted[i]; got != want || next.ceilings.wanted[i] != want {
			t.Errorf("stream %d: ceiling %d, want %d", x.ID, got, want)
		}
		if x.window.Highest() != first.streams[i].window.Highest() {
			t.Errorf("stream %d: highest %d", x.ID, x.window.Highest())
		}
		if x.times.Seen() != first.streams[i].times.Seen() {
			t.Errorf("stream %d was heard at %d, not at %d", x.ID, first.streams[i].times.Seen(), x.times.Seen())
		}
	}
	// A node that has gone silent is silent for the next agent, too.
	next.notes = r.notes
	r.told()
	next.overdue(a.now(), func(uint8) bool { return true })
	if got := r.told(kind.Silence); len(got) == 0 {
		t.Error("nobody is missed")
	}
	state.Streams[0].Times = []byte{1}
	if err := next.carryOn(&state); !errors.Is(err, detect.ErrSnapshot) {
		t.Errorf("times that are none: %v", err)
	}
}

// TestStoreHandedOver goes on with what was retired and is still opened by the hardware, and refuses a state without its secrets.
func TestStoreHandedOver(t *testing.T) {
	r := newRig(t)
	first := NewStore(&memoryGenerations{}, &memoryGenerations{})
	if err := first.save(mustEncode(t, r.state)); err != nil {
		t.Fatal(err)
	}
	r.state.Nodes[0].Retire(1)
	if err := first.save(mustEncode(t, r.state)); err != nil {
		t.Fatal(err)
	}
	if !first.stale() {
		t.Fatal("nothing is to be retired")
	}
	state, secrets, surplus, err := first.HandOver(r.state)
	if err != nil {
		t.Fatal(err)
	}
	next := NewStore(first.state, first.secrets)
	x, err := next.Adopt(state, secrets, surplus)
	if err != nil {
		t.Fatal(err)
	}
	if !next.stale() || len(x.Nodes[0].Epochs) != 0 {
		t.Errorf("to be retired: %t, epochs %d", next.stale(), len(x.Nodes[0].Epochs))
	}
	if err := next.Settle(); err != nil || next.stale() {
		t.Errorf("settle: %v, still to be retired: %t", err, next.stale())
	}
	full := newRig(t)
	e := mustEncode(t, full.state)
	if _, err := next.Adopt(e.State, nil, false); !errors.Is(err, epoch.ErrState) {
		t.Errorf("a state without secrets: %v", err)
	}
	if _, err := next.Adopt(e.State[:len(e.State)-1], e.Secrets, false); !errors.Is(err, epoch.ErrState) {
		t.Errorf("half a state: %v", err)
	}
}

func mustEncode(t *testing.T, s *epoch.State) *epoch.Encoded {
	t.Helper()
	e, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// slowGenerations has hardware that takes its time.
type slowGenerations struct {
	memoryGenerations
	entered, release chan struct{}
}

func (g *slowGenerations) Retire() error {
	g.entered <- struct{}{}
	<-g.release
	return nil
}

// TestHardwareIsHeld wants no attempt of the hardware to begin while it is held, and the one that is being made to be waited for, up to the
// end of a context.
func TestHardwareIsHeld(t *testing.T) {
	slow := &slowGenerations{entered: make(chan struct{}, 8), release: make(chan struct{}, 8)}
	saves := newSaver(NewStore(slow, &memoryGenerations{}), func(error) {}, func(error) {}, func() {})
	defer saves.close()
	h := &saves.hardware
	first := h.ask(true)
	<-slow.entered
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errFull)
	defer cancel()
	if err := h.hold(ctx); !errors.Is(err, errFull) {
		t.Fatalf("hold beside an attempt: %v", err)
	}
	slow.release <- struct{}{}
	if err := h.wait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := h.hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := h.ask(true)
	select {
	case <-slow.entered:
		t.Fatal("an attempt has begun although it is held")
	case <-time.After(50 * time.Millisecond):
	}
	slow.release <- struct{}{}
	h.release()
	if err := h.wait(t.Context(), second); err != nil {
		t.Fatal(err)
	}
}

// TestEndedInBetween ends a successor before it gives the conversation more time: it does not wait that long.
func TestEndedInBetween(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		ends[i], err = net.FileConn(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		defer ends[i].Close()
	}
	s := &succession{conn: takeover.NewConn(ends[0].(*net.UnixConn))}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.bound(ctx, time.Hour); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.bound(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
