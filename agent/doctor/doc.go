// SPDX-License-Identifier: Apache-2.0

// Package doctor finds what is wrong with a gateway: it probes the kernel, the interfaces, the documents, the state folder,
// the pins, the sockets, the TPM, memory and clock, and says for each fault why it matters and which one command helps.
//
// It changes nothing: it writes no file, makes nothing in the TPM, attaches and pins nothing. What has to be tried out is
// tried in network namespaces and maps of its own, which end with the probe. All that it knows comes through a [Machine],
// so that tests can put a fault in any place.
//
// It may import agent, agent/policy, agent/privilege, agent/vault, crypto/tpm and loader.
package doctor
