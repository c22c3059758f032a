// SPDX-License-Identifier: Apache-2.0

// Package kind is the list of what can be reported: the kinds of security events, with everything about a kind that does not
// depend on where it happened. Names and numbers are stable: they appear in logs, documents, on the bus and in signed records.
//
// It imports nothing of this module, so that documents can name kinds.
package kind
