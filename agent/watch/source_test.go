// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/ring"
)

// serve makes a ring of one stream with a page and two values, of which a body has one.
func serve(t *testing.T, socket string) (*ring.Producer, func()) {
	t.Helper()
	p, err := ring.NewProducer(ring.Config{Slots: 64, Streams: []ring.Stream{{
		ID: 7, Name: "can0:102", Interface: "can0", CANID: 0x102, Signals: []ring.Signal{
			{Name: "page", Length: 8},
			{Name: "a", Unit: "V", Start: 8, Length: 8, Factor: 0.5, Multiplexor: "page", MuxValue: 0},
			{Name: "b", Unit: "V", Start: 8, Length: 8, Multiplexor: "page", MuxValue: 1},
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ring.Serve(p, ring.ServerConfig{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	return p, func() {
		if err := errors.Join(s.Close(), p.Close()); err != nil {
			t.Error(err)
		}
	}
}

// until reads until what is read is as it should be.
func until(t *testing.T, s *Source, what string, is func(Ring) bool) Ring {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		r := s.Read(t.Context())
		if is(r.Ring) {
			return r.Ring
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, r)
		}
	}
}

// TestSource follows a ring that is not there yet, comes, goes, and comes again with other values.
func TestSource(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "ring.sock")
	s, err := Open(agent.Where{Socket: filepath.Join(dir, "control.sock"), BPFFS: filepath.Join(dir, "pins")}, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := s.Read(t.Context()); r.Overview != nil || !strings.Contains(r.Error, "nothing is pinned") || r.Ring.Connected {
		t.Errorf("nothing is there: %+v", r)
	}
	until(t, s, "no ring", func(r Ring) bool { return r.Error != "" && len(r.Streams) == 0 })

	p, end := serve(t, socket)
	publish := func(counter uint64, flags ring.Flags, body ...byte) {
		t.Helper()
		if err := p.Publish([]ring.Sample{{Counter: counter, Flags: flags, ReceiveTime: 1, Body: body}}); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, ring.FlagGapBefore, 1, 30)
	r := until(t, s, "ring", func(r Ring) bool { return r.Connected && r.Streams[0].Counter == 1 })
	st := r.Streams[0]
	if st.ID != 7 || st.AgeMS < 0 || !st.Signals[0].Page || st.Signals[1].Page || st.Signals[1].Value != nil || *st.Signals[2].Value != 30 || r.Fault != "ok" {
		t.Errorf("%+v", r)
	}
	publish(2, ring.FlagStale, 0, 7)
	p.SetFault(ring.FaultRaised)
	publish(3, 0, 0, 9)
	r = until(t, s, "two more", func(r Ring) bool { return r.Streams[0].Counter == 3 })
	if st = r.Streams[0]; *st.Signals[1].Value != 4.5 || *st.Signals[2].Value != 30 || r.Fault != "fault" {
		t.Errorf("%+v", r)
	}
	end()
	until(t, s, "the ring goes", func(r Ring) bool { return !r.Connected && len(r.Streams) == 0 && r.Error != "" })
	p, end = serve(t, socket)
	defer end()
	publish(9, 0, 1, 1)
	until(t, s, "the next ring", func(r Ring) bool {
		return r.Connected && r.Streams[0].Counter == 9 && r.Streams[0].Signals[1].Value == nil
	})
}

func TestWriteJSON(t *testing.T) {
	dir := t.TempDir()
	p, end := serve(t, filepath.Join(dir, "ring.sock"))
	defer end()
	if err := p.Publish([]ring.Sample{{Counter: 5, ReceiveTime: 1, Body: []byte{0, 8}}}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(agent.Where{Socket: filepath.Join(dir, "control.sock"), BPFFS: filepath.Join(dir, "pins")}, filepath.Join(dir, "ring.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out bytes.Buffer
	if err := WriteJSON(t.Context(), s, &out, time.Millisecond, 2); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, l := range lines {
		var got Snapshot
		if err := json.Unmarshal([]byte(l), &got); err != nil {
			t.Fatal(err)
		}
		if v := got.Ring.Streams[0].Signals[1].Value; v == nil || *v != 4 {
			t.Errorf("%s", l)
		}
	}
}

func TestNeedsTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Run(t.Context(), nil, f, f, Options{}); !errors.Is(err, ErrTerminal) {
		t.Error(err)
	}
}
