// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/agent/trace"
)

// TestReadCandump seals a real capture and reads it back with `cellward read -o candump`: identifiers and payloads are those of
// the log, in order per identifier, and decode to the cells and temperatures that are known of it.
func TestReadCandump(t *testing.T) {
	needRoot(t)
	log := shared(t, "can/tesla-model-s.candump.log")
	l, names := logLab(t, log)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wire := l.StartWire(nil)
	edge, err := l.StartEdge("", names, 0, "--log", log)
	if err != nil {
		t.Fatal(err)
	}
	if err := edge.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := wire.Finish(); err != nil {
		t.Fatal(err)
	}
	settled(t, l)
	out := cellward(t, t.Context(), "read", "--socket", l.RingSocket(), "-o", "candump", "--from", "oldest", "--count", fmt.Sprint(report(t, edge).Sealed))
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	want, got := payloads(t, openLog(t, log)), payloads(t, readLog(t, string(out)))
	if len(got) != len(want) || len(want) != 180 {
		t.Fatalf("%d identifiers came out, %d went in", len(got), len(want))
	}
	for id, in := range want {
		if strings.Join(in, " ") != strings.Join(got[id], " ") {
			t.Errorf("identifier %03X: %d payloads in, %d out, or in another order", id, len(in), len(got[id]))
		}
	}
	checkTesla(t, got[0x6F2])
}

// logLab makes a laboratory for a log.
func logLab(t *testing.T, path string) (*demo.Lab, map[string]string) {
	t.Helper()
	p, err := demo.DefaultPolicy()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := trace.Summarize(openLog(t, path))
	if err != nil {
		t.Fatal(err)
	}
	b, names, err := demo.BindingFor(p, sum, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := demo.NewLab(t.Context(), demo.LabOptions{Program: program(), Policy: p, Binding: b, Frames: 2 * sum.Frames})
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
	return l, names
}

func openLog(t *testing.T, path string) trace.Source {
	t.Helper()
	r, err := trace.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func readLog(t *testing.T, text string) trace.Source {
	t.Helper()
	r, err := trace.NewReader("output", bufio.NewReader(strings.NewReader(text)), trace.FormatCandump)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func payloads(t *testing.T, src trace.Source) map[uint32][]string {
	t.Helper()
	all := make(map[uint32][]string)
	var f trace.Frame
	for {
		err := src.Next(&f)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[f.ID] = append(all[f.ID], string(f.Body()))
	}
}

// checkTesla decodes the multiplexed array: 96 cells and 32 temperatures of 14 bits, known from the capture.
func checkTesla(t *testing.T, bodies []string) {
	t.Helper()
	var cells, temperatures []float64
	last := make(map[byte]string) // the newest of each multiplexor
	for _, b := range bodies {
		if len(b) == 8 {
			last[b[0]] = b
		}
	}
	for _, b := range last {
		var bits uint64
		for i := range 7 {
			bits |= uint64(b[1+i]) << (8 * i)
		}
		for i := range 4 {
			raw := bits >> (14 * i) & (1<<14 - 1)
			if b[0] < 24 {
				cells = append(cells, float64(raw)*0.000305)
			} else {
				temperatures = append(temperatures, float64(raw)*0.0122)
			}
		}
	}
	if len(cells) != 96 || len(temperatures) != 32 {
		t.Fatalf("%d cells and %d temperatures", len(cells), len(temperatures))
	}
	low, high, total := math.Inf(1), math.Inf(-1), 0.0
	for _, c := range cells {
		low, high, total = min(low, c), max(high, c), total+c
	}
	if math.Abs(low-4.0013) > 0.0005 || math.Abs(high-4.0059) > 0.0005 || math.Abs(total-384.44) > 0.05 {
		t.Errorf("cells %.4f to %.4f V, sum %.2f V", low, high, total)
	}
	for _, c := range temperatures {
		if c < 21.85 || c > 23.05 {
			t.Errorf("temperature %.2f", c)
		}
	}
}

// TestSecondAgentIsRefused keeps a second agent off the same state.
func TestSecondAgentIsRefused(t *testing.T) {
	needRoot(t)
	l := newLab(t, demo.LabOptions{Frames: 1000}, time.Second)
	gateway, err := l.StartAgent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.StartAgent(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("second agent: %v", err)
	}
	if err := gateway.Stop(); err != nil {
		t.Fatal(err)
	}
}
