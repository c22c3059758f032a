// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/event/kind"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/loader"
	"github.com/gopacket/gopacket/pcapgo"
)

// TestFloodAttackIsToldApart floods one protected identifier with frames in the clear, through the filter in the kernel, and puts three on
// another one whose data are of another source. The events have the exact number of each and frames of each, none speaks of the bus, status
// has them by stream, and the fault names the one source only.
func TestFloodAttackIsToldApart(t *testing.T) {
	needRoot(t)
	const simulated = time.Second
	l := newLab(t, demo.LabOptions{Frames: 10_000, SoftwareEdge: true}, simulated)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, followerEnds := follow(t, l)
	defer func() {
		gateway.Kill()
		followerEnds()
	}()

	streams := l.Binding().Nodes[0].Streams
	flooded, other := streams[0], streams[0]
	for _, s := range streams {
		if s.Source != flooded.Source {
			other = s
		}
	}
	if other.Source == flooded.Source {
		t.Fatalf("all streams are of %s", flooded.Source)
	}
	sent := make(map[uint32]uint64) // by stream
	write := func(stream uint32, id uint32, n int) {
		for range n {
			f := loader.CANFrame{ID: id, Len: 8}
			sent[stream]++
			binary.LittleEndian.PutUint64(f.Data[:], sent[stream])
			if err := l.Buses[0].WriteGateway(&f, loader.CANMTU); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(flooded.StreamID, flooded.CANID.Number(), 1000)
	write(other.StreamID, other.CANID.Number(), 3)
	until(t, "the fault", func() bool {
		write(flooded.StreamID, flooded.CANID.Number(), 500)
		f, err := faultOf(t, l)
		return err == nil && f.State == "fault"
	})
	total := func(m map[uint32]uint64) (n uint64) {
		for _, x := range m {
			n += x
		}
		return n
	}
	until(t, "all events", func() bool { return got.count(kind.PlaintextOnProtected) >= total(sent) })
	told, framed := make(map[uint32]uint64), make(map[uint32]int)
	got.mu.Lock()
	for _, r := range got.all {
		if r.Kind != kind.PlaintextOnProtected {
			continue
		}
		if r.Subject.Scope != event.ScopeStream {
			t.Errorf("an event of the %v: %+v", r.Subject.Scope, r)
		}
		if f := r.Frame; f != nil {
			framed[r.Stream]++
			if n := binary.LittleEndian.Uint64(f.Data[:]); f.ID != uint32(r.CANID) || f.Len != 8 || n <= told[r.Stream] || n > told[r.Stream]+r.Count {
				t.Errorf("of stream %d %d were told: the frame of the next %d is %+v", r.Stream, told[r.Stream], r.Count, *f)
			}
		}
		told[r.Stream] += r.Count
	}
	got.mu.Unlock()
	if framed[flooded.StreamID] == 0 || framed[other.StreamID] == 0 {
		t.Errorf("events with a frame: %v", framed)
	}
	if told[flooded.StreamID] != sent[flooded.StreamID] || told[other.StreamID] != 3 || len(told) != 2 {
		t.Errorf("told %v, sent %v", told, sent)
	}
	framesOf(t, l, flooded.CANID, other.CANID)
	f, err := faultOf(t, l)
	if err != nil || len(f.Faults) == 0 {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, x := range f.Faults {
		if (x.Advice != "") != (x.Name == flooded.Source) {
			b, _ := json.Marshal(x)
			t.Errorf("fault %s", b)
		}
	}
	o := overview(t, l)
	for n, s := range o.Streams {
		if s.Refused["plaintext_on_protected"] != sent[s.Stream] || o.Kernel.Streams[n].Refused["plaintext_on_protected"] != sent[s.Stream] {
			t.Errorf("stream %d: refused %v by the agent, %v by the maps, want %d", s.Stream, s.Refused, o.Kernel.Streams[n].Refused, sent[s.Stream])
		}
	}
}

// framesOf wants frames on each of the identifiers among those that the agent keeps: printed, and in a capture as many.
func framesOf(t *testing.T, l *demo.Lab, ids ...policy.CANID) {
	t.Helper()
	run := func(args ...string) []byte {
		t.Helper()
		var errs strings.Builder
		cmd := exec.CommandContext(t.Context(), program(), append([]string{"events", "--frames", "--socket", l.ControlSocket()}, args...)...)
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, errs.String())
		}
		return out
	}
	n, found := 0, make(map[uint32]int)
	for line := range bytes.Lines(run("-o", "json")) {
		r, err := encode.ParseJSON(bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if r.Frame == nil || r.Kind != kind.PlaintextOnProtected || r.Count != 1 {
			t.Fatalf("%s", line)
		}
		n++
		found[r.Frame.ID]++
	}
	for _, id := range ids {
		if found[uint32(id)] == 0 {
			t.Errorf("frames by identifier %v: none on %v", found, id)
		}
	}
	if lines := bytes.Count(run(), []byte("\n")); lines < n {
		t.Errorf("%d lines for at least %d frames", lines, n)
	}
	file := filepath.Join(t.TempDir(), "frames.pcapng")
	said := string(run("--export-pcapng", file))
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	packets := 0
	for ; ; packets++ {
		if _, _, err := r.ReadPacketData(); err != nil {
			break
		}
	}
	if packets < n || said != fmt.Sprintf("%d frames\n", packets) {
		t.Errorf("%d frames in the capture, printed %d: %s", packets, n, said)
	}
}
