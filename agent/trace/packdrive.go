// SPDX-License-Identifier: Apache-2.0

package trace

// Figures of the vehicle and of its drive.
const (
	vehicleMass    = 2200.0 // kg
	rotatingMass   = 1.05   // factor for wheels and motor
	rolling        = 0.009  // coefficient of rolling resistance
	airDrag        = 0.348  // kg/m, half the density of air by drag area
	gravity        = 9.81   // m/s2
	driveGain      = 0.90   // battery to wheel
	regenGain      = 0.80   // wheel to battery
	maxDrivePower  = 220e3  // W from the battery
	maxRegenPower  = 70e3   // W into the battery
	limpPower      = 60e3   // W from the battery when it is nearly empty
	chargePower    = 100e3  // W into the battery
	limpSOC        = 0.15
	chargeFromSOC  = 0.12 // the vehicle charges at its next stop
	chargeToSOC    = 0.80
	regenOffSOC    = 0.97 // a full pack takes no regeneration
	firstStandTime = 1.0  // s, so that a short run shows the vehicle moving
)

type phase uint8

const (
	standing phase = iota
	accelerating
	cruising
	braking
	charging
)

// vehicle turns a random succession of stops, starts, cruises and braking into
// the power at the terminals of its battery.
type vehicle struct {
	noise  noise
	phase  phase
	left   float64 // s left of the phase, where time ends it
	speed  float64 // m/s
	target float64 // m/s at the end of the phase, where speed ends it
	accel  float64 // m/s2
	grade  float64 // slope of the road
	aux    float64 // W for heating, cooling and electronics
}

func newVehicle(n noise) vehicle {
	return vehicle{noise: n, left: firstStandTime, aux: n.uniform(500, 1500)}
}

// step moves the vehicle on by dt seconds and returns the power into the
// battery in W, negative while driving.
func (v *vehicle) step(dt, soc float64) float64 {
	v.left -= dt
	v.aux = clamp(v.aux+mul(15, v.noise.normal()), 400, 2500)
	switch v.phase {
	case charging:
		return v.charge(soc)
	case standing:
		v.speed, v.accel = 0, 0
		if v.left <= 0 {
			v.leaveStop(soc)
		}
	case accelerating:
		if v.speed >= v.target {
			v.cruise()
		}
	case cruising:
		v.accel = clamp(mul(0.97, v.accel)+mul(0.02, v.noise.normal()), -0.2, 0.2)
		if v.left <= 0 {
			v.leaveCruise(soc)
		}
	case braking:
		if v.speed <= v.target {
			if v.target == 0 {
				v.stop()
			} else {
				v.cruise()
			}
		}
	}
	v.grade = clamp(mul(0.999, v.grade)+mul(0.0005, v.noise.normal()), -0.04, 0.04)
	v.speed = max(0, v.speed+mul(v.accel, dt))
	return v.batteryPower(soc)
}

func (v *vehicle) stop() {
	v.phase, v.left = standing, v.noise.uniform(3, 25)
	v.speed, v.accel = 0, 0
}

func (v *vehicle) cruise() {
	v.phase, v.left = cruising, v.noise.uniform(8, 60)
	v.accel = 0
}

func (v *vehicle) leaveStop(soc float64) {
	if soc <= chargeFromSOC {
		v.phase = charging
		return
	}
	v.goTo(v.pickSpeed())
}

// leaveCruise stops every other time, and whenever the pack asks for a charger.
func (v *vehicle) leaveCruise(soc float64) {
	target := v.pickSpeed()
	if v.noise.uniform(0, 1) < 0.5 || soc <= chargeFromSOC {
		target = 0
	}
	v.goTo(target)
}

func (v *vehicle) goTo(target float64) {
	v.target = target
	if target > v.speed {
		v.phase, v.accel = accelerating, v.noise.uniform(0.8, 2.5)
	} else {
		v.phase, v.accel = braking, -v.noise.uniform(0.6, 2.2)
	}
}

// pickSpeed returns the speed of a street in town, a road or a motorway.
func (v *vehicle) pickSpeed() float64 {
	switch kind := v.noise.uniform(0, 1); {
	case kind < 0.5:
		return v.noise.uniform(8, 15)
	case kind < 0.8:
		return v.noise.uniform(18, 27)
	default:
		return v.noise.uniform(28, 36)
	}
}

// charge follows the curve of a fast charger, which falls with the SOC.
func (v *vehicle) charge(soc float64) float64 {
	if soc >= chargeToSOC {
		v.stop()
		return -v.aux
	}
	return mul(chargePower, 1-mul(0.7, clamp((soc-0.5)/0.3, 0, 1))) - v.aux
}

func (v *vehicle) batteryPower(soc float64) float64 {
	force := mul(mul(vehicleMass, rotatingMass), v.accel) + mul(airDrag, mul(v.speed, v.speed))
	if v.speed > 0 {
		force += mul(mul(vehicleMass, gravity), rolling+v.grade)
	}
	wheel := mul(force, v.speed)
	if wheel >= 0 {
		limit := maxDrivePower
		if soc < limpSOC {
			limit = limpPower
		}
		return -min(wheel/driveGain+v.aux, limit)
	}
	// The friction brakes do the rest, and all of it at walking pace.
	regen := min(mul(-wheel, regenGain), maxRegenPower)
	regen = mul(regen, clamp((v.speed-1)/2, 0, 1))
	if soc >= regenOffSOC {
		regen = 0
	}
	return regen - v.aux
}
