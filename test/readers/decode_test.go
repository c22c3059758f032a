// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/agent/ring"
	"github.com/cellward/cellward/agent/trace"
)

// randomStreams returns streams whose signals are of all kinds: both byte orders, all types and lengths, overlapping,
// multiplexed and behind multiplexors that are multiplexed themselves.
func randomStreams(rng *rand.Rand, n, bodyMax int) []ring.Stream {
	streams := plainStreams(n)
	for i := range streams {
		s := &streams[i]
		for j := range rng.IntN(20) {
			g := ring.Signal{
				Name: fmt.Sprintf("s%d", j), Unit: []string{"", "V", "°C", "%"}[rng.IntN(4)],
				ByteOrder: ring.ByteOrder(rng.IntN(2)), ValueType: ring.ValueType(rng.IntN(4)),
				Factor: (rng.Float64() - 0.5) * math.Pow(10, float64(rng.IntN(8)-4)), Offset: float64(rng.IntN(3)) * rng.Float64() * 100,
			}
			if j%3 == 0 { // one that may select others
				g.ValueType = ring.Unsigned
			}
			switch g.ValueType {
			case ring.Float32:
				g.Length = 32
			case ring.Float64:
				g.Length = 64
			default:
				g.Length = uint16(1 + rng.IntN(64))
				if j%3 == 0 && rng.IntN(2) == 0 {
					g.Length = uint16(1 + rng.IntN(3)) // short ones have the wanted value often
				}
			}
			for {
				g.Start = uint16(rng.IntN(bodyMax * 8))
				if signalBytes(&g) <= bodyMax {
					break
				}
			}
			if j > 0 && rng.IntN(2) == 0 {
				mux := rng.IntN((j+2)/3) * 3
				g.Multiplexor = fmt.Sprintf("s%d", mux)
				g.MuxValue = uint32(rng.IntN(4))
			}
			s.Signals = append(s.Signals, g)
		}
		// In any order: a multiplexor may stand behind the signals that it selects.
		rng.Shuffle(len(s.Signals), func(a, b int) { s.Signals[a], s.Signals[b] = s.Signals[b], s.Signals[a] })
	}
	return streams
}

// signalBytes walks the bits of a signal as a DBC file numbers them and returns how many bytes they reach.
func signalBytes(g *ring.Signal) int {
	last := int(g.Start)
	for range g.Length - 1 {
		switch {
		case g.ByteOrder == ring.LittleEndian:
			last++
		case last%8 == 0:
			last += 15
		default:
			last--
		}
	}
	return last/8 + 1
}

// valueLines decodes with the Go decoder, printed as the programs print.
func valueLines(t *testing.T, s *ring.Stream, body []byte) []string {
	t.Helper()
	d, err := ring.NewDecoder(s)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range d.Append(nil, body) {
		lines = append(lines, fmt.Sprintf("value\t%s\t%d\t%.17g", s.Signals[v.Signal].Name, v.Raw, v.Physical))
	}
	return lines
}

// sameValue compares two such lines. The compilers of some machines fuse the multiplication with the addition, so the
// last bit of the physical value may differ.
func sameValue(got, want string) bool {
	g, w := strings.Split(got, "\t"), strings.Split(want, "\t")
	if len(g) != 4 || len(w) != 4 || g[1] != w[1] || g[2] != w[2] {
		return false
	}
	if strings.Contains(strings.ToLower(w[3]), "nan") {
		return strings.Contains(strings.ToLower(g[3]), "nan")
	}
	a, errA := strconv.ParseFloat(g[3], 64)
	b, errB := strconv.ParseFloat(w[3], 64)
	return errA == nil && errB == nil && (a == b || math.Abs(a-b) <= 1e-14*math.Abs(b))
}

func checkValues(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !sameValue(got[i], want[i]) {
			t.Fatalf("%s: %q, want %q", what, got, want)
		}
	}
}

// TestDecodeRandom: every reader decodes as the Go reader does, bodies of all lengths.
func TestDecodeRandom(t *testing.T) {
	const bodyMax = 24
	rng := rand.New(rand.NewPCG(11, 12))
	streams := randomStreams(rng, 40, bodyMax)
	p := newProducer(t, ring.Config{Streams: streams, BodyMax: bodyMax})
	path := socketPath(t)
	serve(t, p, path)
	present := 0
	each(t, func(t *testing.T, s subject) {
		c := s.shell(t)
		c.want("ok", "open %s oldest 0 -1", path)
		for i := range streams {
			for range 12 {
				body := make([]byte, rng.IntN(bodyMax+1))
				for j := range body {
					body[j] = byte(rng.Uint32())
				}
				text := hex.EncodeToString(body)
				if text == "" {
					text = "-"
				}
				want := valueLines(t, &streams[i], body)
				present += len(want)
				checkValues(t, fmt.Sprintf("stream %d, body %s", i, text), c.ask("decode %d %s", i, text), want)
			}
		}
	})
	if present < 1000 {
		t.Errorf("only %d values were compared", present)
	}
}

// sharedData returns a file of the captures and databases that the project did not write.
func sharedData(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Skipf("../shared/data/%s is not on this machine", name)
	} else if err != nil {
		t.Fatal(err)
	}
	return path
}

// publishCapture publishes those frames of a log that the ring has streams for and returns how many.
func publishCapture(t *testing.T, p *ring.Producer, streams []ring.Stream, log string) int {
	t.Helper()
	index := map[uint32]uint32{}
	for i := range streams {
		index[streams[i].CANID] = uint32(i)
	}
	r, err := trace.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	for {
		var f trace.Frame
		if err := r.Next(&f); errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
		stream, ok := index[f.ID]
		if !ok || f.Extended || f.Error || f.RTR {
			continue
		}
		if err := p.Publish([]ring.Sample{{Stream: stream, Counter: uint64(n), Body: f.Data[:f.Len]}}); err != nil {
			t.Fatal(err)
		}
		n++
	}
}

// newestValues reads count samples through a reader and lets it decode each: the newest value of each signal.
func newestValues(t *testing.T, s subject, path string, count int) map[string]float64 {
	t.Helper()
	c := s.shell(t)
	c.want("ok", "open %s oldest 0 -1", path)
	newest := map[string]float64{}
	for count > 0 {
		lines := c.ask("next 100 -1")
		for _, line := range lines[1:] {
			words := strings.Fields(line)
			for _, value := range c.ask("decode %s %s", words[2], words[9]) {
				v := strings.Split(value, "\t")
				physical, err := strconv.ParseFloat(v[3], 64)
				if err != nil {
					t.Fatal(value)
				}
				newest[v[1]] = physical
			}
			count--
		}
	}
	return newest
}

// TestKona decodes a capture of a Hyundai Kona's battery by a binding whose signals were taken by hand from
// kona-pcan.dbc: 360.8 V, 0 A, 48.5 %, 11 degC.
func TestKona(t *testing.T) {
	log := sharedData(t, "can/kona-bms-idle.asc")
	set, err := policy.Load("../../agent/policy/testdata/good/security_policy_bms_data.yaml", "testdata/kona-binding.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var streams []ring.Stream
	for i := range set.Streams {
		if s := &set.Streams[i]; s.Role == policy.RoleSample {
			streams = append(streams, streamOf(s))
		}
	}
	p := newProducer(t, ring.Config{Streams: streams})
	path := socketPath(t)
	serve(t, p, path)
	count := publishCapture(t, p, streams, log)
	if count == 0 {
		t.Fatal("no frame of the capture has an identifier of the binding")
	}
	each(t, func(t *testing.T, s subject) {
		values := newestValues(t, s, path, count)
		for name, want := range map[string]float64{"VBatt": 360.8, "IBatt": 0, "SoC_Maybe": 48.5, "uwe596_6_TAkkuL": 11, "uwe596_7_TAkkuH": 11} {
			if got, ok := values[name]; !ok || math.Abs(got-want) > 1e-9 {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		t.Logf("%d samples: %.1f V, %.1f A, %.1f %%, %.0f degC", count, values["VBatt"], values["IBatt"], values["SoC_Maybe"], values["uwe596_6_TAkkuL"])
	})
}

// streamOf describes a stream of a binding without multiplexed signals.
func streamOf(s *policy.ResolvedStream) ring.Stream {
	r := ring.Stream{
		ID: s.ID, SourceID: s.SourceID, Name: fmt.Sprintf("%s:%s", s.Interface.Name, s.CANID), Source: s.Source,
		Interface: s.Interface.Name, CANID: uint32(s.CANID), Period: s.Period,
	}
	for _, g := range s.Signals {
		signal := ring.Signal{
			Name: g.Name, Unit: g.Unit, Start: uint16(g.StartBit), Length: uint16(g.Length), Factor: g.Scale, Offset: g.Offset,
		}
		if g.ByteOrder == policy.BigEndian {
			signal.ByteOrder = ring.BigEndian
		}
		if g.Signed {
			signal.ValueType = ring.Signed
		}
		r.Signals = append(r.Signals, signal)
	}
	return r
}

// TestTesla decodes a capture of a Tesla Model S: 96 cell voltages and 32 temperatures behind one multiplexor, and the
// pack's voltage.
func TestTesla(t *testing.T) {
	log := sharedData(t, "can/tesla-model-s.candump.log")
	cells := []ring.Signal{{Name: "mux", Length: 8}}
	for i := range 128 {
		g := ring.Signal{Name: fmt.Sprintf("cell%d", i), Unit: "V", Start: uint16(8 + 14*(i%4)), Length: 14, Factor: 0.000305,
			Multiplexor: "mux", MuxValue: uint32(i / 4)}
		if i >= 96 {
			g.Name, g.Unit, g.Factor, g.ValueType = fmt.Sprintf("temperature%d", i-96), "degC", 0.0122, ring.Signed
		}
		cells = append(cells, g)
	}
	streams := plainStreams(2)
	streams[0].CANID, streams[0].Signals = 0x6f2, cells
	streams[1].CANID, streams[1].Signals = 0x102, []ring.Signal{{Name: "pack", Unit: "V", Length: 16, Factor: 0.01}}
	p := newProducer(t, ring.Config{Streams: streams})
	path := socketPath(t)
	serve(t, p, path)
	count := publishCapture(t, p, streams, log)
	each(t, func(t *testing.T, s subject) {
		values := newestValues(t, s, path, count)
		low, high, sum := math.Inf(1), math.Inf(-1), 0.0
		coldest, warmest := math.Inf(1), math.Inf(-1)
		for _, g := range cells[1:] {
			v, ok := values[g.Name]
			if !ok {
				t.Fatalf("no %s", g.Name)
			}
			if g.Unit == "V" {
				low, high, sum = min(low, v), max(high, v), sum+v
			} else {
				coldest, warmest = min(coldest, v), max(warmest, v)
			}
		}
		if math.Abs(low-4.0013) > 5e-5 || math.Abs(high-4.0059) > 5e-5 || math.Abs(sum-384.44) > 5e-3 {
			t.Errorf("cells from %.4f to %.4f V, sum %.2f V", low, high, sum)
		}
		if math.Abs(coldest-21.9) > 0.05 || math.Abs(warmest-23.0) > 0.05 {
			t.Errorf("temperatures from %.1f to %.1f degC", coldest, warmest)
		}
		if math.Abs(values["pack"]-384.1) > 0.5 {
			t.Errorf("pack voltage %.1f V", values["pack"])
		}
	})
}
