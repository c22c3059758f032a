// SPDX-License-Identifier: Apache-2.0

// Package edge is the sensor edge: it seals what a node sends. It turns frames of a trace.Source into sealed PDUs on
// CAN FD, announces its start, sends heartbeats, and keeps the node's secret and counters in a sealed state.
//
// A counter is used only after the ceiling above it is durable, and every run of the node has keys of its own, made from
// fresh random bytes. So no (key, nonce) repeats, whatever happens to the storage: a crash skips the rest of a block, and a
// restored, cloned or twice started state gives other keys, which the gateway refuses.
//
// It may import agent/policy, agent/trace, agent/vault, crypto/... and loader.
package edge
