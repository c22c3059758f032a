// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// TestSealFromInterface seals what comes in on a CAN interface: bodies of every length that fits, an identifier that no stream
// claims, and a remote frame.
func TestSealFromInterface(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000}, time.Second)
	src, err := loader.NewTUN(nil, "src0")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got readings
	reader, err := l.StartReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got.follow(t, reader)
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", map[string]string{"src0": "can0"}, 0, "--from", "src0")
	if err != nil {
		t.Fatal(err)
	}
	// The edge is at work once its start has been taken.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s, err := l.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Verdict(loader.StartAccepted) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no start of the edge")
		}
	}
	time.Sleep(100 * time.Millisecond)
	var want []string
	for n := range 9 {
		f := loader.CANFrame{ID: 0x102, Len: uint8(n)}
		for i := range n {
			f.Data[i] = byte(0x10*n + i)
		}
		want = append(want, hex.EncodeToString(f.Data[:n]))
		if err := src.WriteCAN(&f, loader.CANMTU); err != nil {
			t.Fatal(err)
		}
	}
	foreign := loader.CANFrame{ID: 0x555, Len: 1}
	remote := loader.CANFrame{ID: 0x102 | loader.CANRTRFlag, Len: 8}
	if err := errors.Join(src.WriteCAN(&foreign, loader.CANMTU), src.WriteCAN(&remote, loader.CANMTU)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); got.count() < len(want) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := edge.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(wire.Finish(), gateway.Stop(), reader.Wait()); err != nil {
		t.Fatal(err)
	}
	got.wg.Wait()
	if len(got.all) != len(want) {
		t.Fatalf("%d samples, want %d: %+v", len(got.all), len(want), got.all)
	}
	for i, s := range got.all {
		if s.Body != want[i] {
			t.Errorf("sample %d is %s, want %s", i, s.Body, want[i])
		}
	}
	if c := report(t, edge); c.Offered != uint64(len(want))+1 || c.Sealed != uint64(len(want)) {
		t.Errorf("report %+v", c)
	}
}

// TestSealAfterStall stops the edge's process for a while in which more frames come in than a socket has room for by itself: all of
// them are sealed when it goes on.
func TestSealAfterStall(t *testing.T) {
	needRoot(t)
	const frames = 20_000
	l := newLab(t, demo.LabOptions{Frames: 2 * frames, SoftwareEdge: true}, time.Second)
	src, err := loader.NewTUN(nil, "src0")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", map[string]string{"src0": "can0"}, 0, "--from", "src0")
	if err != nil {
		t.Fatal(err)
	}
	published := func(what string, n uint64) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			s, err := l.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.Verdict(loader.StartAccepted) > 0 && s.Published() >= n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d of %d samples published", what, s.Published(), n)
			}
		}
	}
	published("start of the edge", 0)
	if err := edge.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f := loader.CANFrame{ID: 0x102, Len: 8}
	for i := range frames {
		f.Data[0], f.Data[1] = byte(i), byte(i>>8)
		if err := src.WriteCAN(&f, loader.CANMTU); err != nil {
			t.Fatal(err)
		}
	}
	if err := edge.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	published("after the stall", frames)
	if err := errors.Join(edge.Stop(), wire.Finish(), gateway.Stop()); err != nil {
		t.Fatal(err)
	}
	if c := report(t, edge); c.Sealed != frames || c.Dropped != 0 {
		t.Errorf("report %+v", c)
	}
}
