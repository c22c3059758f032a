// SPDX-License-Identifier: Apache-2.0

// Package edhoc is Ephemeral Diffie-Hellman Over COSE (EDHOC, RFC 9528): an authenticated key exchange in three or four
// small messages, with keys that may lie in hardware.
//
//	Initiator                                                   Responder
//	    |                METHOD, SUITES_I, G_X, C_I, EAD_1          |
//	    |---------------------------- message_1 ------------------->|
//	    |       G_Y, Enc( C_R, ID_CRED_R, Signature_or_MAC_2, EAD_2 )|
//	    |<--------------------------- message_2 --------------------|
//	    |            AEAD( ID_CRED_I, Signature_or_MAC_3, EAD_3 )    |
//	    |---------------------------- message_3 ------------------->|
//	    |                        AEAD( EAD_4 )                      |
//	    |<- - - - - - - - - - - - - - message_4 - - - - - - - - - - |
//	    |                                                           |
//	  Session <---------- PRK_out, TH_4, C_I, C_R ----------> Session
//
// Each side is a state machine: [Initiator] and [Responder]. A method named after a message makes it on the side that
// sends it and processes it on the side that receives it, and has to be called in the order of the messages:
//
//	Initiator                     Responder
//	Message1() -> m1              Message1(m1) -> Offer
//	Message2(m2) -> Peer          Message2() -> m2
//	Message3() -> m3              Message3(m3) -> Peer
//	Message4(m4) -> EAD_4         Message4() -> m4
//	Session()                     Session()
//
// The [Session] gives keys by Exporter and can be renewed by KeyUpdate. How messages travel is up to the caller;
// [IsError] tells an error message from the message that is due.
//
// # Configuration
//
// [Config] is the application profile: methods 0 to 3; cipher suites 0 to 6 and 24 of the registry, the private -24 (the
// algorithms of 24 on P-256), and suites of one's own; credentials as CWT Claims Sets by kid, and as X.509 certificates
// by x5chain or x5t; a [LookupFunc] that finds the peer's credential and decides about trust; external authorization
// data, critical or not, with padding.
//
// # Keys
//
// Private keys are used through crypto.Signer and crypto/ecdh.KeyExchanger only. Ephemeral keys come from an
// [EphemeralFactory], serve one exchange, and are closed exactly once, however it ends.
//
// # Strictness
//
// A received message is refused by an [*Error] that names a [Check] and the section of RFC 9528 behind it. CBOR must be
// deterministic. Everything is computed beside the session, which changes only when a message was accepted: with
// Config.KeepOnFailure a refused message and a forged error message leave it as it was, and the right message can still
// come. Without it any refusal ends the session, as RFC 9528, 5.1 has it. A message is made only once; [Initiator.Sent]
// and [Responder.Sent] give it again for repetition. There is no way to copy a session: two messages made from one state
// could be two plaintexts under one key and nonce (RFC 9528, 7).
//
// # Secrets
//
// Shared secrets, pseudorandom keys, message keys and plaintexts are overwritten as soon as they are no longer needed,
// on every path; Close overwrites the rest. What the standard library keeps inside (HMAC and AES states, software
// private keys) cannot be reached and is left to the garbage collector. Nothing is logged, and errors hold no secret.
//
// # Concurrency
//
// A session belongs to one goroutine. A Config and its credentials may serve many at once.
//
// The package may import github.com/fxamacker/cbor, github.com/veraison/go-cose, golang.org/x/crypto and the CCM of
// github.com/pion/dtls; of this module nothing. What of RFC 9528 is in it, and what is left out, is in docs/edhoc.md.
package edhoc
