// SPDX-License-Identifier: Apache-2.0

// Package chain keeps the event log: an append-only file of lines, each of which carries the hash of the one before it, whose head
// is signed at intervals with the gateway's identity. Verify finds what was altered, removed, put elsewhere or cut off, and says
// where. docs/events.md describes the format, and what it proves and does not.
//
// It may import agent/event and the packages under it, and crypto/identity.
package chain
