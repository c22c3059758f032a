// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cellward/cellward/agent"
	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/trace"
)

// packOptions is the simulated pack of these tests.
func packOptions(d time.Duration) trace.PackOptions {
	return trace.PackOptions{Seed: 3, Duration: d, TemperatureID: 0x6F3}
}

// packInput names the same pack on the command line.
func packInput(d time.Duration) []string {
	return []string{"--simulate", d.String(), "--seed", "3", "--temperature-id", "0x6F3"}
}

// newLab makes a laboratory for the simulated pack, with keys agreed.
func newLab(t *testing.T, o demo.LabOptions, d time.Duration) *demo.Lab {
	t.Helper()
	p, err := demo.DefaultPolicy()
	if err != nil {
		t.Fatal(err)
	}
	pack, err := trace.NewPack(packOptions(d))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := trace.Summarize(pack)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := trace.PackLayout(packOptions(d))
	if err != nil {
		t.Fatal(err)
	}
	if o.Program == "" {
		o.Program = program()
	}
	o.Policy = p
	if o.Binding, _, err = demo.BindingFor(p, sum, layout); err != nil {
		t.Fatal(err)
	}
	l, err := demo.NewLab(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close laboratory: %v", err)
		}
	})
	if err := l.AgreeKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// bodies returns what a pack sends, by stream id, in order.
func bodies(t *testing.T, b *policy.Binding, d time.Duration) map[uint32][]string {
	t.Helper()
	ids := make(map[uint32]uint32)
	for _, s := range b.Nodes[0].Streams {
		ids[s.CANID.Number()] = s.StreamID
	}
	pack, err := trace.NewPack(packOptions(d))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[uint32][]string)
	var f trace.Frame
	for {
		err := pack.Next(&f)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[ids[f.ID]] = append(all[ids[f.ID]], hex.EncodeToString(f.Body()))
	}
}

// sample is a line of a reader.
type sample struct {
	Stream  uint32 `json:"stream"`
	Epoch   uint32 `json:"epoch"`
	Counter uint64 `json:"counter"`
	Body    string `json:"body"`
}

// readings collects what readers say. Its methods are safe for concurrent use.
type readings struct {
	mu  sync.Mutex
	all []sample
	wg  sync.WaitGroup
}

// follow takes a reader's lines until it ends.
func (r *readings) follow(t *testing.T, p *demo.Process) {
	r.wg.Go(func() {
		for s := bufio.NewScanner(p.Lines); s.Scan(); {
			var x sample
			if err := json.Unmarshal(s.Bytes(), &x); err != nil {
				t.Errorf("line of the reader %q: %v", s.Text(), err)
				return
			}
			r.mu.Lock()
			r.all = append(r.all, x)
			r.mu.Unlock()
		}
	})
}

// holes says which counters have not come between the first and the last of each stream, and which those two are.
func (r *readings) holes() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counters := make(map[uint32][]uint64)
	for _, x := range r.all {
		counters[x.Stream] = append(counters[x.Stream], x.Counter)
	}
	for stream, c := range counters {
		slices.Sort(c)
		all = append(all, fmt.Sprintf("stream %d from %d to %d", stream, c[0], c[len(c)-1]))
		for i := range c[1:] {
			if c[i+1] > c[i]+1 {
				all = append(all, fmt.Sprintf("stream %d: %d to %d", stream, c[i]+1, c[i+1]-1))
			}
		}
	}
	slices.Sort(all)
	return all
}

func (r *readings) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// settled waits until every candidate has its verdict.
func settled(t *testing.T, l *demo.Lab) agent.Status {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s, err := l.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Settled() {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("not everything was dealt with: %+v", s.Interfaces)
		}
	}
}

// report decodes what an edge says at its end.
func report(t *testing.T, p *demo.Process) demo.SealCounts {
	t.Helper()
	var c demo.SealCounts
	if err := json.Unmarshal(p.Output(), &c); err != nil {
		t.Fatalf("report of the edge %q: %v", p.Output(), err)
	}
	return c
}
