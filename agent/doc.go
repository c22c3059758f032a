// SPDX-License-Identifier: Apache-2.0

// Package agent is the gateway's pipeline: it takes candidates off the filter's rings in batches, opens them under the keys
// of their node's run, commits their counters to the replay windows, and publishes the samples in the shared-memory ring.
//
// A frame goes through it once: look up, open, commit, publish. Nothing an unauthenticated frame says moves any state that
// decides about a later one; the counters of refusals are all that it can change.
//
// The package may import loader, crypto/..., replay and its own sub-packages.
package agent
