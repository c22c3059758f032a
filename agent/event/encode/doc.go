// SPDX-License-Identifier: Apache-2.0

// Package encode writes event records in the forms that others read: JSON lines, RFC 5424 syslog, OCSF, CEF, the journal's
// native protocol, frames after the manner of AUTOSAR's IdsM, and text for people. docs/events.md shows one of each.
//
// It may import agent/event, agent/event/kind, agent/policy, agent/trace and loader.
package encode

import "github.com/cellward/cellward/agent/event"

// Encoding appends one record to dst, without a line end.
type Encoding func(dst []byte, r *event.Record) []byte
