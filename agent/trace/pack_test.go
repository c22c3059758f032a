// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustPack(t testing.TB, o PackOptions) *Pack {
	t.Helper()
	p, err := NewPack(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustLayout(t testing.TB, o PackOptions) []Message {
	t.Helper()
	layout, err := PackLayout(o)
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

func TestPackCadence(t *testing.T) {
	for _, o := range []PackOptions{
		{Duration: 20 * time.Second},
		{Duration: 20 * time.Second, Bus: "bms0", TemperatureID: 0x6F3},
	} {
		p := mustPack(t, o)
		s, err := Summarize(p)
		if err != nil {
			t.Fatal(err)
		}
		layout := mustLayout(t, o)
		if s.Frames != 200*34 || len(s.Streams) != len(layout) {
			t.Errorf("%d frames, %d streams", s.Frames, len(s.Streams))
		}
		for _, st := range s.Streams {
			i := slices.IndexFunc(layout, func(m Message) bool { return m.ID == st.ID })
			if i < 0 {
				t.Fatalf("identifier %03X is in no message", st.ID)
			}
			m := layout[i]
			if st.Count != uint64(200*m.Frames) || st.MaxLen != m.Length || m.Rate() != float64(10*m.Frames) {
				t.Errorf("%s: %d frames of %d bytes, rate %v", m.Name, st.Count, st.MaxLen, m.Rate())
			}
			if st.Bus != cmp.Or(o.Bus, "can0") {
				t.Errorf("bus %q", st.Bus)
			}
		}
		if s.Last >= int64(o.Duration) {
			t.Errorf("last frame at %v", time.Duration(s.Last))
		}
		var f Frame
		if err := p.Next(&f); err != io.EOF || f != (Frame{}) {
			t.Errorf("after the end: %v, %+v", err, f)
		}
	}
}

// TestPackArrayRate: every multiplexor value comes once in each 100 ms.
func TestPackArrayRate(t *testing.T) {
	p := mustPack(t, PackOptions{Duration: 5 * time.Second})
	last := make(map[byte]int64)
	var f Frame
	for p.Next(&f) == nil {
		if f.ID != PackArrayID {
			continue
		}
		if before, ok := last[f.Data[0]]; ok && f.Time-before != int64(PackCycle) {
			t.Fatalf("multiplexor %d after %v", f.Data[0], time.Duration(f.Time-before))
		}
		last[f.Data[0]] = f.Time
	}
	if len(last) != 32 {
		t.Errorf("%d multiplexor values", len(last))
	}
}

// TestPackFramesShowState: what the layout reads from the frames is the state,
// within rounding and sensor noise.
func TestPackFramesShowState(t *testing.T) {
	for _, o := range []PackOptions{
		{Seed: 4, Duration: 60 * time.Second},
		{Seed: 4, Duration: 60 * time.Second, TemperatureID: 0x123},
	} {
		p, layout := mustPack(t, o), mustLayout(t, o)
		byID := make(map[uint32]Message)
		for _, m := range layout {
			byID[m.ID] = m
		}
		var f Frame
		values := make(map[string]float64)
		for n := 1; p.Next(&f) == nil; n++ {
			m, ok := byID[f.ID]
			if !ok || int(f.Len) != m.Length || f.Validate() != nil {
				t.Fatalf("frame %+v", f)
			}
			m.Decode(f.Body(), func(s *Signal, v float64) {
				if !s.Multiplexor {
					values[s.Name] = v
				}
			})
			if n%34 != 0 {
				continue
			}
			checkState(t, p.State(), values)
			clear(values)
		}
	}
}

func checkState(t *testing.T, s PackState, values map[string]float64) {
	t.Helper()
	if len(values) != 6+PackCells+PackTemperatures {
		t.Fatalf("%d values in a cycle", len(values))
	}
	near := func(name string, want, within float64) {
		t.Helper()
		if got, ok := values[name]; !ok || math.Abs(got-want) > within {
			t.Fatalf("%v: %s is %v, state says %v", s.Time, name, got, want)
		}
	}
	sum := 0.0
	for i, v := range s.Cells {
		near(numbered("cell_voltage_", i+1), v, 0.000305/2+0.0003*2*math.Sqrt(3))
		sum += v
	}
	for i, v := range s.Temperatures {
		near(numbered("temperature_", i+1), v, 0.0122/2+0.01*2*math.Sqrt(3))
	}
	near("pack_voltage", s.Voltage, 0.00501)
	near("pack_current", s.Current, 0.0501)
	near("pack_current_now", s.Current, 0.06+(0.5+0.01*math.Abs(s.Current))*2*math.Sqrt(3))
	near("soc", 100*s.SOC, 0.00501)
	near("soc_min", 100*s.MinSOC, 0.00501)
	if math.Abs(sum-s.Voltage) > 1e-9 {
		t.Fatalf("cells sum up to %v, pack has %v", sum, s.Voltage)
	}
}

func numbered(prefix string, n int) string {
	return prefix + string([]byte{'0' + byte(n/10), '0' + byte(n%10)})
}

// TestPackIsReproducible: same seed, same frames; other seed, other frames.
func TestPackIsReproducible(t *testing.T) {
	run := func(seed uint64) string {
		frames, err := readAll(mustPack(t, PackOptions{Seed: seed, Duration: time.Minute}))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(formatAll(t, frames))
		return hex.EncodeToString(sum[:])
	}
	a, b, c := run(1), run(1), run(2)
	if a != b {
		t.Error("two runs with one seed differ")
	}
	if a == c {
		t.Error("two seeds give the same frames")
	}
	const want = "6f984bfa2f285ecac03a2e49b404fdc7bf9c93c488d5ee0472d584319b5795bd"
	if a != want {
		t.Errorf("seed 1 gives frames of SHA-256 %s, want %s", a, want)
	}
}

// TestPackStateIsReproducible: the state is the same to the last bit on every
// architecture, also where the compiler fuses multiplications and additions
// (arm64, GOAMD64=v3). Frames round most of such differences away.
func TestPackStateIsReproducible(t *testing.T) {
	p := mustPack(t, PackOptions{Seed: 1})
	sum := sha256.New()
	for cycle := range 600 {
		p.advance(time.Duration(cycle) * PackCycle)
		if err := binary.Write(sum, binary.LittleEndian, p.State()); err != nil {
			t.Fatal(err)
		}
		if err := binary.Write(sum, binary.LittleEndian, p.cells.energy()); err != nil {
			t.Fatal(err)
		}
	}
	const want = "f91666fe0b13c96973ece2de7e1da21fd4f3b54d893a1a6248b40e13be1f53be"
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("seed 1 gives states of SHA-256 %s, want %s", got, want)
	}
}

// TestPackChargeBalance: the change of SOC is the integral of the current, in
// the model exactly and in the frames within their rounding.
func TestPackChargeBalance(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := PackOptions{
			Seed:     rapid.Uint64().Draw(rt, "seed"),
			Duration: time.Duration(rapid.IntRange(1, 120).Draw(rt, "seconds")) * time.Second,
		}
		p, layout := mustPack(t, o), mustLayout(t, o)
		current, soc := layout[0].Signals[1], layout[1].Signals[0]
		var (
			f                 Frame
			first, s          PackState
			charge            float64 // As, by the states
			framed            float64 // As, by the frames
			firstSOC, lastSOC float64 // by the frames
			n                 int
		)
		for p.Next(&f) == nil {
			switch f.ID {
			case PackCurrentID:
				s = p.State()
				if n == 0 {
					first = s
				}
				if want := charge; math.Abs(s.ChargeIn-want) > 1e-6 {
					rt.Fatalf("charge %v As, sum of currents %v As", s.ChargeIn, want)
				}
				if want := first.SOC + charge/s.Capacity; math.Abs(s.SOC-want) > 1e-9 {
					rt.Fatalf("soc %v, integral of current gives %v", s.SOC, want)
				}
				charge += s.Current * 0.1
			case PackSOCID:
				lastSOC, _ = soc.Decode(f.Body())
				if n == 0 {
					firstSOC = lastSOC
				}
				// Half a bit of current per cycle and of SOC at both ends.
				bound := 100*float64(n)*0.1*0.0501/s.Capacity + 0.0101
				if want := firstSOC + 100*framed/s.Capacity; math.Abs(lastSOC-want) > bound {
					rt.Fatalf("frames: soc %v %%, integral of current gives %v %%", lastSOC, want)
				}
				n++
				continue
			}
			if f.ID == PackArrayID && f.Data[0] == 0 {
				// The current of the cycle counts for the SOC of the next one.
				framed += lastCurrent(p, current) * 0.1
			}
		}
		if n != int(o.Duration/PackCycle) {
			rt.Fatalf("%d cycles", n)
		}
	})
}

// lastCurrent is the current of this cycle as its frame shows it.
func lastCurrent(p *Pack, s Signal) float64 {
	body := make([]byte, 6)
	s.put(body, p.State().Current)
	v, _ := s.Decode(body)
	return v
}

// TestPackEnergyBalance: energy into the terminals is energy stored in the
// cells, energy in the RC pairs and heat.
func TestPackEnergyBalance(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := mustPack(t, PackOptions{Seed: rapid.Uint64().Draw(rt, "seed")})
		seconds := rapid.IntRange(1, 400).Draw(rt, "seconds")
		start := p.cells.energy()
		for cycle := range seconds*10 + 1 {
			p.advance(time.Duration(cycle) * PackCycle)
		}
		s := p.State()
		stored := p.cells.energy() - start
		rc := 0.0
		for i, v := range p.cells.vrc {
			r1 := p.cells.r1[i] * p.cells.factor[i/cellsPerModule]
			rc += v * v * cellTau / r1 / 2
		}
		if s.Heat <= 0 {
			rt.Fatalf("heat %v J", s.Heat)
		}
		// Steps of 100 ms against the exact integral: well below the heat.
		if diff := s.EnergyIn - stored - rc - s.Heat; math.Abs(diff) > 0.05*s.Heat+200 {
			rt.Fatalf("%d s: in %v J, stored %v J, rc %v J, heat %v J: %v J off", seconds, s.EnergyIn, stored, rc, s.Heat, diff)
		}
	})
}

// TestPackIsPlausible drives for an hour within the ranges of real packs and
// through all phases.
func TestPackIsPlausible(t *testing.T) {
	for seed := range uint64(3) {
		p := mustPack(t, PackOptions{Seed: seed})
		var last PackState
		stood, drove, regen, fast := 0, 0, 0, 0
		for cycle := range 3600 * 10 {
			p.advance(time.Duration(cycle) * PackCycle)
			s := p.State()
			checkPlausible(t, seed, &s)
			if s.Time > 0 && math.Abs(s.Speed-last.Speed) > 0.3 {
				t.Fatalf("seed %d, %v: from %v to %v m/s in 100 ms", seed, s.Time, last.Speed, s.Speed)
			}
			switch {
			case s.Speed == 0:
				stood++
			case s.Current > 5:
				regen++
			default:
				drove++
			}
			if s.Speed > 25 {
				fast++
			}
			last = s
		}
		const minute = 600
		if stood < 3*minute || drove < 20*minute || regen < minute || fast < 3*minute {
			t.Errorf("seed %d: stood %d, drove %d, regenerated %d, fast %d cycles", seed, stood, drove, regen, fast)
		}
	}
}

func checkPlausible(t *testing.T, seed uint64, s *PackState) {
	t.Helper()
	lowest, highest := slices.Min(s.Cells[:]), slices.Max(s.Cells[:])
	switch {
	case lowest < 2.8 || highest > 4.25:
		t.Fatalf("seed %d, %v: cells from %v to %v V", seed, s.Time, lowest, highest)
	case highest-lowest > 0.12:
		t.Fatalf("seed %d, %v: cells %v V apart", seed, s.Time, highest-lowest)
	case slices.Min(s.Temperatures[:]) < 10 || slices.Max(s.Temperatures[:]) > 55:
		t.Fatalf("seed %d, %v: temperatures %v", seed, s.Time, s.Temperatures)
	case math.Abs(s.Current) > 900:
		t.Fatalf("seed %d, %v: %v A", seed, s.Time, s.Current)
	case s.SOC < 0.03 || s.SOC > 1 || s.MinSOC > s.SOC || s.SOC-s.MinSOC > 0.03:
		t.Fatalf("seed %d, %v: soc %v, lowest %v", seed, s.Time, s.SOC, s.MinSOC)
	case s.Speed < 0 || s.Speed > 40:
		t.Fatalf("seed %d, %v: %v m/s", seed, s.Time, s.Speed)
	}
}

// TestPackRunsForever: the vehicle goes to a charger before it is empty, and
// leaves it again.
func TestPackRunsForever(t *testing.T) {
	p := mustPack(t, PackOptions{Seed: 3})
	for i := range p.cells.charge {
		p.cells.charge[i] *= 0.2
	}
	charges, lowest, highest := 0, 1.0, 0.0
	was := false
	for cycle := range 2 * 3600 * 10 {
		p.advance(time.Duration(cycle) * PackCycle)
		s := p.State()
		checkPlausible(t, 3, &s)
		if was && !s.Charging {
			charges++
			if s.SOC < chargeToSOC {
				t.Fatalf("left the charger at %v", s.SOC)
			}
		}
		was = s.Charging
		lowest, highest = min(lowest, s.SOC), max(highest, s.SOC)
	}
	if charges != 1 || lowest > chargeFromSOC || lowest < 0.09 {
		t.Errorf("%v charges, soc from %v to %v", charges, lowest, highest)
	}
}

func TestPackMovesSoon(t *testing.T) {
	for seed := range uint64(20) {
		p := mustPack(t, PackOptions{Seed: seed, Duration: 20 * time.Second})
		var f Frame
		top, temps := 0.0, make(map[float64]bool)
		for p.Next(&f) == nil {
			s := p.State()
			top = max(top, s.Speed)
			temps[s.Temperatures[0]] = true
		}
		if top < 5 || len(temps) < 100 {
			t.Errorf("seed %d: top speed %v m/s, %d temperatures", seed, top, len(temps))
		}
	}
}

func TestPackLayout(t *testing.T) {
	for _, o := range []PackOptions{{}, {TemperatureID: 0x6F3}} {
		sources := make(map[string]bool)
		names := make(map[string]bool)
		cells, temperatures, frames := 0, 0, 0
		for _, m := range mustLayout(t, o) {
			sources[m.Source] = true
			frames += m.Frames
			used := make(map[uint64]uint64) // bits taken, by multiplexor value
			muxes := make(map[uint64]bool)
			for _, s := range m.Signals {
				if names[s.Name] && !s.Multiplexor {
					t.Errorf("signal %s twice", s.Name)
				}
				names[s.Name] = true
				bits := (uint64(1)<<s.Length - 1) << s.StartBit
				if s.StartBit+s.Length > 8*m.Length || used[s.Mux]&bits != 0 || s.Scale == 0 {
					t.Errorf("signal %+v of %s", s, m.Name)
				}
				used[s.Mux] |= bits
				if s.Multiplexed {
					muxes[s.Mux] = true
				}
				switch {
				case s.Unit == "V" && s.Multiplexed:
					cells++
				case s.Unit == "degC":
					temperatures++
				}
			}
			if len(muxes) != 0 && len(muxes) != m.Frames {
				t.Errorf("%s: %d multiplexor values, %d frames", m.Name, len(muxes), m.Frames)
			}
		}
		if cells != 96 || temperatures != 32 || frames != 34 {
			t.Errorf("%d cells, %d temperatures, %d frames", cells, temperatures, frames)
		}
		if !sources["cell_voltage_array"] || !sources["pack_current"] || !sources["estimated_soc"] || sources["temperature_sensors"] != (o.TemperatureID != 0) {
			t.Errorf("sources %v", sources)
		}
	}
}

func TestPackRefusesOptions(t *testing.T) {
	for name, o := range map[string]PackOptions{
		"bus":             {Bus: "a b"},
		"duration":        {Duration: -1},
		"id of 12 bits":   {TemperatureID: 0x800},
		"id of current":   {TemperatureID: PackCurrentID},
		"id of soc":       {TemperatureID: PackSOCID},
		"id of the array": {TemperatureID: PackArrayID},
	} {
		if _, err := NewPack(o); !errors.Is(err, ErrPackOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPackDoesNotAllocate(t *testing.T) {
	p := mustPack(t, PackOptions{})
	var f Frame
	if n := testing.AllocsPerRun(1000, func() {
		if err := p.Next(&f); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOCVIntegral(t *testing.T) {
	const steps = 100000
	integral := newOCVIntegral()
	sum := 0.0
	for i := range steps {
		mid := (float64(i) + 0.5) / steps
		sum += ocv(mid) / steps
		if want := integral.to(float64(i+1) / steps); math.Abs(sum-want) > 1e-6 {
			t.Fatalf("integral to %v is %v, want %v", mid, want, sum)
		}
	}
	for i := 1; i < len(ocvCurve); i++ {
		if ocvCurve[i] <= ocvCurve[i-1] {
			t.Errorf("curve falls at %d", i)
		}
	}
}

func TestResistanceFactor(t *testing.T) {
	last := math.Inf(1)
	for c := -40.0; c <= 80; c += 0.5 {
		f := resistanceFactor(c)
		if f > last || f < 0.68 || f > 4 {
			t.Fatalf("%v at %v degC after %v", f, c, last)
		}
		last = f
	}
	if f := resistanceFactor(25); f != 1 {
		t.Errorf("%v at 25 degC", f)
	}
}

// TestFullPackTakesNoRegeneration: the friction brakes do it all.
func TestFullPackTakesNoRegeneration(t *testing.T) {
	v := vehicle{speed: 20, accel: -2, aux: 500}
	if full, empty := v.batteryPower(0.98), v.batteryPower(0.9); full != -500 || empty <= 0 {
		t.Errorf("%v W into a full pack, %v W into another", full, empty)
	}
	v.accel = 2
	if low, high := v.batteryPower(0.1), v.batteryPower(0.9); low != -limpPower || high >= low {
		t.Errorf("%v W from a nearly empty pack, %v W from another", low, high)
	}
}
