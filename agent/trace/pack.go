// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Shape of the simulated pack: 16 modules of 6 cells in series, each with two
// temperature sensors.
const (
	PackCells        = 96
	PackTemperatures = 32

	packModules     = 16
	cellsPerModule  = PackCells / packModules
	sensorPerModule = PackTemperatures / packModules
)

// PackCycle is the time in which the simulated BMS sends everything once: the
// whole array of cells and temperatures, current and state of charge.
const PackCycle = 100 * time.Millisecond

// packSpacing is the time between two frames of a cycle. A classic frame at
// 500 kbit/s takes a tenth of it, so the bus has room for others.
const packSpacing = 2500 * time.Microsecond

// ErrPackOptions is returned for options that make no pack.
var ErrPackOptions = errors.New("invalid pack options")

// PackOptions of a simulated pack. The zero value is an endless run with seed
// 0 on bus can0 and the array of cells and temperatures on one identifier.
type PackOptions struct {
	// Seed decides everything: pack, weather and drive. Equal options give
	// equal frames, on every architecture.
	Seed uint64
	// Bus of the frames; empty means "can0".
	Bus string
	// Duration of the run, rounded up to whole cycles; 0 has no end.
	Duration time.Duration
	// TemperatureID, unless 0, is the 11-bit identifier on which the
	// temperatures go, for a policy that has them as a data source of their
	// own: a stream belongs to one source. 0 leaves them on 0x6F2.
	TemperatureID uint32
}

// PackState is the physical truth behind the frames of one cycle, without the
// noise and the rounding of the frames. Current holds for the whole cycle.
type PackState struct {
	Time         time.Duration // start of the cycle
	Speed        float64       // of the vehicle, m/s
	Charging     bool          // at a charger
	Current      float64       // A, positive into the pack
	Voltage      float64       // V at the terminals
	SOC          float64       // charge in the cells over their capacity, 0..1
	MinSOC       float64       // of the emptiest cell, 0..1
	Cells        [PackCells]float64
	Temperatures [PackTemperatures]float64 // degC at the sensors

	Capacity float64 // As, mean of the cells
	ChargeIn float64 // As into the pack since the start of the run
	EnergyIn float64 // J into the terminals since the start of the run
	Heat     float64 // J lost in the cells since the start of the run
}

// Pack simulates a battery pack in a vehicle and the frames of its management
// system, laid out as [PackLayout] says. It is endless unless the options
// bound it: the vehicle charges when the pack runs low. It allocates nothing
// per frame and is not safe for concurrent use.
type Pack struct {
	bus     string
	end     time.Duration
	cycle   int64
	slot    int
	slots   []packSlot
	values  packValues
	state   PackState
	cells   cellModel
	vehicle vehicle
	noise   noise
}

var _ Source = (*Pack)(nil)

// NewPack returns a pack at the start of its run.
func NewPack(o PackOptions) (*Pack, error) {
	if o.Bus == "" {
		o.Bus = "can0"
	}
	if !validBus(o.Bus) {
		return nil, fmt.Errorf("make pack: %w: bus %q is not an interface name", ErrPackOptions, o.Bus)
	}
	if o.Duration < 0 {
		return nil, fmt.Errorf("make pack: %w: duration %v is negative", ErrPackOptions, o.Duration)
	}
	layout, err := PackLayout(o)
	if err != nil {
		return nil, fmt.Errorf("make pack: %w", err)
	}
	// One generator each, so that a change to one model leaves the others.
	source := func(stream uint64) noise { return noise{rand.NewPCG(o.Seed, stream)} }
	p := &Pack{
		bus:   o.Bus,
		end:   o.Duration,
		slots: packSlots(layout),
		noise: source(3),
	}
	p.cells = newCellModel(source(1))
	p.vehicle = newVehicle(source(2))
	return p, nil
}

// Next fills f with the next frame. Times start at 0; frames of one cycle are
// 2.5 ms apart. It returns io.EOF at the end of the run.
func (p *Pack) Next(f *Frame) error {
	if p.slot == 0 {
		start := time.Duration(p.cycle) * PackCycle
		if p.end != 0 && start >= p.end {
			*f = Frame{}
			return io.EOF
		}
		p.advance(start)
	}
	slot := &p.slots[p.slot]
	*f = Frame{
		Time: p.cycle*int64(PackCycle) + int64(p.slot)*int64(packSpacing),
		Bus:  p.bus,
		ID:   slot.id,
		Len:  slot.length,
	}
	slot.encode(&p.values, f.Data[:slot.length])
	if p.slot++; p.slot == len(p.slots) {
		p.slot = 0
		p.cycle++
	}
	return nil
}

// State returns the truth behind the frame that Next returned last.
func (p *Pack) State() PackState { return p.state }

// advance runs the models through one cycle. The state is that at its start,
// under the current that flows until its end, so that over any number of
// cycles the change of SOC is the sum of currents by time and capacity.
func (p *Pack) advance(start time.Duration) {
	const dt = float64(PackCycle) / float64(time.Second)
	c, v, s := &p.cells, &p.vehicle, &p.state
	if start > 0 {
		s.ChargeIn += mul(s.Current, dt)
		s.EnergyIn += mul(mul(s.Current, s.Voltage), dt)
		s.Heat += c.integrate(s.Current, dt)
	}
	s.SOC, s.MinSOC = c.soc()
	power := v.step(dt, s.SOC)
	s.Time = start
	s.Speed, s.Charging = v.speed, v.phase == charging
	s.Current, s.Voltage = c.load(power)
	s.Cells, s.Temperatures = c.volts, c.sensors
	s.Capacity = c.meanCapacity
	p.measure()
}

// measure makes of the state what the sensors of a BMS would report.
func (p *Pack) measure() {
	s, v := &p.state, &p.values
	v.voltage = s.Voltage
	v.current = s.Current
	v.currentNow = s.Current + mul(p.noise.normal(), 0.5+mul(0.01, abs(s.Current)))
	v.soc = mul(100, s.SOC)
	v.minSOC = mul(100, s.MinSOC)
	v.energy = p.cells.energy() / 3.6e6
	for i := range v.cells {
		v.cells[i] = s.Cells[i] + mul(p.noise.normal(), 0.0003)
	}
	for i := range v.temperatures {
		v.temperatures[i] = s.Temperatures[i] + mul(p.noise.normal(), 0.01)
	}
}

// noise draws random numbers by integer and basic floating-point operations
// only: the functions of package math differ in the last bit between
// architectures.
type noise struct{ src *rand.PCG }

// uniform returns a number in [lo, hi).
func (n noise) uniform(lo, hi float64) float64 {
	return lo + mul(float64(n.src.Uint64()>>11)*0x1p-53, hi-lo)
}

// normal returns a number of mean 0 and variance 1, near enough to a normal
// distribution for sensor noise: the sum of four uniform ones.
func (n noise) normal() float64 {
	sum := -2.0
	for range 4 {
		sum += n.uniform(0, 1)
	}
	return mul(sum, 1.7320508075688772)
}

// mul multiplies and rounds. The conversion keeps the compiler from fusing the
// product with an addition, which some architectures do and others do not.
func mul(a, b float64) float64 { return float64(a * b) }

func abs(a float64) float64 { return max(a, -a) }

func clamp(v, lo, hi float64) float64 { return min(max(v, lo), hi) }

// interpolate returns the value at x of a curve given by rising xs; beyond the
// ends it stays at the end values.
func interpolate(xs, ys []float64, x float64) float64 {
	if x <= xs[0] {
		return ys[0]
	}
	for i := 1; i < len(xs); i++ {
		if x < xs[i] {
			return ys[i-1] + mul(ys[i]-ys[i-1], (x-xs[i-1])/(xs[i]-xs[i-1]))
		}
	}
	return ys[len(ys)-1]
}
