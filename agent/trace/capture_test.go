// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"math"
	"os"
	"slices"
	"testing"
	"time"
)

// The known answers are those of ../shared/data/README.md, read from the
// captures by hand.

func TestTeslaCapture(t *testing.T) {
	path := sharedFile(t, "can/tesla-model-s.candump.log")
	frames, r := readFile(t, path)
	if len(frames) != 12974 || r.Format() != FormatCandump {
		t.Fatalf("%d frames, format %v", len(frames), r.Format())
	}
	ids := make(map[uint32]bool)
	for _, f := range frames {
		ids[f.ID] = true
	}
	if len(ids) != 180 {
		t.Errorf("%d identifiers", len(ids))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(formatAll(t, frames), raw) {
		t.Error("the frames written as candump log are not the file")
	}
}

func TestTeslaFormatsAgree(t *testing.T) {
	dump, _ := readFile(t, sharedFile(t, "can/tesla-model-s.candump.log"))
	csv, r := readFile(t, sharedFile(t, "can/tesla-model-s.gvret.csv"))
	if r.Format() != FormatGVRET || len(csv) != len(dump) {
		t.Fatalf("format %v, %d and %d frames", r.Format(), len(csv), len(dump))
	}
	for i := range dump {
		a, b := dump[i], csv[i]
		if b.Time/1e9 != a.Time/1e9 {
			t.Fatalf("frame %d: second %d in one log and %d in the other", i, a.Time/1e9, b.Time/1e9)
		}
		a.Time, a.Bus, b.Time, b.Bus = 0, "", 0, ""
		if a != b {
			t.Fatalf("frame %d: %+v and %+v", i, a, b)
		}
	}
}

// TestTeslaDecodes reads the array of the capture with the layout of the
// simulated pack, which thereby is shown to be the same.
func TestTeslaDecodes(t *testing.T) {
	layout, err := PackLayout(PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	frames, _ := readFile(t, sharedFile(t, "can/tesla-model-s.candump.log"))
	values := make(map[string]float64)
	for _, f := range frames {
		for _, m := range layout {
			if m.ID == f.ID && m.ID != PackSOCID {
				m.Decode(f.Body(), func(s *Signal, v float64) { values[s.Name] = v })
			}
		}
	}
	var cells, temperatures []float64
	for _, s := range layout[2].Signals {
		v, ok := values[s.Name]
		if !ok {
			t.Fatalf("no value of %s", s.Name)
		}
		switch s.Unit {
		case "V":
			cells = append(cells, v)
		case "degC":
			temperatures = append(temperatures, v)
		}
	}
	if len(cells) != 96 || len(temperatures) != 32 {
		t.Fatalf("%d cells, %d temperatures", len(cells), len(temperatures))
	}
	sum := 0.0
	for _, v := range cells {
		sum += v
	}
	near := func(name string, got, want, within float64) {
		t.Helper()
		if math.Abs(got-want) > within {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	near("lowest cell", slices.Min(cells), 4.0013, 0.00006)
	near("highest cell", slices.Max(cells), 4.0059, 0.00006)
	near("sum of cells", sum, 384.44, 0.006)
	near("lowest temperature", slices.Min(temperatures), 21.9, 0.06)
	near("highest temperature", slices.Max(temperatures), 23.0, 0.06)
	near("pack voltage", values["pack_voltage"], 384.1, 0.5)
	near("pack current", values["pack_current"], -4.2, 1)
}

func TestKonaCapture(t *testing.T) {
	frames, r := readFile(t, sharedFile(t, "can/kona-bms-idle.asc"))
	if len(frames) != 5934 || r.Format() != FormatASC {
		t.Fatalf("%d frames, format %v", len(frames), r.Format())
	}
	if r.Stats() != (Stats{Lines: 5938, Frames: 5934}) {
		t.Errorf("stats %+v", r.Stats())
	}
	// Signals of kona-pcan.dbc.
	signals := []struct {
		id   uint32
		s    Signal
		want float64
	}{
		{0x595, Signal{Name: "VBatt", StartBit: 48, Length: 16, Scale: 0.1}, 360.8},
		{0x595, Signal{Name: "IBatt", StartBit: 32, Length: 16, Signed: true, Scale: 0.1}, 0},
		{0x594, Signal{Name: "SoC", StartBit: 40, Length: 8, Scale: 0.5}, 48.5},
		{0x596, Signal{Name: "TAkkuL", StartBit: 48, Length: 8, Scale: 1}, 11},
		{0x596, Signal{Name: "TAkkuH", StartBit: 56, Length: 8, Scale: 1}, 11},
	}
	for _, tt := range signals {
		n := 0
		for _, f := range frames {
			if f.ID != tt.id {
				continue
			}
			n++
			// One frame in thirty shows a voltage 0.1 V higher.
			if v, ok := tt.s.Decode(f.Body()); !ok || math.Abs(v-tt.want) > 0.11 {
				t.Fatalf("%s is %v, want %v", tt.s.Name, v, tt.want)
			}
		}
		if n < 300 {
			t.Errorf("%s: %d frames", tt.s.Name, n)
		}
	}
}

func TestCaptureSummaries(t *testing.T) {
	tests := []struct {
		file    string
		frames  uint64
		streams int
		bus     string
		periods map[uint32]time.Duration // within 3 %
	}{
		// Time stamps of the first are cut to seconds, so that the frames that
		// this capture lacks lengthen the period; those of the second have a
		// grain of 10 ms. 0x102 comes each 10 ms and at times twice at once.
		{"can/tesla-model-s.candump.log", 12974, 180, "vcan0",
			map[uint32]time.Duration{0x102: 9130 * time.Microsecond, 0x6F2: 111 * time.Millisecond, 0x302: time.Second}},
		{"can/tesla-model-s.gvret.csv", 12974, 180, "can0",
			map[uint32]time.Duration{0x102: 10 * time.Millisecond, 0x6F2: 100 * time.Millisecond, 0x302: time.Second}},
		{"can/kona-bms-idle.asc", 5934, 0, "canX",
			map[uint32]time.Duration{0x594: 100 * time.Millisecond, 0x5D8: 100 * time.Millisecond, 0x3F6: time.Second}},
	}
	for _, tt := range tests {
		r, err := Open(sharedFile(t, tt.file))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s, err := Summarize(r)
		if err != nil {
			t.Fatal(err)
		}
		if s.Frames != tt.frames || tt.streams != 0 && len(s.Streams) != tt.streams || !slices.Equal(s.Buses, []string{tt.bus}) {
			t.Errorf("%s: %d frames, %d streams, buses %v", tt.file, s.Frames, len(s.Streams), s.Buses)
		}
		var count uint64
		for _, st := range s.Streams {
			count += st.Count
			want, ok := tt.periods[st.ID]
			if !ok {
				continue
			}
			delete(tt.periods, st.ID)
			if math.Abs(float64(st.Period-want)) > 0.03*float64(want) {
				t.Errorf("%s: period of %03X is %v, want %v", tt.file, st.ID, st.Period, want)
			}
		}
		if count != tt.frames || len(tt.periods) != 0 {
			t.Errorf("%s: %d frames in streams, not found: %v", tt.file, count, tt.periods)
		}
	}
}
