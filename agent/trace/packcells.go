// SPDX-License-Identifier: Apache-2.0

package trace

import "math"

// Figures of the cells: 96 groups in series of a 85 kWh pack, each modelled as
// one cell, an equivalent circuit of open-circuit voltage, series resistance
// and one RC pair (first-order Thevenin model).
const (
	cellCapacity  = 230 * 3600.0 // As
	cellR0        = 0.00065      // ohm at 25 degC
	cellR1        = 0.00035      // ohm, of the RC pair
	cellTau       = 30.0         // s, of the RC pair
	moduleHeatCap = 25e3         // J/K
	moduleCooling = 60.0         // W/K from a module to the coolant
	coolantHeat   = 40e3         // J/K
	radiator      = 400.0        // W/K from the coolant to the air
	sensorLag     = 8.0          // s
)

// ocvStep and ocvCurve are the open-circuit voltage of a nickel-rich cell at
// 25 degC over its state of charge in steps of 5 %.
const ocvStep = 0.05

var ocvCurve = [21]float64{
	3.000, 3.330, 3.450, 3.510, 3.555, 3.590, 3.620, 3.645, 3.670, 3.700, 3.735,
	3.780, 3.830, 3.875, 3.920, 3.965, 4.010, 4.050, 4.085, 4.125, 4.190,
}

// ocv returns the open-circuit voltage at a state of charge of 0 to 1.
func ocv(soc float64) float64 {
	x := clamp(soc, 0, 1) / ocvStep
	i := min(int(x), len(ocvCurve)-2)
	return ocvCurve[i] + mul(ocvCurve[i+1]-ocvCurve[i], x-float64(i))
}

// ocvIntegral is the integral of ocv over the state of charge from 0, in V: the
// energy in a cell over its capacity. It holds the values at the steps.
type ocvIntegral [len(ocvCurve)]float64

func newOCVIntegral() ocvIntegral {
	var sums ocvIntegral
	for k := 1; k < len(sums); k++ {
		sums[k] = sums[k-1] + mul(ocvStep/2, ocvCurve[k-1]+ocvCurve[k])
	}
	return sums
}

// to returns the integral from 0 to soc.
func (sums *ocvIntegral) to(soc float64) float64 {
	soc = clamp(soc, 0, 1)
	x := soc / ocvStep
	i := min(int(x), len(ocvCurve)-2)
	part := mul(x-float64(i), ocvStep)
	return sums[i] + mul(part/2, ocvCurve[i]+ocv(soc))
}

// resistanceFactor is how much larger the resistances are at a temperature in
// degC than at 25 degC.
func resistanceFactor(t float64) float64 {
	return interpolate(
		[]float64{-20, -10, 0, 10, 25, 45, 60},
		[]float64{4.0, 2.6, 1.8, 1.35, 1.0, 0.75, 0.68}, t)
}

// cellModel is the electrical and thermal state of the pack.
type cellModel struct {
	capacity [PackCells]float64 // As
	r0, r1   [PackCells]float64 // ohm at 25 degC
	charge   [PackCells]float64 // As
	vrc      [PackCells]float64 // V over the RC pair
	volts    [PackCells]float64 // V at the terminals under the last load

	ambient   float64
	coolant   float64
	module    [packModules]float64 // degC
	factor    [packModules]float64 // resistanceFactor of the module
	sensors   [PackTemperatures]float64
	sensorOff [PackTemperatures]float64 // calibration error, K

	meanCapacity float64 // As
	ocvIntegral  ocvIntegral
}

func newCellModel(n noise) cellModel {
	c := cellModel{ocvIntegral: newOCVIntegral()}
	start := n.uniform(0.55, 0.9)
	for i := range PackCells {
		c.capacity[i] = mul(cellCapacity, 1+mul(0.006, n.normal()))
		c.r0[i] = mul(cellR0, 1+mul(0.04, n.normal()))
		c.r1[i] = mul(cellR1, 1+mul(0.04, n.normal()))
		c.charge[i] = mul(c.capacity[i], start+mul(0.003, n.normal()))
		c.meanCapacity += c.capacity[i] / PackCells
	}
	c.ambient = n.uniform(14, 28)
	c.coolant = c.ambient + n.uniform(0, 3)
	for m := range packModules {
		c.module[m] = c.coolant + mul(0.2, n.normal())
		c.factor[m] = resistanceFactor(c.module[m])
	}
	for s := range PackTemperatures {
		c.sensorOff[s] = mul(0.15, n.normal())
		c.sensors[s] = c.module[s/sensorPerModule] + c.sensorOff[s]
	}
	return c
}

// soc returns the state of charge of the pack and of its emptiest cell.
func (c *cellModel) soc() (pack, lowest float64) {
	lowest = 1
	for i := range PackCells {
		pack += c.charge[i] / PackCells
		lowest = min(lowest, c.charge[i]/c.capacity[i])
	}
	return pack / c.meanCapacity, lowest
}

// energy returns the energy in the cells in J.
func (c *cellModel) energy() float64 {
	sum := 0.0
	for i := range PackCells {
		sum += mul(c.capacity[i], c.ocvIntegral.to(c.charge[i]/c.capacity[i]))
	}
	return sum
}

// load puts a power in W on the terminals, positive into the pack, sets the
// cell voltages and returns current in A and voltage in V. Current I and
// voltage U + R*I of the pack solve I*(U + R*I) = power; if the pack cannot
// give the power, it gives all it can.
func (c *cellModel) load(power float64) (current, voltage float64) {
	var u, r float64
	for i := range PackCells {
		c.volts[i] = ocv(c.charge[i]/c.capacity[i]) + c.vrc[i]
		u += c.volts[i]
		r += mul(c.r0[i], c.factor[i/cellsPerModule])
	}
	root := math.Sqrt(max(0, mul(u, u)+mul(mul(4, r), power)))
	current = (root - u) / mul(2, r)
	for i := range PackCells {
		c.volts[i] += mul(current, mul(c.r0[i], c.factor[i/cellsPerModule]))
		voltage += c.volts[i]
	}
	return current, voltage
}

// integrate moves the state on by dt seconds under a constant current and
// returns the heat set free, in J.
func (c *cellModel) integrate(current, dt float64) (heat float64) {
	// Implicit steps for the lags: stable for any dt and free of exp, whose
	// last bit differs between architectures.
	const rcTau, lagTau = cellTau, sensorLag
	rcGain, lagGain := dt/(rcTau+dt), dt/(lagTau+dt)
	toCoolant := 0.0
	for m := range packModules {
		watts := 0.0
		for i := m * cellsPerModule; i < (m+1)*cellsPerModule; i++ {
			r0, r1 := mul(c.r0[i], c.factor[m]), mul(c.r1[i], c.factor[m])
			watts += mul(mul(current, current), r0) + mul(c.vrc[i], c.vrc[i])/r1
			c.charge[i] += mul(current, dt)
			c.vrc[i] += mul(mul(current, r1)-c.vrc[i], rcGain)
		}
		heat += mul(watts, dt)
		cooling := mul(moduleCooling, c.module[m]-c.coolant)
		toCoolant += cooling
		c.module[m] += mul(watts-cooling, dt) / moduleHeatCap
		c.factor[m] = resistanceFactor(c.module[m])
	}
	c.coolant += mul(toCoolant-mul(radiator, c.coolant-c.ambient), dt) / coolantHeat
	for s := range PackTemperatures {
		// The first sensor of a module sits where the coolant enters.
		module := c.module[s/sensorPerModule]
		at := module + c.sensorOff[s]
		if s%sensorPerModule == 0 {
			at -= mul(0.2, module-c.coolant)
		}
		c.sensors[s] += mul(at-c.sensors[s], lagGain)
	}
	return heat
}
