// SPDX-License-Identifier: Apache-2.0

// Package handshake is the one way in which a node and its gateway agree the secret of an epoch online: the profile of
// EDHOC (RFC 9528, 3.9) that protocol version 1 fixes, and the control datagrams that carry it.
//
//	node = Initiator                                    gateway = Responder
//	  | message_1   method 0, suite 24 or -24, pinned      |
//	  |--------------------------------------------------->|
//	  | message_2   kid of the gateway                      |
//	  |<---------------------------------------------------|
//	  | message_3   kid of the node, EAD_3 = Request        |
//	  |--------------------------------------------------->|  PRK, epoch and floor become durable
//	  | message_4   EAD_4 = Grant                           |
//	  |<---------------------------------------------------|
//	PRK_epoch = EDHOC_Exporter(52753, "cellward v1" || u32 epoch || binding hash, 48)
//
// Credentials are CWT Claims Sets {2: name, 8: {1: COSE_Key}} referred to by kid. Both EAD items have the label -52753:
// critical. message_4 is mandatory, because the node only sends and needs the confirmation. Private keys are used
// through crypto.Signer and an edhoc.EphemeralFactory only; [TPMEphemerals] makes one of a TPM.
//
// A message that is refused leaves the handshake as it was, so that nobody on the bus can end one by a frame: the caller
// counts it and drops it, and ends the handshake by success or after [Lifetime]. A message is made once and repeated
// from a copy.
//
// A control datagram ([Datagram]) has a MAC under the control key of the epoch under which its sender sends, or zeros.
// [SessionRule], [Session] and [Rate] hold what the receiver has to check; the network and the fragments of classic CAN
// are elsewhere. Integers are little-endian.
//
// The package may import crypto/edhoc, crypto/identity, crypto/schedule and crypto/tpm; of this module nothing outside
// crypto.
package handshake
