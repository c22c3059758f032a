// SPDX-License-Identifier: Apache-2.0

// Package takeover is the conversation in which a running agent hands everything over to its successor: a few messages with a length
// in front, in deterministic CBOR (RFC 8949, 4.2.1), over a Unix stream socket, with descriptors beside them (SCM_RIGHTS, unix(7)). It
// knows what the messages look like and when a message has arrived for good; what they mean is package agent's.
//
// It may import agent/station, agent/vault, crypto/identity, golang.org/x/sys and fxamacker/cbor.
package takeover
