// SPDX-License-Identifier: Apache-2.0

// Package fault decides when evidence becomes the BMS Security Fault. A [Machine] takes facts about events, sums them up per data
// source and cause, and says which faults are raised, widened, latched and cleared, with the evidence for each. It knows
// no clock, no files and no data path: facts and times come in, transitions go out, and its state can be stored.
//
// A fault flags samples. It never holds back what has verified, and nothing here lets through what has not.
//
// The package may import agent/event, agent/event/kind, agent/policy and agent/ring, whose words for the states it uses.
package fault
