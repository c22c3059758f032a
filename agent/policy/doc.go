// SPDX-License-Identifier: Apache-2.0

// Package policy reads, checks, resolves and writes the documents that configure cellward: a SensorDataSecurityPolicy
// says how sensor data must be protected, a SensorDataBinding says on which interfaces, identifiers and nodes of one
// installation it travels.
//
// Both kinds are YAML with apiVersion security.bms/v1alpha1. Reading is strict: a field is enforced or the document is
// refused; unknown fields, duplicate keys, anchors, aliases, explicit tags and values of another type are errors; a
// required field has no default. Every error names file, line and column and shows the line, and all errors of a
// document are reported at once, in the order of their places ([Errors]). Nothing is half-accepted: a function that
// returns an error returns no document.
//
//	LoadPolicy, LoadBinding, Parse   one document
//	Load, Bind                       both, checked against each other and resolved: a Set
//	Binding.BindingHash              what a node and its gateway agree on before they agree on a key
//	Marshal                          a document back as YAML
//	Schema, BundledSchema            JSON Schema of the kinds
//
// docs/documents.md describes every field. The package has no state; its functions may be called concurrently, and the
// values they return are not changed by it again.
//
// It may import crypto/identity, which says what a public key and its kid are, and agent/event/kind, which says what events
// there are, and nothing else of this project.
package policy
