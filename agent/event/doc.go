// SPDX-License-Identifier: Apache-2.0

// Package event collects security events: what was refused, what is missing, what changed. The data path notes facts into a
// [Table] without allocating, locking or waiting; a [Collector] turns what was noted into records, at a bounded rate and
// with exact counts, and hands them to the event log and to destinations.
//
// Nothing is dropped without being counted, and no flood hides another event: every kind has a cell of its own for every
// subject (stream, bus, node, source, gateway), and cells take turns.
//
// The package may import loader (verdicts, frames), agent/policy, agent/trace and agent/event/kind.
package event
