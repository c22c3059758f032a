// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// watch counts on a CAN_RAW socket what reaches the gateway's programs, until it sees last.
type watch struct {
	foreign, protected atomic.Uint64
	done               chan error
}

func (l *lab) watch(t *testing.T, ns *loader.Netns, name string) *watch {
	t.Helper()
	s := openRaw(t, ns, name, rawOptions{})
	w := &watch{done: make(chan error, 1)}
	go func() {
		for {
			b, err := s.read(0)
			switch {
			case err == unix.EAGAIN:
				w.done <- fmt.Errorf("no frame for %v", patience)
				return
			case err != nil:
				w.done <- err
				return
			case identifier(b) == last:
				w.done <- nil
				return
			case l.ids[identifier(b)&^loader.CANRTRFlag]:
				w.protected.Add(1)
			default:
				w.foreign.Add(1)
			}
		}
	}()
	return w
}

// finish sends last from the edge's side and waits until it is seen.
func (w *watch) finish(t *testing.T, l *lab) {
	t.Helper()
	openRaw(t, l.EdgeNetns(), l.Buses[0].Name, rawOptions{}).send(&loader.CANFrame{ID: last}, loader.CANMTU)
	ok(t, <-w.done)
}

// TestCapture seals a real capture at one end of a vxcan pair, while cangen floods the same bus with foreign identifiers and with
// forged frames on protected ones, classic and CAN FD. The keys are in the machine's TPM. Every frame of the capture comes out
// of the ring identical, no forged one does, and every foreign one that the filter let through reaches a CAN_RAW socket.
func TestCapture(t *testing.T) {
	log, what := capture(t)
	device := os.Getenv(tpmVariable)
	if device != "" {
		ok(t, os.Chown(device, demo.AgentUID, demo.AgentUID)) // as the group tss would have it
	}
	l := newLab(t, demo.LabOptions{GatewayTPM: device, SoftwareEdge: true}, log)
	if l.total != captureFrames {
		t.Fatalf("%s has %d frames", what, l.total)
	}
	gateway := l.agent(t)
	reader := l.read(t)
	bus := l.Buses[0].Name
	w := l.watch(t, nil, bus)
	foreign, forged := fmt.Sprintf("%X", l.foreignID()), fmt.Sprintf("%X", l.Binding().Nodes[0].Streams[0].CANID.Number())
	flood := func(args ...string) *background {
		return begin(t, l.EdgeNetns(), nil, "cangen", append([]string{bus, "-p", "1000"}, args...)...)
	}
	floods := []*background{
		flood("-g", "0", "-I", foreign, "-L", "8", "-D", "i"),
		flood("-g", "1", "-I", forged, "-L", "8", "-D", "r"),
		flood("-g", "1", "-I", forged, "-f", "-L", "48", "-D", "r"),
	}
	eventually(t, "the floods have begun", func() bool {
		s, err := l.Status(t.Context())
		ok(t, err)
		return w.foreign.Load() > 100 && s.Verdict(loader.PlaintextOnProtected) > 10
	})
	edge := l.edge(t)
	ok(t, edge.Wait())
	for _, f := range floods {
		if f.ended() {
			t.Errorf("%v has ended by itself: %s", f.cmd.Args, f.errs.String())
		}
		f.kill()
	}
	sealed := report(t, edge)
	status := reader.wait(t, l)
	w.finish(t, l)
	status = l.settle(t)
	ok(t, gateway.Stop())
	ok(t, <-reader.done)

	if sealed.Sealed != uint64(l.total) || status.Published() != uint64(l.total) {
		t.Errorf("sealed %d, published %d, the capture holds %d", sealed.Sealed, status.Published(), l.total)
	}
	reader.check(t, l, sealed.FirstCounter)
	passed := status.Verdict(loader.Passed)
	if n := w.foreign.Load(); n+1 != passed || n < 1000 { // the last frame is not counted here
		t.Errorf("the filter let %d foreign frames through, %d reached the socket", passed, n+1)
	}
	if n := w.protected.Load(); n != 0 {
		t.Errorf("%d protected frames reached the socket", n)
	}
	for _, v := range []loader.Verdict{loader.Shed, loader.RingFull} {
		if n := status.Verdict(v); n != 0 {
			t.Errorf("%s %d", v, n)
		}
	}
	t.Logf("%s: %d samples; %d foreign frames; refused: %d plaintext, %d malformed, %d unknown epoch, %d counter range, %d bad tag", what,
		status.Published(), passed, status.Verdict(loader.PlaintextOnProtected), status.Verdict(loader.Malformed),
		status.Verdict(loader.UnknownEpoch), status.Verdict(loader.CounterRange), status.Verdict(loader.BadTag))
}

// TestBodies seals frames of every length that a sample may have, classic and CAN FD: they are padded to the lengths that a CAN FD
// frame can have and come out as long as they went in.
func TestBodies(t *testing.T) {
	var b bytes.Buffer
	for n := range 9 {
		fmt.Fprintf(&b, "(1.%06d) can0 100#%X\n", n*1000, bytes.Repeat([]byte{byte(n)}, n))
	}
	for i, n := range []int{0, 1, 8, 12, 16, 20, 24, 32} {
		fmt.Fprintf(&b, "(2.%06d) can0 101##1%X\n", i*1000, bytes.Repeat([]byte{byte(0xA0 + n)}, n))
	}
	path := filepath.Join(t.TempDir(), "bodies.log")
	ok(t, os.WriteFile(path, b.Bytes(), 0o644))
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, path)
	if l.total != 17 {
		t.Fatalf("the log has %d frames", l.total)
	}
	gateway, bus := l.agent(t), l.Buses[0].Name
	reader := l.read(t)
	seen := openRaw(t, l.EdgeNetns(), bus, rawOptions{})
	edge := l.edge(t)
	ok(t, edge.Wait())
	reader.wait(t, l)
	ok(t, gateway.Stop())
	ok(t, <-reader.done)
	reader.check(t, l, report(t, edge).FirstCounter)
	lengths := make(map[byte]int)
	for _, f := range seen.drain() {
		lengths[f[4]]++
	}
	for n, count := range lengths {
		if n != 32 && n != 48 && n != 64 {
			t.Errorf("%d sealed frames of %d bytes", count, n)
		}
	}
	if len(lengths) != 3 {
		t.Errorf("sealed frames by length: %v", lengths)
	}
}

// TestRecordedTraffic has candump record sealed traffic and canplayer play it to a gateway that has not seen it: all of it comes
// out. Played again, none of it does.
func TestRecordedTraffic(t *testing.T) {
	const frames = 300
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, shortLog(t, frames))
	bus := l.Buses[0].Name
	// The edge's interface hands what it sends to its neighbours, and the gateway's is down.
	change(t, nil, bus, func(k *loader.Links, i int) error { return k.SetDown(i) })
	d := startDump(t, l.EdgeNetns(), bus)
	edge := l.edge(t)
	ok(t, edge.Wait())
	tool(t, l.EdgeNetns(), "cansend", bus, "7F0#")
	var recorded bytes.Buffer
	for i, line := range plain(d.until("7F0#")) {
		fmt.Fprintf(&recorded, "(%d.%06d) %s\n", 1+i/1_000_000, i%1_000_000, line)
	}
	d.kill()
	path := filepath.Join(t.TempDir(), "recorded.log")
	ok(t, os.WriteFile(path, recorded.Bytes(), 0o644))

	change(t, nil, bus, func(k *loader.Links, i int) error { return k.SetUp(i) })
	gateway := l.agent(t)
	reader := l.read(t)
	// A new start is taken from its record, after which an edge keeps still for a while: so does the player.
	tool(t, l.EdgeNetns(), "canplayer", "-g", "2", "-I", path)
	before := reader.wait(t, l)
	tool(t, l.EdgeNetns(), "canplayer", "-g", "2", "-I", path)
	status := l.settle(t)
	eventually(t, "the second run is judged", func() bool {
		status = l.settle(t)
		return status.Verdict(loader.Replay)-before.Verdict(loader.Replay) >= frames
	})
	ok(t, gateway.Stop())
	ok(t, <-reader.done)
	reader.check(t, l, report(t, edge).FirstCounter)
	if status.Published() != frames || status.Verdict(loader.Candidate) < frames {
		t.Errorf("published %d of %d", status.Published(), frames)
	}
}
